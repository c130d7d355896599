"""TLS as every client does it: verified, with the host's name, whatever address it is reached at."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from gateway.core.errors import AttemptFailed, UpstreamNotStarted
from gateway.core.upstream import Upstream
from gateway.upstream.httptools_client import HttptoolsUpstream
from gateway.upstream.tls import CONTEXTS_MAX, TlsContexts
from upstream.certificates import Authority
from upstream.servers import HANG_S, Behaviour, Wire, chunked, ok, replying, serving

LIMIT = 1024 * 1024


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def refused(client: Upstream, seen: object, **more: object) -> str:
    with pytest.raises(UpstreamNotStarted) as caught:
        await client.send(seen.ask(**more))  # type: ignore[attr-defined]
    assert seen.requests == []  # type: ignore[attr-defined]
    return caught.value.message


async def test_tls_is_verified_and_a_ca_bundle_is_trusted(upstream: Upstream, authority: Authority) -> None:
    async with serving(replying(ok(b"{}")), tls=authority.server("localhost")) as seen:
        url = f"https://localhost:{seen.port}/"
        assert "TLS certificate refused" in await refused(upstream, seen, url=url)
        other_name = f"https://127.0.0.1:{seen.port}/"
        assert "TLS certificate refused" in await refused(upstream, seen, url=other_name, ca_bundle=authority.ca_bundle)
        for _ in range(2):
            reply = await upstream.send(seen.ask(url=url, ca_bundle=authority.ca_bundle))
            assert await reply.read(LIMIT) == b"{}"
        assert seen.connections == 1, "handshakes that failed do not count; one connection serves both"


async def test_an_address_may_be_in_the_certificate(upstream: Upstream, authority: Authority) -> None:
    async with serving(replying(ok(b"{}")), tls=authority.server("127.0.0.1")) as seen:
        url = f"https://127.0.0.1:{seen.port}/"
        assert await (await upstream.send(seen.ask(url=url, ca_bundle=authority.ca_bundle))).read(LIMIT) == b"{}"


async def test_an_expired_certificate_is_refused(upstream: Upstream, authority: Authority) -> None:
    async with serving(replying(ok(b"{}")), tls=authority.server("localhost", days=-1)) as seen:
        url = f"https://localhost:{seen.port}/"
        message = await refused(upstream, seen, url=url, ca_bundle=authority.ca_bundle)
    assert "certificate has expired" in message


async def test_an_old_tls_is_refused(upstream: Upstream, authority: Authority) -> None:
    context = authority.server("localhost")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.options &= ~(ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1)
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(replying(ok(b"{}")), tls=context) as seen:
        url = f"https://localhost:{seen.port}/"
        assert "TLS failed" in await refused(upstream, seen, url=url, ca_bundle=authority.ca_bundle)


async def test_the_server_is_told_the_name_and_offered_http_1_only(upstream: Upstream, authority: Authority) -> None:
    names: list[str | None] = []
    context = authority.server("localhost")
    context.sni_callback = lambda _, name, __: names.append(name)
    protocols: list[str | None] = []

    async def asking(wire: Wire) -> None:
        protocols.append(wire.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await replying(ok(b"{}"))(wire)

    async with serving(asking, tls=context) as seen:
        url = f"https://localhost:{seen.port}/"
        await (await upstream.send(seen.ask(url=url, ca_bundle=authority.ca_bundle))).read(LIMIT)
    assert names == ["localhost"]
    assert protocols == ["http/1.1"]


async def test_a_client_certificate_is_shown(upstream: Upstream, authority: Authority, tmp_path: Path) -> None:
    context = authority.server("localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.ca_bundle)
    shown: list[object] = []

    async def looking(wire: Wire) -> None:
        shown.append(wire.writer.get_extra_info("peercert")["subject"])
        await replying(ok(b"{}"))(wire)

    async with serving(looking, tls=context) as seen:
        url = f"https://localhost:{seen.port}/"
        asked = seen.ask(url=url, ca_bundle=authority.ca_bundle, client_certificate=authority.issue("faregate"))
        assert await (await upstream.send(asked)).read(LIMIT) == b"{}"
        assert shown == [((("commonName", "faregate"),),)]
        with pytest.raises(AttemptFailed):
            await upstream.send(seen.ask(url=url, ca_bundle=authority.ca_bundle))
        assert len(shown) == 1
        missing = await refused_file(upstream, seen.ask(url=url, client_certificate=str(tmp_path / "none.pem")))
        assert "client_certificate" in missing
        broken = tmp_path / "broken.pem"
        broken.write_text("-----BEGIN CERTIFICATE-----\n")
        assert "client_certificate" in await refused_file(upstream, seen.ask(url=url, client_certificate=str(broken)))


async def refused_file(client: Upstream, asked: object) -> str:
    with pytest.raises(UpstreamNotStarted) as caught:
        await client.send(asked)  # type: ignore[arg-type]
    return caught.value.message


async def talking(wire: Wire) -> None:
    await wire.request()
    await wire.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst")
    await wire.until_closed()


async def test_abort_over_tls_closes_at_once(upstream: Upstream, authority: Authority) -> None:
    async with serving(talking, tls=authority.server("localhost")) as seen:
        url = f"https://localhost:{seen.port}/"
        reply = await upstream.send(seen.ask(url=url, ca_bundle=authority.ca_bundle))
        assert await anext(reply.chunks()) == b"first"
        reply.abort()
        await asyncio.wait_for(seen.closed.wait(), 0.25)


async def test_a_handshake_that_does_not_end_is_a_connect_time_out(upstream: Upstream, authority: Authority) -> None:
    async def silent(wire: Wire) -> None:
        await wire.until_closed()

    async with serving(silent) as seen:
        url = f"https://127.0.0.1:{seen.port}/"
        more = {"url": url, "ca_bundle": authority.ca_bundle, "connect_timeout_s": 0.5}
        assert "connect time-out" in await refused(upstream, seen, **more)
        await asyncio.wait_for(seen.closed.wait(), HANG_S)


async def test_a_handshake_that_is_cut_is_not_a_request(upstream: Upstream) -> None:
    async def cutting(wire: Wire) -> None:
        await wire.reader.read(10)

    async with serving(cutting) as seen:
        await refused(upstream, seen, url=f"https://127.0.0.1:{seen.port}/")


BODIES: dict[str, tuple[Behaviour, bytes]] = {
    "length": (replying(ok(b"a" * 300_000)), b"a" * 300_000),
    "chunked": (replying(chunked(b"data: 1\n\n", b"b" * 200_000)), b"data: 1\n\n" + b"b" * 200_000),
    "to the end": (replying(b"HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n", then_close=True), b"data: 1\n\n"),
}


@pytest.mark.parametrize(("behaviour", "body"), BODIES.values(), ids=BODIES.keys())
async def test_bodies_over_tls(upstream: Upstream, authority: Authority, behaviour: Behaviour, body: bytes) -> None:
    async def closing(wire: Wire) -> None:
        await behaviour(wire)
        wire.writer.close()  # with TLS's own goodbye: without it an end could be anybody's
        await wire.writer.wait_closed()

    async with serving(closing, tls=authority.server("localhost")) as seen:
        url = f"https://localhost:{seen.port}/"
        sent = b"x" * 3_000_000
        reply = await upstream.send(seen.ask(url=url, ca_bundle=authority.ca_bundle, body=sent))
        assert b"".join([piece async for piece in reply.chunks()]) == body
        assert seen.requests[0].endswith(b"\r\n\r\n" + sent)


async def test_a_renewed_file_is_read_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(Path(other.ca_bundle).read_bytes())
    client = HttptoolsUpstream()
    async with serving(replying(ok(b"{}")), tls=authority.server("localhost")) as seen:
        asked = seen.ask(url=f"https://localhost:{seen.port}/", ca_bundle=str(trusted))
        with pytest.raises(UpstreamNotStarted, match="TLS certificate refused"):
            await client.send(asked)
        trusted.write_bytes(Path(authority.ca_bundle).read_bytes())
        assert await (await client.send(asked)).read(LIMIT) == b"{}"
    await client.close()


async def test_a_context_is_made_once(authority: Authority) -> None:
    contexts = TlsContexts()
    made = await asyncio.gather(*[contexts.context(authority.ca_bundle, "") for _ in range(3)])
    assert await contexts.context(authority.ca_bundle, "") in made
    for _ in range(CONTEXTS_MAX + 5):
        await contexts.context(authority.ca_bundle, authority.issue("faregate"))
    assert len(contexts._made) <= CONTEXTS_MAX
