"""Through a proxy: a tunnel for https, the request itself for http; what the proxy refuses was not sent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.core.errors import UpstreamNotStarted
from gateway.core.upstream import Upstream
from gateway.upstream.httptools_client import HttptoolsUpstream
from upstream.certificates import Authority
from upstream.proxies import proxying
from upstream.servers import HANG_S, Seen, Wire, free_port, ok, replying, serving

LIMIT = 1024
SECRET = b"YWRhOnNrLXNlY3JldA=="  # ada:sk-secret


async def refused(client: Upstream, seen: Seen, **more: object) -> str:
    with pytest.raises(UpstreamNotStarted) as caught:
        await client.send(seen.ask(**more))
    assert "sk-secret" not in caught.value.message
    assert seen.requests == []
    return caught.value.message


async def test_https_goes_through_a_tunnel(upstream: Upstream, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        serving(replying(ok(b"{}")), tls=authority.server("provider.invalid")) as seen,
        serving(proxying(seen.port, wants=b"Basic " + SECRET)) as proxy,
    ):
        for _ in range(2):
            asked = seen.ask(
                url="https://provider.invalid/v1/x",
                proxy=f"http://ada:sk-secret@127.0.0.1:{proxy.port}",
                ca_bundle=authority.ca_bundle,
            )
            assert await (await upstream.send(asked)).read(LIMIT) == b"{}"
    assert len(proxy.requests) == 1
    assert proxy.requests[0].startswith(b"CONNECT provider.invalid:443 HTTP/1.1\r\n")
    assert b"sk-secret" not in proxy.requests[0], "the provider's credential is not the proxy's to see"
    assert all(b"proxy-authorization" not in request.lower() for request in seen.requests)
    assert seen.requests[0].startswith(b"POST /v1/x HTTP/1.1\r\n")
    assert b"host: provider.invalid\r\n" in seen.requests[0].lower()


async def test_the_tunnels_end_is_verified(upstream: Upstream, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        serving(replying(ok(b"{}")), tls=authority.server("elsewhere.invalid")) as seen,
        serving(proxying(seen.port)) as proxy,
    ):
        message = await refused(
            upstream,
            seen,
            url="https://provider.invalid/",
            proxy=f"http://127.0.0.1:{proxy.port}",
            ca_bundle=authority.ca_bundle,
        )
    assert "TLS certificate refused" in message


async def test_http_is_the_proxys_to_pass_on(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}"))) as seen, serving(proxying(seen.port, wants=b"Basic " + SECRET)) as proxy:
        asked = seen.ask(
            url="http://provider.invalid/v1/x", proxy=f"http://ada:sk-secret@127.0.0.1:{proxy.port}", networks=()
        )
        assert await (await upstream.send(asked)).read(LIMIT) == b"{}"
    assert proxy.requests[0].startswith(b"POST http://provider.invalid/v1/x HTTP/1.1\r\n")


ANSWERS = {
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
    "403": b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
    "502": b"HTTP/1.0 502 Bad Gateway\r\n\r\nno such host",
    "nothing": b"",
    "garbage": b"garbage\r\n\r\n",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_a_proxy_that_refuses(upstream: Upstream, answer: bytes) -> None:
    async with serving(replying(answer, then_close=True)) as proxy, serving(replying(ok(b"{}"))) as seen:
        message = await refused(
            upstream, seen, url="https://provider.invalid/", proxy=f"http://ada:sk-secret@127.0.0.1:{proxy.port}"
        )
    assert "the proxy of test does not let us through" in message
    assert proxy.requests[0].startswith(b"CONNECT provider.invalid:443")


async def test_a_proxy_that_is_not_there(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        for scheme in ("http", "https"):
            message = await refused(
                upstream, seen, url=f"{scheme}://provider.invalid/", proxy=f"http://127.0.0.1:{free_port()}"
            )
            assert "the proxy of test does not let us through" in message


async def test_a_proxy_that_says_nothing_is_a_connect_time_out(upstream: Upstream, tmp_path: Path) -> None:
    async def silent(wire: Wire) -> None:
        await wire.until_closed()

    async with serving(silent) as proxy, serving(replying(ok(b"{}"))) as seen:
        message = await refused(
            upstream,
            seen,
            url="https://provider.invalid/",
            proxy=f"http://127.0.0.1:{proxy.port}",
            connect_timeout_s=0.5,
            ca_bundle=Authority(tmp_path).ca_bundle,
        )
        assert "connect time-out" in message
        await asyncio.wait_for(proxy.closed.wait(), HANG_S)


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "http://169.254.169.254/latest", "https://[::1]/"])
async def test_an_inner_address_is_not_reached_through_a_proxy(upstream: Upstream, url: str) -> None:
    async with serving(replying(ok(b"{}"))) as proxy:
        with pytest.raises(UpstreamNotStarted, match="networks of the provider"):
            await upstream.send(proxy.ask(url=url, proxy=f"http://127.0.0.1:{proxy.port}", networks=()))
    assert proxy.connections == 0


@pytest.mark.parametrize("proxy_url", ["https://127.0.0.1:1/", "socks5://127.0.0.1:1", "127.0.0.1:3128", "http://"])
async def test_a_proxy_that_is_none(upstream: Upstream, proxy_url: str) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        assert "its proxy cannot be used" in await refused(upstream, seen, proxy=proxy_url)


async def test_a_tunnel_that_is_given_up_is_closed(upstream: Upstream) -> None:
    reached = asyncio.Event()

    async def silent(wire: Wire) -> None:
        await wire.request()
        reached.set()
        await wire.until_closed()

    async with serving(silent) as proxy:
        asked = proxy.ask(url="https://provider.invalid/", proxy=f"http://127.0.0.1:{proxy.port}")
        sending = asyncio.ensure_future(upstream.send(asked))
        await asyncio.wait_for(reached.wait(), HANG_S)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.wait_for(proxy.closed.wait(), HANG_S)


@pytest.mark.parametrize("more", [b"x", b"\x16\x03\x01", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_what_a_proxy_says_behind_its_answer_is_not_the_providers(more: bytes) -> None:
    client = HttptoolsUpstream()
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + more
    async with serving(replying(answer)) as proxy, serving(replying(ok(b"{}"))) as seen:
        url, through = "https://provider.invalid/", f"http://127.0.0.1:{proxy.port}"
        assert "does not let us through" in await refused(client, seen, url=url, proxy=through)
    await client.close()
