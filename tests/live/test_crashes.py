"""A few kills in every test run; the campaign of hundreds is `make test-faults`."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from live.raw_client import chat_request
from live.running import Running, running, wait_for

pytestmark = pytest.mark.xdist_group("crashes")
STREAM = {
    "model": "sim-small",
    "messages": [{"role": "user", "content": "Tell me a long story."}],
    "stream": True,
}


async def keep_streaming(server: Running, secret: str, stop: asyncio.Event, seen: list[str]) -> None:
    """Streams over and over; a cut connection is what a kill looks like to a client. Collects request ids."""
    while not stop.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            slow = {"x-sim-tokens": "40", "x-sim-token-interval-ms": "5"}
            writer.write(chat_request(secret, STREAM, slow, close=True))
            text = await reader.read()
            for line in text.split(b"\r\n"):
                if line.startswith(b"x-request-id: "):
                    seen.append(line[14:].decode())
            writer.close()
        except OSError:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_kills_lose_nothing_and_count_nothing_twice(tmp_path, durability: str) -> None:
    chance = random.Random(7)
    with running(tmp_path, durability=durability) as server:
        secret = await asyncio.to_thread(server.new_key, "stream", "--budget", "50USD/day")
        stop, seen = asyncio.Event(), []
        streams = [asyncio.ensure_future(keep_streaming(server, secret, stop, seen)) for _ in range(8)]
        for role in ("worker", "bookkeeper", "worker", "desk", "worker", "bookkeeper"):
            await asyncio.sleep(0.3 + chance.random())
            await asyncio.to_thread(server.kill, role)
            await asyncio.to_thread(wait_for, f"a new {role}", lambda role=role: role in server.children())
        await asyncio.to_thread(wait_for, "readiness", server.ready)
        before = len(seen)
        await asyncio.to_thread(wait_for, "calls after the kills", lambda: len(seen) > before + 10)
        stop.set()
        await asyncio.gather(*streams)
        report = await asyncio.to_thread(server.verified)
        assert "open holds" in report.stdout
        for request_id in chance.sample(seen, 10):
            reply = await asyncio.to_thread(server.call, "GET", f"/v1/requests/{request_id}", None, secret)
            assert reply.status == 200, reply.body
        assert server.stop() == 0


async def test_sigterm_lets_running_calls_finish(tmp_path) -> None:
    with running(tmp_path) as server:
        secret = await asyncio.to_thread(server.new_key, "stream")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        slow = {"x-sim-tokens": "100", "x-sim-token-interval-ms": "20"}
        writer.write(chat_request(secret, STREAM, slow, close=True))
        await reader.readuntil(b"data: ")
        assert server.process is not None
        server.process.terminate()
        rest = await reader.read()
        assert b"data: [DONE]" in rest
        writer.close()
        assert await asyncio.to_thread(server.process.wait, 60) == 0
        assert json.loads(server.witness.read_text().strip().split("\n")[-1])["completed"] is True
        server.start()
        await asyncio.to_thread(server.verified)


async def test_a_client_that_leaves_stops_the_provider_and_is_still_booked(tmp_path) -> None:
    with running(tmp_path) as server:
        secret = await asyncio.to_thread(server.new_key, "leaver")
        slow = {"x-sim-tokens": "500", "x-sim-token-interval-ms": "20"}
        for model in ("sim-small", "sim-drain"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            short = {"x-sim-tokens": "30", "x-sim-token-interval-ms": "20"}
            writer.write(chat_request(secret, {**STREAM, "model": model}, slow if model == "sim-small" else short))
            await reader.readuntil(b"data: ")
            writer.close()

        def ends() -> list[dict[str, object]]:
            lines = [json.loads(line) for line in server.witness.read_text().strip().split("\n")]
            found = [line for line in lines if line["event"] == "end"]
            return found if len(found) == 2 else []

        cancelled = await asyncio.to_thread(wait_for, "both ends", ends)
        assert sorted(bool(line["completed"]) for line in cancelled) == [False, True]
        await asyncio.to_thread(server.verified)
        usage = (await asyncio.to_thread(server.call, "GET", "/v1/usage", None, secret)).json
        assert usage["month"]["cost"]["nano_usd"] > 0
