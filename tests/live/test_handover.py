"""`faregate restart` on a running server: nobody is refused, nothing is lost, no budget is overspent, and code that
does not start replaces nothing. The campaign of a hundred is `make test-faults`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import openai
import pytest
from live.raw_client import chat_request, parse_head, post_chat
from live.restarts import pids, restart
from live.running import Running, running, wait_for

import gateway

pytestmark = pytest.mark.xdist_group("handover")
BODY = {"model": "sim-small", "messages": [{"role": "user", "content": "x"}], "max_tokens": 100}
STREAM = {**BODY, "stream": True}
SLOW = {"x-sim-tokens": "100", "x-sim-token-interval-ms": "100"}


class Load:
    """Clients that call again and again on connections of theirs, and note what is wrong with an answer."""

    def __init__(self, server: Running, secret: str) -> None:
        self.answers = 0
        self.faults: list[str] = []
        self._stop = asyncio.Event()
        clients = [*(self._raw(server, secret, bool(kind)) for kind in (0, 1, 0, 1)), self._sdk(server, secret)]
        self._tasks = [asyncio.ensure_future(self._noted(client)) for client in clients]

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _noted(self, client: object) -> None:
        try:
            async for fault in client:  # type: ignore[attr-defined]
                self.answers += 1
                if fault:
                    self.faults.append(fault)
                if self._stop.is_set():
                    return
        except Exception as error:  # whatever a client can see is the result
            self.faults.append(repr(error))

    async def _raw(self, server: Running, secret: str, stream: bool):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            while True:
                writer.write(chat_request(secret, STREAM if stream else BODY, {"x-sim-tokens": "5"}))
                status, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
                if stream and status == 200:
                    said = await reader.readuntil(b"\r\n0\r\n\r\n")
                    yield "" if b"data: [DONE]" in said else f"a stream was not whole: {said[-300:]!r}"
                else:
                    said = await reader.readexactly(int(headers["content-length"]))
                    yield "" if status == 200 and said else f"{status}: {said[:300]!r}"
                await asyncio.sleep(0.02)
        finally:
            writer.close()

    async def _sdk(self, server: Running, secret: str):
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=secret, max_retries=0) as client:
            while True:
                answer = await client.chat.completions.create(**BODY)  # type: ignore[call-overload]
                yield "" if answer.choices[0].finish_reason else "an answer without an end"
                await asyncio.sleep(0.02)


async def test_a_restart_under_load_is_not_noticed(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        secret = await asyncio.to_thread(server.new_key, "load", "--budget", "50USD/day")
        before = {role: pids(server, role) for role in ("worker", "desk", "bookkeeper")}
        load = Load(server, secret)
        assert server.process is not None
        server.process.send_signal(signal.SIGUSR2)
        assert "under way" in (await restart(server)).failed, "one at a time"
        await asyncio.to_thread(wait_for, "the restart", lambda: "restart: desk:" in server.log())
        await load.stop()
        assert load.faults == []
        assert load.answers > 50
        for role, known in before.items():
            now = pids(server, role)
            assert len(now) == 1
            assert not now & known, f"the {role} is new"
        await asyncio.to_thread(server.verified)
        assert "Traceback" not in server.log()
        assert server.stop() == 0


async def test_money_held_by_the_old_worker_is_not_there_for_the_new_one_until_it_ends(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        poor = await asyncio.to_thread(server.new_key, "poor", "--budget", "0.000000001USD/total")
        hold = int(
            (await asyncio.to_thread(server.call, "POST", "/v1/chat/completions", BODY, poor)).json["error"][
                "required_nusd"
            ]
        )
        limit = 2 * hold - 1
        secret = await asyncio.to_thread(server.new_key, "tight", "--budget", f"0.{limit:09d}USD/total")
        (old,) = pids(server, "worker")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(chat_request(secret, STREAM, {**SLOW, "x-sim-token-interval-ms": "600"}))
        await asyncio.wait_for(reader.readuntil(b"data: "), 60)
        assert (await restart(server)).failed == ""
        assert old in pids(server, "worker"), "it ends what it has admitted"
        status, _, body = await post_chat(server.port, secret, BODY)
        assert status == 429, body
        os.kill(old, signal.SIGKILL)
        await asyncio.wait_for(reader.read(), 60)

        async def asked() -> int:
            return (await post_chat(server.port, secret, BODY, {"x-sim-tokens": "1"}))[0]

        answers = [await asked() for _ in range(40)]
        assert 200 in answers, "what the dead worker's call cannot have cost is free again"
        writer.close()
        scrape = await asyncio.to_thread(server.new_key, "scrape", "--role", "metrics")
        metrics = (await asyncio.to_thread(server.call, "GET", "/metrics", key=scrape)).body
        assert b'outcome="crashed"' in metrics, "a call that ended in the old worker is counted by the new one"
        usage = (await asyncio.to_thread(server.call, "GET", "/v1/usage", None, secret)).json
        assert usage["month"]["cost"]["nano_usd"] <= limit
        await asyncio.to_thread(server.verified)


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that the children load: the code on disk that an upgrade changes."""
    copy = tmp_path / "code"
    package = Path(gateway.__file__).parent
    for folder in (package, package.parent / "dashboards", package.parent / "policies"):
        shutil.copytree(folder, copy / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("PYTHONPATH", str(copy))
    return copy / "gateway"


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


async def test_code_that_does_not_start_replaces_nothing_and_code_that_does_is_served(
    tmp_path: Path, code: Path
) -> None:
    with running(tmp_path) as server:
        secret = await asyncio.to_thread(server.new_key, "app")
        old = {role: pids(server, role) for role in ("worker", "desk", "bookkeeper")}

        change(code / "api" / "worker.py", "import asyncio\n", "import asyncio\nimport no_such_module\n")
        refused = await restart(server)
        assert "does not load" in refused.failed
        assert refused.done == ()
        assert {role: pids(server, role) for role in old} == old
        change(code / "api" / "worker.py", "import no_such_module\n", "")

        change(
            code / "app" / "worker.py", "    metrics = PrometheusMetrics()\n", "    raise RuntimeError('bad code')\n"
        )
        refused = await restart(server)
        assert "The new worker did not start" in refused.failed
        assert pids(server, "worker") == old["worker"]
        assert (await post_chat(server.port, secret, BODY))[0] == 200, "the old one serves on"
        change(
            code / "app" / "worker.py", "    raise RuntimeError('bad code')\n", "    metrics = PrometheusMetrics()\n"
        )

        change(code / "api" / "plane.py", '{"status":"alive"}', '{"status":"alive and new"}')
        assert (await restart(server)).failed == ""
        assert (await asyncio.to_thread(server.call, "GET", "/livez")).json == {"status": "alive and new"}
        assert not pids(server, "worker") & old["worker"]
        assert (await post_chat(server.port, secret, BODY))[0] == 200
        await asyncio.to_thread(server.verified)


DIES = """\
            doom = settings.data_dir / "die"
            if doom.exists():
                doom.unlink()
                os._exit(9)
"""


async def test_a_new_worker_that_dies_before_it_begins_costs_time_and_nothing_else(tmp_path: Path, code: Path) -> None:
    """The one moment without a worker that admits: the old one has handed over, the new one is gone, a third comes."""
    change(code / "roles.py", "            taking.begin()", DIES + "            taking.begin()")
    with running(tmp_path) as server:
        secret = await asyncio.to_thread(server.new_key, "app")
        load = Load(server, secret)
        (server.data_dir / "die").touch()
        failed = (await restart(server)).failed
        assert "did not begin" in failed, failed
        await asyncio.to_thread(wait_for, "the third worker", server.ready)
        before = load.answers
        await asyncio.to_thread(wait_for, "more answers", lambda: load.answers > before + 10)
        await load.stop()
        assert load.faults == []
        await asyncio.to_thread(server.verified)
