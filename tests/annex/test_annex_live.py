"""An annex killed under running streams of a live gateway: every call is booked, and the next ones are served."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from pathlib import Path

import pytest
from live.running import running

from annex.asking import COMMAND, spec
from annex.killing import booked, kill_under_streams, verified
from gateway.annex.process import AnnexLimits, AnnexProcess
from gateway.annex.spec import AnnexSpec

pytestmark = pytest.mark.xdist_group("annex")

ROUTES = """\
providers:
  priced:
    kind: openai
    base_url: http://127.0.0.1:{annex}/p/v1
    credential: ""
    networks: [loopback]
  annex:
    base_url: http://127.0.0.1:{annex}/p/v1
models:
  through-annex: {{{{provider: priced, model: script/stream, priced_as: gpt-4o-mini}}}}
  unpriced: annex/script/stream
  refused: annex/script/refuse
  whole: annex/script/plain
"""
QUICK = AnnexLimits(poll_s=0.1, drain_s=5.0, steady_s=0.0, pause_s=0.01)


async def test_a_killed_annex_loses_no_record(tmp_path: Path) -> None:
    served = spec(chunks="20", interval_ms="10")

    async def read_spec() -> AnnexSpec:
        return served

    with socket.create_server(("127.0.0.1", 0)) as listener:
        annex = AnnexProcess(listener, read_spec, os.environ, COMMAND, QUICK)
        task = asyncio.ensure_future(annex.run())
        try:
            with running(tmp_path, ROUTES.format(annex=listener.getsockname()[1])) as server:
                secret = await asyncio.to_thread(server.new_key, "app", "--budget", "50USD/day")
                free = await asyncio.to_thread(server.new_key, "free")
                message = [{"role": "user", "content": "Tell a story."}]
                bodies = [{"model": "through-annex", "messages": message, "max_tokens": 500}] * 6
                seen = await kill_under_streams(server, annex, secret, bodies, kills=4)
                assert seen.cut + sum(seen.refused.values()), "a kill was seen by a client"
                assert seen.refused.keys() <= {502}, seen.refused
                report = await asyncio.to_thread(verified, server)
                assert re.search(r"open holds\)\s+0\n", report)
                calls = await asyncio.to_thread(booked, server, secret, seen.ids)
                sources = {call["cost"]["state"] for call in calls}
                assert sources == {"priced", "estimated"}, sources

                body = {"model": "refused", "messages": message}
                refused = await asyncio.to_thread(server.call, "POST", "/v1/chat/completions", body, free)
                assert (refused.status, refused.headers["retry-after"]) == (429, "7")
                whole = await asyncio.to_thread(server.chat, free, "whole")
                assert whole.json["choices"][0]["message"]["content"] == "scripted"
                assert whole.headers["x-litellm-response-cost"] == "0.000015"
                assert (await asyncio.to_thread(server.call, "GET", "/readyz")).status == 200
        finally:
            annex.stop()
            await task
