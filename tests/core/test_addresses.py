"""Which addresses may be connected to: the vectors of known bypasses, and laws."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.addresses import check_networks, forbidden, literal_address

# fmt: off
FORBIDDEN = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.1.2.3",
    "127.255.255.254", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1",
    "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:7f00:1", "::ffff:0.0.0.0",
    "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:1::1",
    "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:0808:0808::1", "fc00::1",
    "fd00:ec2::254", "fdff::1", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "feff::1", "ff00::1", "ff02::1",
    "ffff::1",
]
# fmt: on
# fmt: off
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0",
    "192.88.98.255", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    "::ffff:8.8.8.8", "2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700::1111", "2a00::1",
]
# fmt: on


@pytest.mark.parametrize("address", FORBIDDEN)
def test_what_is_not_public_is_forbidden(address: str) -> None:
    why = forbidden(address, ())
    assert why
    assert "into the networks of the provider" in why


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_not(address: str) -> None:
    assert forbidden(address, ()) == ""


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("10.1.2.3", "private"),
        ("172.20.0.1", "private"),
        ("192.168.1.1", "private"),
        ("fd00::1", "private"),
    ],
)
def test_a_word_allows_what_it_means_and_the_refusal_names_it(address: str, word: str) -> None:
    assert f"put {word} into" in forbidden(address, ())
    assert forbidden(address, (word,)) == ""
    assert forbidden(address, ({"loopback": "private", "private": "loopback"}[word],))


@pytest.mark.parametrize("address", ["169.254.169.254", "100.64.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1"])
def test_no_word_allows_metadata_carriers_or_disguises(address: str) -> None:
    why = forbidden(address, ("loopback", "private"))
    cidr = why.partition("put ")[2].partition(" ")[0]
    assert forbidden(address, (cidr,)) == "", "the refusal says exactly what would allow it"


def test_a_network_allows_what_is_in_it_only() -> None:
    assert forbidden("10.1.2.3", ("10.1.0.0/16",)) == ""
    assert forbidden("10.2.0.1", ("10.1.0.0/16",)) != ""
    assert forbidden("10.1.2.3", ("fd00::/8",)) != ""


@pytest.mark.parametrize("entry", ["localhost", "any", "", "10.0.0.1/8", "10.0.0.0/33", "metadata", "::1/129"])
def test_an_unknown_network_is_said(entry: str) -> None:
    with pytest.raises(ValueError, match="neither loopback, private nor a network"):
        check_networks(("loopback", entry))
    with pytest.raises(ValueError, match="networks"):
        forbidden("127.0.0.1", (entry,))


def test_known_networks_pass() -> None:
    check_networks(("loopback", "private", "10.1.0.0/16", "fd00::/8", "169.254.169.254/32", "2001:db8::1"))


@pytest.mark.parametrize("name", ["localhost", "0x7f000001", "2130706433", "0177.0.0.1", "0", "127.1", "", "a.b"])
def test_a_name_is_no_address(name: str) -> None:
    """Some of these the system's resolver turns into one; it is checked then."""
    assert literal_address(name) == ""
    with pytest.raises(ValueError, match="does not appear"):
        forbidden(name, ())


def test_a_literal_address() -> None:
    assert literal_address("[::1]") == "::1"
    assert literal_address("127.0.0.1") == "127.0.0.1"


@given(st.ip_addresses(v=4))
def test_the_mapped_form_is_no_way_around(ip: ipaddress.IPv4Address) -> None:
    assert forbidden(f"::ffff:{ip}", ()) == forbidden(str(ip), ())
    assert forbidden(f"::{ip}", ())
    assert forbidden(str(ipaddress.IPv6Address((0x64FF9B << 96) | int(ip))), ())


@given(st.ip_addresses())
def test_only_what_the_world_can_route_is_public(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """The library's own opinion is not the table, but it must not be stricter anywhere."""
    if not ip.is_global:
        mapped = getattr(ip, "ipv4_mapped", None)
        assert forbidden(str(ip), ()) or (mapped is not None and mapped.is_global)


@given(st.ip_addresses())
def test_naming_an_address_allows_it(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    inner = getattr(ip, "ipv4_mapped", None) or ip
    assert forbidden(str(ip), (str(inner),)) == ""
