"""What every surface promises, whichever dialect it belongs to."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.examples import EXAMPLES, Example
from gateway.core.errors import BadRequest, BudgetExceeded, UpstreamInvalidReply
from gateway.core.ports import Surface
from gateway.dialects.discover import discover
from gateway.providers.discover import discover as discover_providers

SURFACES = discover()
parametrised = pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())


def example(surface: Surface) -> Example:
    assert surface.name in EXAMPLES, f"give {surface.name} an example in tests/dialects/examples.py"
    return EXAMPLES[surface.name]


def test_every_surface_is_found_and_no_other() -> None:
    assert {name: surface.upstream_path for name, surface in SURFACES.items()} == {
        "chat.completions": "/chat/completions",
        "completions": "/completions",
        "embeddings": "/embeddings",
        "audio.speech": "/audio/speech",
        "messages": "/messages",
        "messages.count_tokens": "/messages/count_tokens",
        "images.generations": "/images/generations",
        "moderations": "/moderations",
        "responses": "/responses",
        "responses.compact": "/responses/compact",
        "responses.input_tokens": "/responses/input_tokens",
    }


def test_every_provider_row_names_a_dialect_that_exists() -> None:
    assert {row.dialect for row in discover_providers().values()} <= {surface.dialect for surface in SURFACES.values()}


@parametrised
def test_head_of_a_good_body(surface: Surface) -> None:
    body = example(surface).body
    head = surface.read_head(body)
    assert head.model == "m"
    assert head.stream is bool(example(surface).stream)
    assert head.text_bytes == len(body)
    assert head.unknown_fields == ()


@parametrised
def test_a_body_that_need_not_change_is_the_same_object(surface: Surface) -> None:
    body = example(surface).body.replace(b'"stream":true', b'"stream":false')
    assert surface.outgoing(body, surface.read_head(body), "m")[0] is body


@parametrised
def test_a_limit_to_the_output_is_one_that_is_read_back(surface: Surface) -> None:
    body = example(surface).body
    head = surface.read_head(body)
    limited = surface.with_output_limit(body, 64)
    assert (limited is not None) == example(surface).limits or not head.output_expected
    if limited is not None and head.output_expected:
        assert surface.read_head(limited).max_output_tokens == 64
        assert surface.read_head(limited).choices == head.choices


@parametrised
def test_only_the_model_changes(surface: Surface) -> None:
    body = example(surface).body.replace(b'"stream":true', b'"stream":false')
    sent = surface.outgoing(body, surface.read_head(body), "vendor/other")[0]
    assert sent == body.replace(b'"model":"m"', b'"model":"vendor/other"')


@parametrised
def test_usage_is_read_from_a_whole_reply(surface: Surface) -> None:
    facts = surface.read_reply(example(surface).reply)
    if not surface.billed:
        assert facts.usage is None
        return
    if example(surface).is_sound:
        assert (facts.usage, facts.model_served) == (None, "")
        return
    assert facts.model_served == "m-1"
    assert facts.usage is not None
    assert facts.usage.input_tokens() == 9
    assert not facts.usage.fault


@parametrised
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"{}", b'{"choices":1,"data":1}', b"[" * 100_000])
def test_what_is_no_reply_is_told(surface: Surface, body: bytes) -> None:
    with pytest.raises(UpstreamInvalidReply):
        surface.read_reply(body)


@parametrised
def test_an_error_with_status_200_is_no_reply(surface: Surface) -> None:
    with pytest.raises(UpstreamInvalidReply, match="out of luck"):
        surface.read_reply(b'{"error":{"message":"out of luck"}}')


@parametrised
def test_errors_carry_their_parts_and_extra_members(surface: Surface) -> None:
    error = BudgetExceeded("No money left.", param="model", extra={"limit_nano_usd": 5, "code": "not this one"})
    said = json.loads(surface.error_body(error))["error"]
    assert said == example(surface).error | {"limit_nano_usd": 5}
    assert surface.stream_error(error).startswith(example(surface).in_stream(surface.error_body(error)))


@parametrised
def test_comments_are_comments(surface: Surface) -> None:
    assert surface.heartbeat() == example(surface).heartbeat
    assert surface.usage_comment("0.00036", "priced", "req_1") == example(surface).comment


@parametrised
def test_a_stream_is_read_to_its_end(surface: Surface) -> None:
    stream = example(surface).stream
    tap = surface.tap(surface.read_head(example(surface).body))
    relayed = tap.feed(stream) + tap.finish()
    if not stream:
        assert relayed == b""
        return
    assert tap.complete
    assert tap.terminal == example(surface).terminal
    assert tap.finish_reason == example(surface).finish
    assert tap.usage is not None
    assert (tap.usage.input_tokens(), tap.usage.output_tokens()) == (9, 3)
    assert relayed.count(b"data:") == stream.count(b"data:") - example(surface).held, "what ends it is held back"
    assert tap.output_bytes > 0


@parametrised
@given(body=st.binary(max_size=200))
def test_any_bytes_give_a_head_or_a_refusal(surface: Surface, body: bytes) -> None:
    with contextlib.suppress(BadRequest):
        surface.read_head(body)


@parametrised
@given(data=st.binary(max_size=300))
def test_any_bytes_pass_through_a_tap(surface: Surface, data: bytes) -> None:
    tap = surface.tap(surface.read_head(example(surface).body))
    relayed = tap.feed(data) + tap.finish()
    assert len(relayed) + len(tap.terminal) <= len(data) + 2
