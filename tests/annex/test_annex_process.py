"""AnnexProcess: started when first needed, restarted, replaced, refused for; a scripted vendor stands for litellm."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from live.running import wait_for

from annex.asking import COMMAND, Said, ask, chat, spec
from gateway.annex import launch
from gateway.annex.following import FollowedSpec
from gateway.annex.process import AnnexLimits, AnnexProcess, annex_command
from gateway.annex.sockets import bind_socket
from gateway.annex.spec import AnnexSpec, ServedProvider, write_spec
from gateway.core.config import Policy, Snapshot
from gateway.core.errors import Conflict
from gateway.vault.last_good import write_last_good

pytestmark = pytest.mark.xdist_group("annex")
HANG_S = 60.0
QUICK = AnnexLimits(poll_s=0.05, health_s=0.3, health_misses=2, drain_s=20.0, steady_s=0.0, pause_s=0.01)


class Served:
    """A spec that a test may change."""

    def __init__(self, present: AnnexSpec) -> None:
        self.present = present

    async def read(self) -> AnnexSpec:
        return self.present


@asynccontextmanager
async def running(
    folder: Path,
    served: Served,
    limits: AnnexLimits = QUICK,
    command: tuple[str, ...] = COMMAND,
    environment: dict[str, str] | None = None,
) -> AsyncIterator[tuple[Path, AnnexProcess]]:
    path = folder / "annex.sock"
    with bind_socket(path) as listener:
        given = {"PATH": os.environ.get("PATH", "")} if environment is None else environment
        annex = AnnexProcess(listener, served.read, given, command, limits)
        task = asyncio.ensure_future(annex.run())
        try:
            yield path, annex
        finally:
            annex.stop()
            await asyncio.wait_for(task, HANG_S)


async def asked(path: Path, model: str = "script/plain", **more: object) -> Said:
    return await asyncio.to_thread(chat, path, model, **more)


async def until(what: str, check: object) -> None:
    """A hang guard, not a measure of speed."""
    await asyncio.to_thread(wait_for, what, check)


async def test_nothing_runs_before_the_first_call(tmp_path: Path) -> None:
    async with running(tmp_path, Served(spec())) as (path, annex):
        await asyncio.sleep(0.2)
        assert (annex.pid, annex.ready) == (0, False)
        assert (await asked(path)).status == 200, "the call that starts it is answered by it"
        await until("its word that it serves, which the answer may overtake", lambda: annex.ready)
        pid = annex.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_killed_annex_is_started_again(tmp_path: Path) -> None:
    async with running(tmp_path, Served(spec())) as (path, annex):
        await asked(path)
        for _ in range(3):
            pid = annex.pid
            os.kill(pid, signal.SIGKILL)
            assert (await asked(path)).status == 200
            assert annex.pid != pid


async def test_one_that_kills_itself_harms_only_its_own_call(tmp_path: Path) -> None:
    async with running(tmp_path, Served(spec())) as (path, _):
        with pytest.raises(OSError, match=r".*"):
            await asked(path, "script/crash")
        assert (await asked(path)).status == 200


async def test_one_that_hangs_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path, Served(spec())) as (path, annex):
        await asked(path)
        pid = annex.pid
        os.kill(pid, signal.SIGSTOP)
        assert (await asked(path)).status == 200
        assert annex.pid != pid


async def test_a_new_spec_is_a_new_process_and_old_streams_end(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    served = Served(spec(witness=str(witness), chunks="40", interval_ms="20"))
    async with running(tmp_path, served) as (path, annex):
        stream = asyncio.ensure_future(asked(path, stream=True))
        await until("the stream's begin", witness.exists)
        pid = annex.pid
        (old,) = served.present.providers
        served.present = AnnexSpec((old, replace_name(old, "q")))
        body = {"model": "script/x", "messages": []}
        await until("the new process", lambda: annex.ready and annex.pid != pid)
        new = await asyncio.to_thread(ask, path, "POST", "/q/v1/chat/completions", body)
        assert new.status == 200
        assert (await stream).events[-1] == "[DONE]", "the old process ends what it had begun"


def replace_name(provider: ServedProvider, name: str) -> ServedProvider:
    return ServedProvider(name, provider.models, provider.options, provider.environment, provider.timeout_s)


async def test_an_upgrade_is_a_new_process(tmp_path: Path) -> None:
    async with running(tmp_path, Served(spec())) as (path, annex):
        annex.renew()
        assert (await asked(path)).status == 200
        pid = annex.pid
        await asyncio.sleep(0.3)
        assert annex.pid == pid, "there was nothing to replace when it was asked for"
        annex.renew()
        await until("the new process", lambda: annex.ready and annex.pid != pid)
        assert (await asked(path)).status == 200


async def test_one_that_grew_too_large_is_replaced_without_a_gap(tmp_path: Path) -> None:
    async with running(tmp_path, Served(spec()), replace(QUICK, memory_bytes=1, recycle_s=0.0)) as (path, annex):
        await asked(path)
        pids = set()
        while len(pids) < 3:
            assert (await asked(path)).status == 200
            pids.add(annex.pid)
            await asyncio.sleep(0.05)


async def test_a_call_waits_its_time_and_is_then_refused(tmp_path: Path) -> None:
    sleeps = (sys.executable, "-I", "-c", "import time; time.sleep(600)")
    async with running(tmp_path, Served(spec()), replace(QUICK, start_wait_s=0.3), sleeps) as (path, _):
        said = await asked(path)
        assert (said.status, said.json["error"]["code"]) == (503, "annex_unavailable")
        assert "0.3 s" in said.json["error"]["message"]
        assert int(said.headers["retry-after"]) > 0
        large = await asyncio.to_thread(ask, path, "POST", "/p/v1/chat/completions", b"x" * 3_000_000)
        assert large.status == 503, "a large body is read first, or the reply would be lost"


async def test_one_that_cannot_start_is_tried_again_and_calls_are_told(tmp_path: Path) -> None:
    flag = tmp_path / "works"
    script = (
        f"import os, sys; os.path.exists({str(flag)!r}) or sys.exit(3); os.execv({COMMAND[0]!r}, {list(COMMAND)!r})"
    )
    command = (sys.executable, "-I", "-c", script)
    async with running(tmp_path, Served(spec()), replace(QUICK, pause_max_s=0.1), command) as (path, _):
        assert (await asked(path)).status == 503
        flag.touch()
        await until("an answer", lambda: chat(path, "script/plain").status == 200)


async def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, Served(spec()), command=("/nonexistent/python",)) as (path, _):
        said = await asked(path)
        assert said.status == 503
        assert "No such file" in said.json["error"]["message"]


async def test_without_a_provider_there_is_no_process(tmp_path: Path) -> None:
    served = Served(AnnexSpec())
    async with running(tmp_path, served) as (path, annex):
        assert (await asked(path)).status == 503
        assert annex.pid == 0
        served.present = spec()
        await until("the process", lambda: annex.ready)
        assert (await asked(path)).status == 200


async def test_a_spec_that_cannot_be_read_once_ends_nothing(tmp_path: Path) -> None:
    class Failing(Served):
        async def read(self) -> AnnexSpec:
            if not tmp_path.joinpath("mended").exists():
                raise RuntimeError("a bug")
            return self.present

    async with running(tmp_path, Failing(spec())) as (path, annex):
        first = asyncio.ensure_future(asked(path))
        await asyncio.sleep(0.3)
        (tmp_path / "mended").touch()
        assert (await first).status == 200, "it waited in the queue"
        assert annex.ready


async def test_the_process_gets_only_what_it_serves(tmp_path: Path) -> None:
    (one,) = spec(api_key="env:ONE_KEY").providers
    served = Served(AnnexSpec((ServedProvider("p", one.models, one.options, ("AWS_PROFILE",)),)))
    ours = {"PATH": "/usr/bin", "ONE_KEY": "k", "AWS_PROFILE": "prod", "OPENAI_API_KEY": "no", "HOME": "/root"}
    async with running(tmp_path, served, environment=ours) as (path, _):
        said = await asked(path, "script/environment")
        names = set(said.json["choices"][0]["message"]["content"].split("\n"))
        assert {"PATH", "ONE_KEY", "AWS_PROFILE", "HOME"} <= names
        assert "OPENAI_API_KEY" not in names
        assert (await asked(path, "script/secret")).json["choices"][0]["message"]["content"] == "k"


async def test_stop_lets_a_stream_end(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    served = Served(spec(witness=str(witness), chunks="20", interval_ms="20"))
    async with running(tmp_path, served) as (path, annex):
        stream = asyncio.ensure_future(asked(path, stream=True))
        await until("the stream's begin", witness.exists)
        annex.stop()
        assert (await stream).events[-1] == "[DONE]"


async def test_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    served = Served(spec(witness=str(witness), chunks="100000", interval_ms="20"))
    async with running(tmp_path, served, replace(QUICK, drain_s=0.2)) as (path, annex):
        stream = asyncio.ensure_future(asked(path, stream=True))
        await until("the stream's begin", witness.exists)
        annex.stop()
        with pytest.raises(Exception, match=r".*"):  # the cut connection, in one of its shapes
            await stream


async def test_a_port_does_as_well_as_a_unix_socket(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        annex = AnnexProcess(listener, Served(spec()).read, {}, COMMAND, QUICK)
        task = asyncio.ensure_future(annex.run())
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"200 OK" in await reader.read()
        writer.close()
        await asyncio.sleep(1.0)
        assert annex.ready, "its health was asked for over the port"
        annex.stop()
        await asyncio.wait_for(task, HANG_S)


def test_a_socket_left_behind_is_replaced_and_a_long_path_refused(tmp_path: Path) -> None:
    path = tmp_path / "annex.sock"
    bind_socket(path).close()
    assert path.exists()
    bind_socket(path).close()
    with pytest.raises(Conflict, match="107"):
        bind_socket(tmp_path / ("x" * 120))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Conflict):
        bind_socket(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine", "only a socket is replaced"


async def test_the_spec_follows_the_published_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.msgpack"
    read: list[int] = []

    def spec_of(policy: Policy) -> AnnexSpec:
        read.append(policy.revision)
        return AnnexSpec((ServedProvider(f"r{policy.revision}", ("v/m",)),))

    followed = FollowedSpec(file, spec_of)
    assert await followed.read() == AnnexSpec()
    for revision in (1, 2):
        write_last_good(file, Snapshot(revision, Policy(revision, "", {}, {}, (), {}), ()))
        for _ in range(3):
            assert (await followed.read()).providers[0].name == f"r{revision}"
    file.write_bytes(b"damaged")
    assert (await followed.read()).providers[0].name == "r2", "what was served stays served"
    assert read == [1, 2], "an unchanged file is not decoded again"


def test_the_command_runs_this_package_in_another_interpreter(tmp_path: Path) -> None:
    python, isolated, script = annex_command("/opt/annex/bin/python")
    assert (python, isolated) == ("/opt/annex/bin/python", "-I")
    assert Path(script).name == "launch.py"
    assert annex_command("", tmp_path)[0] == sys.executable
    own = tmp_path / "annex" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.touch()
    assert annex_command("", tmp_path)[0] == str(own), "what `make annex` makes is found"


def test_an_interpreter_without_litellm_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [*annex_command(sys.executable), "--socket", str(tmp_path / "s")],
        input=write_spec(spec()),
        capture_output=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 3
    assert b"make annex" in done.stderr


def test_the_package_is_lent_alone(tmp_path: Path) -> None:
    """In another environment nothing beside `gateway` is found where it lies."""
    package = tmp_path / "gateway"
    package.mkdir()
    (package / "__init__.py").write_text("LENT = True")
    (tmp_path / "neighbour.py").write_text("")
    code = (
        f"import runpy, pathlib; launch = runpy.run_path({launch.__file__!r}); "
        f"launch['lend'](pathlib.Path({str(package)!r})); import gateway; assert gateway.LENT; import neighbour"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert "No module named 'neighbour'" in done.stderr
