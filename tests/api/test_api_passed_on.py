"""Calls that had begun at the old worker and held nothing when it handed over: the new one admits them, unnoticed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from flow.fakes import Scripted
from flow.scripts import GOOD, HELLO, REFUSED, budget, requests_per_minute, stream
from flow.world import World

from api.ports import call_bytes, chat_bytes, client, served, two_workers, until_called
from gateway.api.port import StopTimes
from gateway.core.records import AttemptEnd, Hold, Settle, Void


async def test_a_call_whose_body_is_still_coming_is_passed_on_whole(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as two, client(two.port) as slow:
        content = "x" * 3_000_000
        request = call_bytes(json.dumps({"model": "fast", "messages": [{"role": "user", "content": content}]}).encode())
        slow.send(request[:2000])
        await until_called(two.old)
        await two.hand_over()
        slow.send(request[2000:])
        assert (await slow.answer()).status == 200
        assert (served(two.old), served(two.new)) == (0, 1)
        assert two.new.world.settle.features.body_bytes == len(request) - request.index(b"{")


async def test_a_chunked_body_is_passed_on_with_its_length(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as two, client(two.port) as slow:
        request = chat_bytes()
        head, _, body = request.partition(b"\r\n\r\n")
        head = head.replace(b"content-length: %d" % len(body), b"transfer-encoding: chunked")
        slow.send(head + b"\r\n\r\n" + b"5\r\n%b\r\n" % body[:5])
        await until_called(two.old)
        await two.hand_over()
        slow.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) - 5, body[5:]))
        assert (await slow.answer()).status == 200
        assert served(two.new) == 1
        slow.send(chat_bytes())
        assert (await slow.answer()).status == 200


async def test_a_call_that_waits_for_money_asks_for_it_at_the_new_worker(tmp_path: Path) -> None:
    """It leaves no record at the old one: it is one request, counted once, by who admits it."""
    limits = (budget(1_500), requests_per_minute(100))
    old = World([stream(*HELLO, 0.4, *GOOD)], limits)
    async with two_workers(tmp_path, old) as two, client(two.port) as holder, client(two.port) as waiting:
        holder.send(chat_bytes(stream=True))
        assert (await holder.head()).status == 200
        waiting.send(chat_bytes())
        async with asyncio.timeout(20):
            while not old.engine.waiting():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await two.hand_over()
        assert (await waiting.answer()).status == 200
        assert (served(two.old), served(two.new)) == (0, 1)
        await two.old.ended()
        assert [len(old.records(kind)) for kind in (Hold, Settle)] == [1, 1], "of the stream, and of nothing else"


async def test_a_call_that_needs_another_attempt_gets_it_at_the_new_worker(tmp_path: Path) -> None:
    """What was attempted at the old one is recorded there, with why it went no further."""
    old = World([Scripted(before_head=(0.3, REFUSED))])
    async with two_workers(tmp_path, old) as two, client(two.port) as caller:
        caller.send(chat_bytes("both"))
        await until_called(two.old)
        await asyncio.sleep(0.05)
        await two.hand_over()
        assert (await caller.answer()).status == 200
        assert (served(two.old), served(two.new)) == (1, 1)
        assert len(old.records(Void)) == 1
        assert old.settle.error_code == "handed_over"
        caller.send(chat_bytes())
        assert (await caller.answer()).status == 200
        assert served(two.new) == 2


async def test_a_call_cut_off_by_a_shutdown_is_recorded_as_that(tmp_path: Path) -> None:
    old = World([stream(*HELLO, 30.0, *GOOD)])
    times = StopTimes(pre_stop_s=0.0, grace_s=0.0, drain_s=0.1)
    async with two_workers(tmp_path, old, times=times) as two, client(two.port) as caller:
        caller.send(chat_bytes(stream=True))
        await asyncio.wait_for(caller.reader.readuntil(b"lo"), 20)
        two.old.port.stop()
        assert b"server_shutting_down" in await caller.ended()
        await two.old.ended()
        assert (old.settle.outcome, old.settle.status, old.settle.error_code) == ("error", 503, "server_shutting_down")
        (end,) = old.records(AttemptEnd)
        assert end.cause == "server_shutting_down"
        assert end.effective_nusd > 0, "what was received is booked"


async def test_a_call_whose_caller_has_left_meanwhile_is_passed_to_nobody(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as two:
        async with client(two.port) as slow:
            slow.send(chat_bytes()[:-5])
            await until_called(two.old)
            await two.hand_over()
        await two.old.ended()
        assert served(two.new) == 0
