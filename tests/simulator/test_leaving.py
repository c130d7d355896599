"""A client that goes between usage and `[DONE]`, and finds its attempt by its mark."""

from __future__ import annotations

import json

from simulator.live import Live

BODY = {
    "model": "sim-small",
    "messages": [{"role": "user", "content": "x"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}


def marks(live: Live) -> dict[str, str]:
    events = [json.loads(line) for line in live.log.read_text().split("\n") if line]
    return {event["mark"]: event["attempt_id"] for event in events if "mark" in event}


async def test_leaving_between_usage_and_done(live: Live) -> None:
    headers = {"x-sim-done-wait-ms": "60000", "x-sim-tokens": "4", "x-sim-mark": "m1", "x-request-id": "att_usage"}
    async with live.asking("POST", "/v1/chat/completions", BODY, headers) as reader:
        received = await reader.readuntil(b'"total_tokens"')
        assert b"[DONE]" not in received
    await live.until(lambda: live.witnessed()["att_usage"].ended)
    told = live.witnessed()["att_usage"]
    assert not told.completed
    assert told.cancelled_ms is not None
    assert told.usage["completion_tokens"] == told.sent_tokens == 4
    assert marks(live)["m1"] == "att_usage"


async def test_done_comes_after_its_wait(live: Live) -> None:
    headers = {"x-sim-done-wait-ms": "20", "x-sim-tokens": "4", "x-request-id": "att_waited"}
    async with live.asking("POST", "/v1/chat/completions", BODY, headers) as reader:
        await reader.readuntil(b"data: [DONE]")
    assert live.witnessed()["att_waited"].completed
    assert "att_waited" not in marks(live).values()
