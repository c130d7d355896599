"""Every row that serves the Responses API against the bodies of its vendor: request, URL, reply, stream and error.

A folder of `tests/golden/responses/` holds for one row what `providers/golden.py` says of the other endpoints. A
stream is relayed up to its terminal event, byte for byte. The bodies of llama.cpp are recorded from a server; the
others are our own, in the shapes that the vendors document.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.config import ProviderSettings
from gateway.dialects.discover import discover as discover_surfaces
from gateway.providers.row import ProviderRow
from gateway.routing.compile import compile_policy
from providers.golden import ROWS, meters

ROOT = Path(__file__).resolve().parents[1] / "golden" / "responses"
SURFACE = discover_surfaces()["responses"]
SERVING = {kind: row for kind, row in ROWS.items() if SURFACE.name in row.endpoints}
parametrised = pytest.mark.parametrize("row", SERVING.values(), ids=SERVING.keys())


def read(row: ProviderRow, name: str) -> bytes:
    return (ROOT / row.kind / name).read_bytes()


def expected_of(row: ProviderRow) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(read(row, "expected.json"))
    return told


def settings_of(row: ProviderRow) -> ProviderSettings:
    given = {"kind": row.kind, "credential": "", **expected_of(row)["settings"]}
    text = f"providers: {json.dumps({'here': given})}\n"
    return compile_policy(text, "routes.yaml", ROWS, lambda kind, models: {}).providers["here"]


def test_every_row_that_serves_responses_has_bodies() -> None:
    assert {folder.name for folder in ROOT.iterdir()} == set(SERVING)


@parametrised
def test_a_request_for_a_response_goes_up_as_the_vendor_takes_it(row: ProviderRow) -> None:
    expected = expected_of(row)
    body = read(row, "request.json")
    sent, dropped = SURFACE.outgoing(body, SURFACE.read_head(body), expected["model"], row.quirks)
    assert (sent, list(dropped)) == (read(row, "upstream.json"), expected["dropped"])
    url = row.url(settings_of(row), SURFACE.name, SURFACE.upstream_path, expected["model"])
    assert url == expected["url"]


@parametrised
def test_a_whole_response_is_read(row: ProviderRow) -> None:
    expected = expected_of(row)
    facts = SURFACE.read_reply(read(row, "reply.json"), row.quirks)
    assert (facts.model_served, facts.upstream_id) == (expected["model_served"], expected["upstream_id"])
    assert (facts.finish_reason, facts.reported_nusd) == ("completed", expected["reported_nusd"])
    assert meters(facts.usage) == expected["meters"]
    assert facts.usage is not None
    assert facts.usage.unknown_fields == ()
    assert (facts.usage.served_tier, facts.usage.reasoning_tokens) == (expected["tier"], expected["reasoning_tokens"])
    assert facts.output_bytes > 0


@parametrised
@pytest.mark.parametrize("size", [0, 1, 7])
def test_a_streamed_response_is_read_and_relayed(row: ProviderRow, size: int) -> None:
    expected = expected_of(row)
    tap = SURFACE.tap(SURFACE.read_head(read(row, "request.json")), row.quirks)
    stream = read(row, "stream.sse")
    pieces = [stream] if not size else [stream[at : at + size] for at in range(0, len(stream), size)]
    relayed = b"".join([tap.feed(piece) for piece in pieces]) + tap.finish()
    assert relayed + tap.terminal == stream.removesuffix(b"data: [DONE]\n\n")
    assert (tap.complete, tap.error, tap.finish_reason) == (True, "", "completed")
    assert tap.terminal.startswith(b"event: response.completed\n")
    assert (tap.model_served, tap.reported_nusd) == (expected["model_served"], expected["reported_nusd"])
    assert tap.upstream_id == expected.get("stream_upstream_id", expected["upstream_id"])
    assert meters(tap.usage) == expected["meters"]
    assert tap.output_bytes > 0


@parametrised
def test_an_error_of_responses_is_understood(row: ProviderRow) -> None:
    expected = expected_of(row)["error"]
    facts = SURFACE.read_error(expected["status"], read(row, "error.json"))
    assert (facts.code, facts.message) == (expected["code"], expected["message"])
