"""Each fault as a client sees it, and the truth as the witness log has it, on disk before the client can know."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.simulator.knobs import FAULTS
from gateway.simulator.witness import Witness, read_witness
from simulator.live import HANG_S, Live, read_answer, running

TOKENS = 8
CUT = "cut"
# fault, stream → status, connection cut, completed, completion tokens in the log
TABLE: list[tuple[str, bool, int, str, bool, int]] = [
    ("", False, 200, "", True, TOKENS),
    ("", True, 200, "", True, TOKENS),
    ("refuse-429", False, 429, "", False, 0),
    ("refuse-429", True, 429, "", False, 0),
    ("500", False, 500, "", False, 0),
    ("401", True, 401, "", False, 0),
    ("disconnect-before", False, 0, CUT, False, 0),
    ("disconnect-before", True, 0, CUT, False, 0),
    ("disconnect-mid", False, 200, CUT, False, TOKENS),
    ("disconnect-mid", True, 200, CUT, False, TOKENS // 2),
    ("no-usage", False, 200, "", True, TOKENS),
    ("no-usage", True, 200, "", True, TOKENS),
    ("bad-usage", False, 200, "", True, TOKENS),
    ("bad-usage", True, 200, "", True, TOKENS),
    ("error-event", False, 200, "", False, 0),
    ("error-event", True, 200, "", False, TOKENS // 2),
    ("error-first", False, 200, "", False, 0),
    ("error-first", True, 200, "", False, 0),
    ("truncated", False, 200, CUT, False, TOKENS),
    ("truncated", True, 200, "", False, TOKENS // 2),
    ("html", False, 200, "", False, 0),
    ("html", True, 200, "", False, 0),
]


def test_the_table_knows_every_fault() -> None:
    assert {row[0] for row in TABLE} | {"stall"} == set(FAULTS)


@pytest.mark.parametrize(
    ("fault", "stream", "status", "cut", "completed", "tokens"), TABLE, ids=lambda value: str(value) or "none"
)
async def test_fault(live: Live, fault: str, stream: bool, status: int, cut: str, completed: bool, tokens: int) -> None:
    attempt_id = f"att_{fault}_{stream}"
    headers = {"x-sim-fault": fault, "x-sim-tokens": str(TOKENS), "x-request-id": attempt_id}
    answer = await live.chat(headers, stream=stream, stream_options={"include_usage": True})
    told = live.witnessed()[attempt_id]
    assert (answer.status, answer.cut) == (status, bool(cut))
    assert (told.ended, told.completed, told.cancelled_ms) == (True, completed, None)
    assert told.usage["completion_tokens"] == tokens
    assert told.usage["prompt_tokens"] == (0 if status >= 400 else told.prompt_tokens)
    if status == 200 and not cut:
        check_body(fault, stream, answer)


def check_body(fault: str, stream: bool, answer: Any) -> None:
    if fault == "html":
        assert answer.body.startswith(b"<html>")
        assert answer.headers["content-type"] == "text/html"
        return
    events = answer.events if stream else [answer.json]
    if fault.startswith("error"):
        assert "error" in events[-1]
        assert (len(events) == 1) is (not stream or fault == "error-first")
        return
    usages = [event["usage"] for event in events if isinstance(event, dict) and event.get("usage")]
    assert len(usages) == (0 if fault in ("no-usage", "truncated") else 1)
    if fault == "bad-usage":
        assert usages[0]["prompt_tokens_details"]["cached_tokens"] > usages[0]["prompt_tokens"]
    if stream:
        assert (events[-1] == "[DONE]") is (fault != "truncated")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stall_lasts_until_the_client_goes(live: Live, stream: bool) -> None:
    attempt_id = f"att_stall_{stream}"
    headers = {"x-sim-fault": "stall", "x-sim-tokens": "8", "x-request-id": attempt_id}
    body = {"model": "sim-small", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    async with live.asking("POST", "/v1/chat/completions", body, headers):
        await live.until(lambda: attempt_id in live.witnessed())
        await asyncio.sleep(0.05)
        assert not live.witnessed()[attempt_id].ended
    await live.until(lambda: live.witnessed()[attempt_id].ended)
    told = live.witnessed()[attempt_id]
    assert told.cancelled_ms is not None
    assert told.cancelled_ms >= 40
    assert told.sent_tokens == told.usage["completion_tokens"] == (4 if stream else 0)


async def test_a_client_that_leaves_a_stream(live: Live) -> None:
    headers = {"x-sim-tokens": "500", "x-sim-token-interval-ms": "5", "x-request-id": "att_left"}
    body = {"model": "sim-small", "messages": [{"role": "user", "content": "x"}], "stream": True}
    async with live.asking("POST", "/v1/chat/completions", body, headers) as reader:
        for _ in range(10):
            await reader.readuntil(b"\n\n")
        assert "att_left" in live.witnessed(), "begin is on disk before the first byte"
        left = time.monotonic()
    await live.until(lambda: live.witnessed()["att_left"].ended)
    assert time.monotonic() - left < HANG_S
    told = live.witnessed()["att_left"]
    assert not told.completed
    assert told.cancelled_ms is not None
    assert 5 <= told.sent_tokens < 500
    assert told.usage["completion_tokens"] == told.sent_tokens


async def test_the_end_is_on_disk_before_the_last_bytes(live: Live) -> None:
    for stream in (False, True):
        attempt_id = f"att_order_{stream}"
        await live.chat({"x-request-id": attempt_id}, stream=stream)
        assert live.witnessed()[attempt_id].completed


async def test_latencies(live: Live) -> None:
    slow = {"x-sim-latency-ms": "60", "x-sim-tokens": "5", "x-sim-token-interval-ms": "10"}
    began = time.monotonic()
    await live.chat(slow)
    assert time.monotonic() - began >= 0.11
    began = time.monotonic()
    await live.chat(slow | {"x-sim-ttft-ms": "40"}, stream=True)
    assert time.monotonic() - began >= 0.15


async def test_defaults_of_the_process_and_a_requests_own_word(live: Live) -> None:
    state = (await live.control(tokens=3, fault="500")).json
    assert (state["tokens"], state["fault"], state["latency_ms"]) == (3, "500", 0)
    assert (await live.chat()).status == 500
    answer = await live.chat({"x-sim-fault": ""})
    assert answer.json["usage"]["completion_tokens"] == 3
    assert (await live.control(fault="")).json["tokens"] == 3
    assert (await live.control(tokens=None)).json["tokens"] is None


async def test_a_closed_gate_holds_every_reply(live: Live) -> None:
    await live.control(gate="closed")
    asked = [asyncio.ensure_future(live.chat({"x-request-id": f"att_gate_{number}"})) for number in range(20)]
    embedding = asyncio.ensure_future(live.ask("POST", "/v1/embeddings", {"model": "sim-embed", "input": "x"}))
    await live.until(lambda: sum(name.startswith("att_gate_") for name in live.witnessed()) == 20)
    state = (await live.ask("GET", "/control")).json
    assert (state["gate"], state["running"]) == ("closed", 21)
    assert not any(answer.done() for answer in [*asked, embedding])
    await live.control(gate="open")
    assert [answer.status for answer in await asyncio.gather(*asked, embedding)] == [200] * 21


async def test_kill_leaves_begins_without_an_end(tmp_path: Path) -> None:
    with running(tmp_path) as live:
        headers = {"x-request-id": "att_killed", "x-sim-tokens": "100", "x-sim-token-interval-ms": "20"}
        body = {"model": "sim-small", "messages": [{"role": "user", "content": "x"}], "stream": True}
        async with live.asking("POST", "/v1/chat/completions", body, headers) as reader:
            await reader.readuntil(b"\n\n")
            live.process.kill()
            assert (await read_answer(reader)).cut
        told = live.witnessed()["att_killed"]
        assert (told.ended, told.completed, told.prompt_tokens > 0) == (False, False, True)


async def test_sigterm_ends_in_time_and_writes_what_it_knows(tmp_path: Path) -> None:
    with running(tmp_path) as live:
        headers = {"x-request-id": "att_term", "x-sim-fault": "stall"}
        body = {"model": "sim-small", "messages": [{"role": "user", "content": "x"}]}
        async with live.asking("POST", "/v1/chat/completions", body, headers):
            await live.until(lambda: live.log.exists() and "att_term" in live.witnessed())
            live.process.terminate()
            await asyncio.to_thread(live.process.wait, HANG_S)
        assert live.witnessed()["att_term"].ended


async def test_a_log_that_cannot_be_written_is_no_silent_success(tmp_path: Path) -> None:
    witness = Witness(Path("/dev/full"))
    witness.note({"event": "begin", "attempt_id": "a"})
    with pytest.raises(OSError, match="No space left"):
        await witness.durable()
    with pytest.raises(OSError, match="No space left"):
        await witness.durable()
    witness.close()


def test_reading_a_log(tmp_path: Path) -> None:
    log = tmp_path / "w.jsonl"
    begin = '{"event":"begin","attempt_id":"%s","model":"m","prompt_tokens":3,"ts_ms":%d}\n'
    end = (
        '{"event":"end","attempt_id":"%s","completed":true,"usage":{},"cancelled_ms":null,"sent_tokens":2,"ts_ms":9}\n'
    )
    log.write_text(begin % ("a", 1) + begin % ("b", 2) + end % "b" + end % "nobody" + begin % ("b", 3) + '{"event":"en')
    read = read_witness(log)
    assert [(attempt.attempt_id, attempt.ended, attempt.completed, attempt.sent_tokens) for attempt in read] == [
        ("a", False, False, 0),
        ("b", True, True, 2),
        ("b", False, False, 0),
    ]
    log.write_text("nonsense\n" + begin % ("a", 1))
    with pytest.raises(ValueError, match="nonsense"):
        read_witness(log)
