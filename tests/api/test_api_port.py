"""The public port's two ends: the port handed over with everything on it, and the port closed for good."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from flow.scripts import GOOD, HELLO, chunk, completion, stream, whole
from flow.world import World

from api.ports import Client, Serving, chat_bytes, client, get_bytes, served, two_workers
from gateway.api.port import StopTimes
from gateway.api.server import SAME_S

SHORT = StopTimes(pre_stop_s=0.0, grace_s=0.0, drain_s=0.3)


# ---------------------------------------------------------------- handed over


async def test_a_connection_between_two_requests_goes_on_with_the_new_worker(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as two, client(two.port) as kept, client(two.port) as fresh:
        kept.send(chat_bytes())
        assert (await kept.answer()).status == 200
        await two.hand_over()
        for caller in (kept, fresh, kept):
            caller.send(chat_bytes())
            answer = await caller.answer()
            assert (answer.status, answer.body) == (200, completion())
            assert "connection" not in answer.headers, "nobody is sent away"
        assert (served(two.old), served(two.new)) == (1, 3)
        await two.old.ended()
        assert two.new.taking.taken == 2


async def test_a_request_head_that_is_half_here_is_answered_by_the_new_worker(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as two, client(two.port) as slow:
        request = chat_bytes()
        slow.send(request[:30])
        await asyncio.sleep(0.05)
        await two.hand_over()
        await asyncio.sleep(0.05)
        slow.send(request[30:])
        assert (await slow.answer()).status == 200
        assert (served(two.old), served(two.new)) == (0, 1)


async def test_a_running_stream_ends_where_it_began_and_its_connection_goes_on(tmp_path: Path) -> None:
    scripts = [stream(*HELLO, 0.5, *GOOD)]
    async with two_workers(tmp_path, World(scripts)) as two, client(two.port) as caller:
        caller.send(chat_bytes(stream=True))
        assert (await caller.head()).status == 200
        await two.hand_over()
        rest = await asyncio.wait_for(caller.reader.readuntil(b"\r\n0\r\n\r\n"), 20)
        assert b"data: [DONE]" in rest
        caller.send(chat_bytes())
        assert (await caller.answer()).status == 200
        assert (served(two.old), served(two.new)) == (1, 1)
        await two.old.ended()


async def test_other_requests_on_an_old_connection_are_answered_too(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as two, client(two.port) as caller:
        await two.hand_over()
        for path, status in (("/readyz", 200), ("/livez", 200), ("/admin/v1/keys", 200), ("/v1/none", 404)):
            caller.send(get_bytes(path))
            assert (await caller.answer()).status == status, path


async def test_a_pipelined_call_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    """Its connection cannot be passed on in the middle; no client library does this."""
    scripts = [stream(*HELLO, 0.3, *GOOD)]
    async with two_workers(tmp_path, World(scripts)) as two, client(two.port) as caller:
        caller.send(chat_bytes(stream=True) + chat_bytes())
        assert (await caller.head()).status == 200
        await two.hand_over()
        assert b"data: [DONE]" in await asyncio.wait_for(caller.reader.readuntil(b"\r\n0\r\n\r\n"), 20)
        answer = await caller.answer()
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (503, "server_shutting_down")
        assert int(answer.headers["retry-after"]) == 1
        caller.send(chat_bytes())
        assert (await caller.answer()).status == 200


async def test_nobody_to_hand_over_to_or_a_journal_that_does_not_take_it_changes_nothing(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as two, client(two.port) as caller:
        two.old.admits = False
        two.old.port.hand_over()
        caller.send(chat_bytes())
        assert (await caller.answer()).status == 200
        two.old.admits = True
        await two.new.taking.close()
        two.old.port.hand_over()
        caller.send(chat_bytes())
        assert (await caller.answer()).status == 200
        assert served(two.old) == 2


async def test_a_third_worker_takes_over_from_both_before_it(tmp_path: Path) -> None:
    """A stream of the first worker ends after the second has been replaced, too: its connection goes to the third."""
    scripts = [stream(*HELLO, 0.6, *GOOD)]
    async with two_workers(tmp_path, World(scripts)) as two, client(two.port) as caller, client(two.port) as idle:
        caller.send(chat_bytes(stream=True))
        assert (await caller.head()).status == 200
        await two.hand_over()
        await asyncio.sleep(0.05)
        third = Serving(tmp_path, two.new.listener.dup(), World([whole()]))
        two.new.port.hand_over()
        await third.begin()
        try:
            assert b"data: [DONE]" in await asyncio.wait_for(caller.reader.readuntil(b"\r\n0\r\n\r\n"), 20)
            for one in (caller, idle):
                one.send(chat_bytes())
                assert (await one.answer()).status == 200
            assert (served(two.old), served(two.new), served(third)) == (1, 0, 2)
            await two.new.ended()
        finally:
            await third.close()


# ---------------------------------------------------------------- closed for good


async def test_it_says_at_once_that_it_goes_serves_on_for_a_while_and_then_is_closed(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as two, client(two.port) as kept, client(two.port) as idle:
        kept.send(get_bytes("/readyz"))
        assert (await kept.answer()).status == 200
        two.old.port.stop()
        kept.send(get_bytes("/readyz"))
        answer = await kept.answer()
        assert (answer.status, answer.body) == (503, b'{"status":"draining"}')
        async with client(two.port) as late:
            late.send(chat_bytes())
            last = await late.answer()
            assert (last.status, last.headers["connection"]) == (200, "close")
            assert await late.ended() == b""
        assert await idle.ended() == b"", "closed when the time to come is over"
        await two.old.ended()
        assert served(two.old) == 1


async def test_a_drain_ends_when_the_last_stream_has_ended(tmp_path: Path) -> None:
    scripts = [stream(*HELLO, 0.5, *GOOD)]
    async with two_workers(tmp_path, World(scripts)) as two, client(two.port) as caller:
        caller.send(chat_bytes(stream=True))
        assert (await caller.head()).status == 200
        two.old.port.stop()
        rest = await caller.ended()
        assert b"data: [DONE]" in rest
        await two.old.ended()
        assert two.old.world.settle.outcome == "ok"


async def test_what_is_left_after_the_drain_is_told_and_settled(tmp_path: Path) -> None:
    scripts = [stream(*HELLO, 30.0, *GOOD), stream(30.0, *GOOD), whole(30.0, completion())]
    async with (
        two_workers(tmp_path, World(scripts), times=SHORT) as two,
        client(two.port) as begun,
        client(two.port) as not_begun,
        client(two.port) as no_stream,
    ):
        begun.send(chat_bytes(stream=True))
        assert (await begun.head()).status == 200
        await asyncio.wait_for(begun.reader.readuntil(b"lo"), 20)
        for caller, streamed in ((not_begun, True), (no_stream, False)):
            caller.send(chat_bytes(stream=streamed))
        await asyncio.sleep(0.1)
        two.old.port.stop()
        rest = await begun.ended()
        assert b"server_shutting_down" in rest
        assert rest.endswith(b"\r\n0\r\n\r\n"), "an answer that ends, with an error in it"
        assert b"[DONE]" not in rest
        for caller in (not_begun, no_stream):
            answer = await caller.answer()
            assert (answer.status, json.loads(answer.body)["error"]["code"]) == (503, "server_shutting_down")
        await two.old.ended()
        assert served(two.old) == 3
        assert two.old.world.engine.open_holds() == 0


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    scripts = [stream(*HELLO, 30.0, *GOOD)]
    times = StopTimes(pre_stop_s=60.0, grace_s=60.0, drain_s=60.0)
    async with two_workers(tmp_path, World(scripts), times=times) as two, client(two.port) as caller:
        caller.send(chat_bytes(stream=True))
        assert (await caller.head()).status == 200
        two.old.port.stop()
        two.old.port.stop()
        await asyncio.sleep(SAME_S + 0.1)
        assert two.old.port.stopping
        assert served(two.old) == 0, "the same signal twice is one request"
        two.old.port.stop()
        assert b"server_shutting_down" in await caller.ended()
        await two.old.ended()
        assert served(two.old) == 1


async def test_after_a_handover_a_signal_ends_what_is_still_running(tmp_path: Path) -> None:
    scripts = [stream(*HELLO, 30.0, chunk("", "stop"))]
    async with two_workers(tmp_path, World(scripts), times=SHORT) as two, client(two.port) as caller:
        caller.send(chat_bytes(stream=True))
        assert (await caller.head()).status == 200
        await two.hand_over()
        assert b"server_shutting_down" in await caller.ended(), "the drain of a replaced worker ends as well"
        await two.old.ended()


@pytest.mark.parametrize("count", [150])
async def test_many_idle_connections_are_all_passed_on(tmp_path: Path, count: int) -> None:
    async with two_workers(tmp_path) as two:
        connections = [await asyncio.open_connection("127.0.0.1", two.port) for _ in range(count)]
        callers = [Client(reader, writer) for reader, writer in connections]
        await asyncio.sleep(0.05)
        await two.hand_over()
        for caller in callers:
            caller.send(chat_bytes())
        answers = await asyncio.gather(*(caller.answer() for caller in callers))
        assert {answer.status for answer in answers} == {200}
        assert served(two.new) == count
        for caller in callers:
            caller.writer.close()
