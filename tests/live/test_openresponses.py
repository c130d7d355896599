"""Every event and reply of the Responses surface against the schema that others publish (openresponses.org)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any, get_args

import openresponses_types.types as schema
import pytest
from live.running import Running
from live.test_responses_sdk import ASKED, WEATHER
from pydantic import BaseModel, ValidationError

pytestmark = pytest.mark.xdist_group("live")


def _events() -> Iterator[tuple[str, type[BaseModel]]]:
    """The model of each event by its type."""
    for name, model in inspect.getmembers(schema, inspect.isclass):
        if name.endswith("StreamingEvent"):
            annotation = model.model_fields["type"].annotation
            kinds = [getattr(one, "value", one) for one in get_args(annotation) or list(annotation)]
            yield from [(kind, model) for kind in kinds]


EVENTS = dict(_events())
MESSAGE: dict[str, Any] = {"model": "sim-small", "input": ASKED}
CASES: dict[str, dict[str, Any]] = {
    "text": MESSAGE,
    "system prompt": MESSAGE | {"instructions": "Answer like a pirate."},
    "reasoning": MESSAGE | {"model": "sim-reasoning"},
    "tool": MESSAGE | {"tools": [WEATHER], "tool_choice": "required"},
    "image": MESSAGE
    | {
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is it?"},
                    {"type": "input_image", "image_url": "https://a.example/x.png"},
                ],
            }
        ]
    },
    "several turns": MESSAGE
    | {
        "input": [
            {"type": "message", "role": "user", "content": "My name is Ann."},
            {"type": "message", "role": "assistant", "content": "Hello Ann."},
            {"type": "message", "role": "user", "content": "What is my name?"},
        ]
    },
    "cut": MESSAGE | {"max_output_tokens": 3},
}
"""The cases of the schema's own compliance suite, and what it has no case for."""


def streamed(server: Running, key: str, body: dict[str, Any], fault: str = "") -> list[dict[str, Any]]:
    headers = {"x-sim-fault": fault} if fault else {}
    reply = server.call("POST", "/v1/responses", body | {"stream": True}, key, headers)
    assert reply.status == 200, reply.body
    return [json.loads(line[6:]) for line in reply.body.decode().splitlines() if line.startswith("data: ")]


def valid(event: dict[str, Any]) -> None:
    try:
        EVENTS[event["type"]].model_validate(event)
    except ValidationError as error:
        raise AssertionError(f"{event}: {error}") from None


@pytest.mark.parametrize("case", CASES)
def test_a_reply_fits_the_schema(server: Running, app_key: str, case: str) -> None:
    reply = server.call("POST", "/v1/responses", CASES[case], app_key)
    assert reply.status == 200
    schema.ResponseResource.model_validate_json(reply.body)


@pytest.mark.parametrize("case", CASES)
def test_every_event_fits_the_schema(server: Running, app_key: str, case: str) -> None:
    events = streamed(server, app_key, CASES[case])
    for event in events:
        valid(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    last = "response.incomplete" if case == "cut" else "response.completed"
    assert [event["type"] for event in events if event["type"] in ("response.completed", "response.incomplete")] == [
        last
    ]


@pytest.mark.parametrize("fault", ["truncated", "error-event", "disconnect-mid"])
def test_a_broken_stream_fits_the_schema_to_its_end(server: Running, app_key: str, fault: str) -> None:
    events = streamed(server, app_key, MESSAGE, fault)
    for event in events:
        valid(event)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
