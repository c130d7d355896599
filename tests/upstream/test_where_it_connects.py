"""S19, S20: to checked addresses only, whatever a URL says and DNS answers: when it is used, not when it was set up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.core.errors import UpstreamNotStarted
from gateway.core.upstream import Endpoint, Upstream, UpstreamRequest
from gateway.upstream.discover import discover
from gateway.upstream.httptools_client import HttptoolsUpstream
from gateway.upstream.member import UpstreamMember
from gateway.upstream.resolving import DNS_NAMES_MAX, Resolving
from upstream.servers import HANG_S, Seen, ok, replying, serving

LIMIT = 1024
MEMBERS = discover()


class Names:
    """A resolver of a test: each name has a row of answers, the last of which stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.answers = {name.replace("_", "."): list(row) for name, row in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        await asyncio.sleep(0)
        row = self.answers.get(host)
        if row is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return row.pop(0) if len(row) > 1 else row[0]


@pytest.fixture(params=MEMBERS.values(), ids=MEMBERS.keys())
def member(request: pytest.FixtureRequest) -> UpstreamMember:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
async def sink() -> AsyncIterator[Seen]:
    """A server on loopback that must not be reached."""
    async with serving(replying(ok(b"{}"))) as seen:
        yield seen


async def refusal(client: Upstream, seen: Seen, **more: object) -> str:
    with pytest.raises(UpstreamNotStarted) as caught:
        await client.send(seen.ask(**{"networks": (), **more}))
    assert "sk-secret" not in caught.value.message
    return caught.value.message


HOSTS = [
    "127.0.0.1",
    "0",
    "0.0.0.0",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "127.1",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "169.254.169.254",
    "[fe80::a9fe:a9fe]",
    "100.64.0.1",
    "10.0.0.1",
    "localhost",
    "localhost.",
    "LOCALHOST",
]
ODD = ("0", "127.1", "2130706433", "0177.0.0.1", "localhost.")
"""What a library or a resolver may not take for a name at all; then that is why it is refused."""


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_inner_address_is_refused_however_it_is_written(
    upstream: Upstream, sink: Seen, host: str, scheme: str
) -> None:
    message = await refusal(upstream, sink, url=f"{scheme}://{host}:{sink.port}/v1", connect_timeout_s=HANG_S)
    assert "into the networks of the provider" in message or (host in ODD and "cannot be" in message)
    assert sink.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "ftp://127.0.0.1/",
        "http://user:sk-secret@127.0.0.1:PORT/",
        "http://user@127.0.0.1:PORT/",
        "http://:sk-secret@127.0.0.1:PORT/",
        "//127.0.0.1:PORT/",
        "http:127.0.0.1:PORT",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:port/",
        "http://127.0.0.1 /",
        "http://127.0.0.1:PORT/a b",
        "http://127.0.0.1:PORT/\r\nx: y",
        "http://exa\u2100mple.com/",
    ],
)
async def test_a_url_that_is_not_plain_is_refused(upstream: Upstream, sink: Seen, url: str) -> None:
    await refusal(upstream, sink, url=url.replace("PORT", str(sink.port)), networks=("loopback",))
    assert sink.connections == 0


@pytest.mark.parametrize("networks", [("loopback",), ("127.0.0.1/32",), ("private", "127.0.0.0/8")])
async def test_what_the_operator_names_is_allowed(upstream: Upstream, sink: Seen, networks: tuple[str, ...]) -> None:
    assert await (await upstream.send(sink.ask(networks=networks))).read(LIMIT) == b"{}"
    assert sink.connections == 1
    await refusal(upstream, sink, networks=("private",))
    assert sink.connections == 1, "an open connection is not used by those who could not have opened it"


async def test_networks_that_cannot_be_used_are_said(upstream: Upstream, sink: Seen) -> None:
    assert "'lan' is neither" in await refusal(upstream, sink, networks=("lan",))


async def test_a_name_leads_where_it_leads_when_it_is_used(member: UpstreamMember, sink: Seen) -> None:
    """DNS rebinding: public when it was configured, or a moment ago; inner now."""
    names = Names(evil_test=[["127.0.0.1"]])
    client = member.create(names)
    message = await refusal(client, sink, url=f"http://evil.test:{sink.port}/")
    assert "127.0.0.1 is loopback" in message
    assert (names.asked, sink.connections) == (["evil.test"], 0)
    await client.close()


@pytest.mark.parametrize("answer", [["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["2606:4700::1", "::1"]])
async def test_one_forbidden_address_refuses_the_answer(member: UpstreamMember, sink: Seen, answer: list[str]) -> None:
    client = member.create(Names(mixed_test=[answer]))
    await refusal(client, sink, url=f"http://mixed.test:{sink.port}/", connect_timeout_s=HANG_S)
    assert sink.connections == 0
    await client.close()


async def test_the_name_is_what_the_provider_sees(member: UpstreamMember, sink: Seen) -> None:
    names = Names(provider_test=[["127.0.0.1"], ["10.0.0.1"]])
    client = member.create(names)
    for _ in range(3):
        asked = sink.ask(url=f"http://provider.test:{sink.port}/v1")
        assert await (await client.send(asked)).read(LIMIT) == b"{}"
    assert b"host: provider.test:%d\r\n" % sink.port in sink.requests[0].lower()
    assert (names.asked, sink.connections) == (["provider.test"], 1)
    await client.close()


async def test_the_next_address_is_tried(member: UpstreamMember, sink: Seen) -> None:
    client = member.create(Names(two_test=[["127.0.0.2", "127.0.0.1"]]))
    assert await (await client.send(sink.ask(url=f"http://two.test:{sink.port}/"))).read(LIMIT) == b"{}"
    await client.close()


async def test_calls_that_need_one_name_share_one_question(member: UpstreamMember, sink: Seen) -> None:
    names = Names(provider_test=[["127.0.0.1"]])
    client = member.create(names)
    url = f"http://provider.test:{sink.port}/"
    replies = await asyncio.gather(*[client.send(sink.ask(url=url)) for _ in range(20)])
    assert [await reply.read(LIMIT) for reply in replies] == [b"{}"] * 20
    assert names.asked == ["provider.test"]
    await client.close()


async def test_a_question_outlives_the_call_that_asked_it(member: UpstreamMember, sink: Seen) -> None:
    answering = asyncio.Event()

    async def slowly(host: str) -> Sequence[str]:
        await answering.wait()
        return ["127.0.0.1"]

    client = member.create(slowly)
    url = f"http://slow.test:{sink.port}/"
    first, second = (asyncio.ensure_future(client.send(sink.ask(url=url))) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    assert "connect time-out" in await refusal(client, sink, url=url, networks=("loopback",), connect_timeout_s=0.05)
    answering.set()
    assert await (await second).read(LIMIT) == b"{}"
    with pytest.raises(asyncio.CancelledError):
        await first
    await client.close()


async def test_a_client_that_closes_waits_for_no_resolver(member: UpstreamMember, sink: Seen) -> None:
    async def never(host: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    client = member.create(never)
    asked = asyncio.ensure_future(client.send(sink.ask(url="http://never.test/")))
    await asyncio.sleep(0.01)
    asked.cancel()
    await asyncio.wait_for(client.close(), HANG_S)
    await asyncio.gather(asked, return_exceptions=True)


async def test_a_redirect_inwards_is_not_followed(upstream: Upstream, sink: Seen) -> None:
    location = b"location: http://127.0.0.1:%d/latest/meta-data/" % sink.port
    async with serving(replying(b"HTTP/1.1 307 T\r\n" + location + b"\r\ncontent-length: 0\r\n\r\n")) as seen:
        reply = await upstream.send(seen.ask())
        assert (reply.status, await reply.read(LIMIT)) == (307, b"")
    assert sink.connections == 0


async def test_a_unix_socket_has_no_address(upstream: Upstream, tmp_path: object) -> None:
    path = f"{tmp_path}/desk.sock"
    async with serving(replying(ok(b"{}")), unix_socket=path):
        asked = UpstreamRequest(Endpoint("desk", "http://desk/x", unix_socket=path))
        assert await (await upstream.send(asked)).read(LIMIT) == b"{}"


async def test_an_address_that_says_nothing_does_not_use_up_all_the_time(member: UpstreamMember, sink: Seen) -> None:
    client = member.create(Names(two_test=[["127.0.0.2", "127.0.0.1"]]))
    silent = full_backlog("127.0.0.2", sink.port)
    try:
        asked = sink.ask(url=f"http://two.test:{sink.port}/", connect_timeout_s=2.0)
        assert await (await client.send(asked)).read(LIMIT) == b"{}"
    finally:
        for one in silent:
            one.close()
        await client.close()


def full_backlog(host: str, port: int) -> list[socket.socket]:
    """Sockets of a server whose kernel answers no SYN any more."""
    server = socket.socket()
    server.bind((host, port))
    server.listen(0)
    opened = [server]
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex((host, port))
        opened.append(filler)
    return opened


async def test_answers_are_kept_for_a_while() -> None:
    names = Names(provider_test=[["8.8.8.8"], ["9.9.9.9"], ["127.0.0.1"]])
    resolving = Resolving(names, kept_s=0.1)
    for _ in range(3):
        assert await resolving.addresses("p", "provider.test", ()) == ("8.8.8.8",)
    assert len(names.asked) == 1
    await asyncio.sleep(0.12)
    assert await resolving.addresses("p", "provider.test", ()) == ("9.9.9.9",)
    resolving.forget("provider.test")
    with pytest.raises(UpstreamNotStarted, match="is loopback"):
        await resolving.addresses("p", "provider.test", ())
    with pytest.raises(UpstreamNotStarted, match="cannot be resolved"):
        await resolving.addresses("p", "elsewhere.test", ())


async def test_a_host_that_let_nobody_in_is_asked_again(sink: Seen) -> None:
    """A provider that moved is found again without waiting for what was kept of it."""
    names = Names(moved_test=[["127.0.0.2"], ["127.0.0.1"]])
    client = HttptoolsUpstream(names)
    asked = sink.ask(url=f"http://moved.test:{sink.port}/")
    with pytest.raises(UpstreamNotStarted, match="cannot be connected to"):
        await client.send(asked)
    assert await (await client.send(asked)).read(LIMIT) == b"{}"
    await client.close()


async def test_names_do_not_pile_up() -> None:
    async def anything(host: str) -> Sequence[str]:
        return ["8.8.8.8"]

    resolving = Resolving(anything)
    for number in range(DNS_NAMES_MAX + 10):
        await resolving.addresses("p", f"h{number}.test", ())
    assert len(resolving._answers) == DNS_NAMES_MAX
