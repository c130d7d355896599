"""Which IP addresses a provider may be reached at. Everything that is not public is forbidden unless it is named.

The table is explicit: what a library calls "private" changes from release to release, and leaves out carriers' shared
space, NAT64 and 6to4, through which an inner address is reached under another name.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TABLE: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(cidr), kind)
    for cidr, kind in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "a carrier's shared space"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/3", "multicast or reserved"),
        ("::/128", "this host"),
        ("::1/128", "loopback"),
        ("::/96", "an IPv4 address in an old disguise"),
        ("64:ff9b::/96", "an IPv4 address behind NAT64"),
        ("64:ff9b:1::/48", "an IPv4 address behind NAT64"),
        ("100::/64", "discarded"),
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "an IPv4 address behind 6to4"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)

_WORDS: dict[str, tuple[str, ...]] = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
}


def forbidden(address: str, networks: tuple[str, ...]) -> str:
    """Empty when `address` may be connected to: it is public, or within `networks`. Else why not, and what to allow.

    `networks` are words (`loopback`, `private`) and CIDRs. Raises ValueError when `address` is no IP address (a name
    has to be resolved first) or `networks` cannot be used.
    """
    ip = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
    allowed = _allowed(networks)
    for network, kind in _TABLE:
        if ip.version == network.version and ip in network:
            if any(ip.version == one.version and ip in one for one in allowed):
                return ""
            return f"{ip} is {kind}; if that is meant, put {_naming(ip)} into the networks of the provider"
    return ""


def check_networks(networks: tuple[str, ...]) -> None:
    """Raises ValueError saying what is wrong with the first entry that is neither a known word nor a CIDR."""
    _allowed(networks)


def literal_address(host: str) -> str:
    """The IP address that a URL's host is, without brackets; empty when it is a name that has to be resolved."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return ""


def _unwrapped(ip: Address) -> Address:
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def _naming(ip: Address) -> str:
    for word, cidrs in _WORDS.items():
        if any(ip in network for network in map(ipaddress.ip_network, cidrs) if network.version == ip.version):
            return word
    return f"{ip}/{ip.max_prefixlen}"


@lru_cache(maxsize=256)
def _allowed(networks: tuple[str, ...]) -> tuple[Network, ...]:
    found: list[Network] = []
    for entry in networks:
        for cidr in _WORDS.get(entry, (entry,)):
            try:
                found.append(ipaddress.ip_network(cidr))
            except ValueError as error:
                words = ", ".join(_WORDS)
                raise ValueError(
                    f"networks: {entry!r} is neither {words} nor a network such as 10.1.0.0/16 ({error})."
                ) from error
    return tuple(found)
