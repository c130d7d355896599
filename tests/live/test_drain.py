"""SIGTERM to a whole server under streams: what can end ends, what cannot is told, and everything is booked."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from pathlib import Path

import pytest
from live.raw_client import chat_request, post_chat
from live.restarts import pids
from live.running import Running, running, wait_for

from gateway.api.server import SAME_S

pytestmark = pytest.mark.xdist_group("drain")
STREAM = {"model": "sim-small", "messages": [{"role": "user", "content": "Tell me a story."}], "stream": True}
SHORT = {"x-sim-tokens": "30", "x-sim-token-interval-ms": "100"}
ENDLESS = {"x-sim-tokens": "3000", "x-sim-token-interval-ms": "100"}
HALF = 100


class Stream:
    """A stream that has sent its first event."""

    @classmethod
    async def begun(cls, server: Running, secret: str, pace: dict[str, str]) -> Stream:
        made = cls()
        made.reader, made.writer = await asyncio.open_connection("127.0.0.1", server.port)
        made.writer.write(chat_request(secret, STREAM, pace))
        await asyncio.wait_for(made.reader.readuntil(b"data: "), 60)
        return made

    async def rest(self) -> bytes:
        """What comes until the server closes the connection."""
        rest = await asyncio.wait_for(self.reader.read(), 60)
        self.writer.close()
        await self.writer.wait_closed()
        return rest


async def test_two_hundred_streams_half_of_them_endless(tmp_path: Path) -> None:
    with running(tmp_path, pre_stop_s="0.5", handover_grace_s="0.2", drain_timeout_s="4") as server:
        secret = await asyncio.to_thread(server.new_key, "stream", "--budget", "100USD/day")
        streams = await asyncio.gather(
            *(Stream.begun(server, secret, pace) for pace in (SHORT, ENDLESS) for _ in range(HALF)),
        )
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(wait_for, "not ready", lambda: server.call("GET", "/readyz").status == 503)
        status, headers, _ = await post_chat(server.port, secret, {**STREAM, "stream": False})
        assert (status, headers["connection"]) == (200, "close"), "still served: a load balancer may not know yet"
        rests = await asyncio.gather(*(stream.rest() for stream in streams))
        whole, cut = rests[:HALF], rests[HALF:]
        assert sum(b"data: [DONE]" in rest for rest in whole) == HALF, "none is truncated that ends in time"
        assert sum(b"server_shutting_down" in rest for rest in cut) == HALF
        assert not any(b"data: [DONE]" in rest for rest in cut)
        assert all(rest.endswith(b"\r\n0\r\n\r\n") for rest in rests), "every answer ends, none is reset"
        assert await asyncio.to_thread(server.process.wait, 60) == 0
        assert "Traceback" not in server.log()
        server.start()
        report = await asyncio.to_thread(server.verified)
        assert "open holds" in report.stdout
        usage = (await asyncio.to_thread(server.call, "GET", "/v1/usage", None, secret)).json
        assert usage["month"]["calls"] == 2 * HALF + 1


async def test_a_second_signal_ends_it_at_once_and_books_all(tmp_path: Path) -> None:
    with running(tmp_path, pre_stop_s="30", drain_timeout_s="60") as server:
        secret = await asyncio.to_thread(server.new_key, "stream")
        stream = await Stream.begun(server, secret, ENDLESS)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(wait_for, "not ready", lambda: server.call("GET", "/readyz").status == 503)
        await asyncio.sleep(SAME_S + 0.1)
        server.process.send_signal(signal.SIGTERM)
        assert b"server_shutting_down" in await stream.rest()
        assert await asyncio.to_thread(server.process.wait, 60) == 0
        end = json.loads(server.witness.read_text().strip().split("\n")[-1])
        assert end["completed"] is False, "the provider was told to stop"
        server.environment["FAREGATE_PRE_STOP_S"] = "0"
        server.start()
        await asyncio.to_thread(server.verified)


async def test_after_a_killed_supervisor_its_worker_drains_beside_the_next_one(tmp_path: Path) -> None:
    """The kernel tells the orphans to stop. The new worker admits after the old one's HANDOVER, and follows its end."""
    with running(tmp_path) as server:
        secret = await asyncio.to_thread(server.new_key, "stream", "--budget", "1USD/day")
        stream = await Stream.begun(server, secret, {**SHORT, "x-sim-tokens": "90"})
        assert server.process is not None
        (old,) = pids(server, "worker")
        server.process.kill()
        await asyncio.to_thread(server.process.wait)

        def port_is_free() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", server.port)) != 0

        await asyncio.to_thread(wait_for, "the closed port", port_is_free)
        await asyncio.to_thread(server.start)
        assert Path(f"/proc/{old}").exists(), "it still streams"
        assert (await post_chat(server.port, secret, {**STREAM, "stream": False}))[0] == 200
        assert b"data: [DONE]" in await stream.rest()
        await asyncio.to_thread(server.verified)
