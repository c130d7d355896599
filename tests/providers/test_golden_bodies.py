"""Every row against the bodies of its vendor: request, URL, reply, stream and error, byte for byte, fact for fact."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.ports import Surface
from gateway.core.usage import Usage
from gateway.dialects.discover import discover as discover_surfaces
from gateway.providers.row import ProviderRow
from providers.golden import ROOT, ROWS, Golden, meters

parametrised = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


def surface_of(golden: Golden) -> Surface:
    return discover_surfaces()[golden.expected["surface"]]


def test_every_row_has_golden_bodies_and_every_folder_a_row() -> None:
    assert {folder.name for folder in ROOT.iterdir()} == set(ROWS), "a new row needs a folder; see providers/golden.py"


@parametrised
def test_the_request_goes_up_as_the_vendor_takes_it(row: ProviderRow) -> None:
    golden = Golden(row.kind)
    surface, expected = surface_of(golden), golden.expected
    body = golden.bytes("request.json")
    head = surface.read_head(body)
    assert surface.outgoing(body, head, expected["model"], row.quirks)[0] == golden.bytes("upstream.json")
    assert list(surface.outgoing(body, head, "m", row.quirks)[1]) == expected["dropped"]
    assert row.url(golden.settings(), surface.name, surface.upstream_path, expected["model"]) == expected["url"]


@parametrised
def test_a_whole_reply_is_read(row: ProviderRow) -> None:
    golden = Golden(row.kind)
    facts = surface_of(golden).read_reply(golden.bytes("reply.json"), row.quirks)
    expected = golden.expected["reply"]
    told = (facts.model_served, facts.upstream_id, facts.finish_reason, facts.reported_nusd)
    assert told == tuple(expected[name] for name in ("model_served", "upstream_id", "finish_reason", "reported_nusd"))
    check_usage(facts.usage, expected)
    assert facts.output_bytes > 0


def check_usage(usage: Usage | None, expected: dict[str, Any]) -> None:
    assert meters(usage) == expected["meters"]
    assert usage is not None
    assert usage.served_tier == expected.get("tier", "")
    assert usage.reasoning_tokens == expected.get("reasoning_tokens", 0)
    assert list(usage.unknown_fields) == expected.get("unknown", []), "known, or on purpose not"


@parametrised
@pytest.mark.parametrize("size", [0, 1, 7])
def test_a_stream_is_read_and_relayed(row: ProviderRow, size: int) -> None:
    golden = Golden(row.kind)
    surface, expected = surface_of(golden), golden.expected["stream"]
    tap = surface.tap(surface.read_head(golden.bytes("request.json")), row.quirks)
    stream = golden.bytes("stream.sse")
    pieces = [stream] if not size else [stream[at : at + size] for at in range(0, len(stream), size)]
    relayed = b"".join([tap.feed(piece) for piece in pieces]) + tap.finish()
    assert relayed == golden.bytes("relayed.sse")
    terminal = golden.expected.get("terminal", "data: [DONE]\n\n").encode()
    assert (tap.complete, tap.error, tap.terminal) == (True, "", terminal)
    assert golden.expected.get("adds_done", False) == (terminal not in stream)
    told = (tap.model_served, tap.upstream_id, tap.finish_reason, tap.reported_nusd)
    assert told == tuple(expected[name] for name in ("model_served", "upstream_id", "finish_reason", "reported_nusd"))
    check_usage(tap.usage, expected)


@parametrised
def test_an_error_is_understood(row: ProviderRow) -> None:
    golden = Golden(row.kind)
    expected = golden.expected["error"]
    facts = surface_of(golden).read_error(expected["status"], golden.bytes("error.json"))
    assert (facts.code, facts.message) == (expected["code"], expected["message"])


@pytest.mark.parametrize("kind", sorted(kind for kind in ROWS if "stream_error" in Golden(kind).expected))
def test_an_error_inside_a_stream_is_an_error_and_is_passed_on(kind: str) -> None:
    golden = Golden(kind)
    surface = surface_of(golden)
    tap = surface.tap(surface.read_head(golden.bytes("request.json")), ROWS[kind].quirks)
    said = golden.bytes("stream_error.sse")
    changed = "stream_error_relayed.sse"
    expected = golden.bytes(changed) if golden.has(changed) else said.partition(b"data: [DONE]")[0]
    assert tap.feed(said) + tap.finish() == expected
    assert (tap.error, tap.complete) == (golden.expected["stream_error"], False)


@parametrised
def test_headers_of_a_reply(row: ProviderRow) -> None:
    expected = Golden(row.kind).expected
    headers = {"x-secret": "1", **expected.get("headers", {})}
    assert row.upstream_id(headers) == expected.get("upstream_id_header", "")
    assert row.reported_nusd(headers) == expected.get("reported_header_nusd")
    kept = dict(row.caller_headers(headers))
    assert kept.get(b"x-upstream-request-id", b"").decode() == expected.get("upstream_id_header", "")
    assert b"x-secret" not in kept
    assert b"x-litellm-key-spend" not in kept
