"""The real litellm SDK behind a live gateway: started by the first call, killed under streams, every record kept."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path

from annex.killing import booked, kill_under_streams, verified
from live.running import running
from vendors import ANSWER, CLAUDE, GEMINI, PYTHON, QUESTION, TOKENS_IN, TOKENS_OUT, Vendors

from gateway.annex.process import AnnexLimits, AnnexProcess, annex_command
from gateway.annex.spec import AnnexSpec

ROUTES = """\
providers:
  aws:
    kind: openai
    base_url: http://127.0.0.1:{annex}/aws/v1
    credential: ""
    networks: [loopback]
  google:
    kind: annex
    base_url: http://127.0.0.1:{annex}/google/v1
models:
  claude: {{{{provider: aws, model: "CLAUDE", priced_as: gpt-4o-mini}}}}
  gemini: google/GEMINI
""".replace("CLAUDE", CLAUDE).replace("GEMINI", GEMINI)
QUICK = AnnexLimits(drain_s=5.0, steady_s=0.0, pause_s=0.01)


async def test_a_killed_litellm_loses_no_record(world: Vendors, tmp_path: Path) -> None:
    async def read_spec() -> AnnexSpec:
        return world.spec

    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = {**world.environment, "TEST_OTHER_SECRET": "stays-here"}
        annex = AnnexProcess(listener, read_spec, ours, annex_command(str(PYTHON)), QUICK)
        task = asyncio.ensure_future(annex.run())
        try:
            with running(tmp_path, ROUTES.format(annex=listener.getsockname()[1])) as server:
                secret = await asyncio.to_thread(server.new_key, "app", "--budget", "50USD/day")
                free = await asyncio.to_thread(server.new_key, "free")
                message = [{"role": "user", "content": QUESTION}]
                assert annex.pid == 0, "nothing called it yet"
                body = {"model": "gemini", "messages": message}
                first = await asyncio.to_thread(server.call, "POST", "/v1/chat/completions", body, free)
                assert first.status == 200, first.body
                assert first.json["choices"][0]["message"]["content"] == ANSWER
                usage = first.json["usage"]
                assert (usage["prompt_tokens"], usage["completion_tokens"]) == (TOKENS_IN, TOKENS_OUT)
                environment = Path(f"/proc/{annex.pid}/environ").read_bytes()
                assert b"TEST_GOOGLE_ACCOUNT=" in environment
                assert b"TEST_OTHER_SECRET" not in environment

                bodies = [{"model": "claude", "messages": message, "max_tokens": 500}] * 6
                seen = await kill_under_streams(server, annex, secret, bodies, kills=3)
                assert seen.cut, "a kill was seen by a client"
                assert seen.refused.keys() <= {502}, seen.refused
                report = await asyncio.to_thread(verified, server)
                assert re.search(r"open holds\)\s+0\n", report)
                calls = await asyncio.to_thread(booked, server, secret, seen.ids)
                states = [call["cost"]["state"] for call in calls]
                assert states.count("priced") >= seen.whole
                assert {*states} <= {"priced", "estimated"}
                assert "estimated" in states
                print(report, f"whole {seen.whole}, cut {seen.cut}, refused {dict(seen.refused)}")
        finally:
            annex.stop()
            await task
