"""Errors inside a stream of the Responses API: what OpenAI sends, an `error` event and then `response.failed`.

Clients differ in which of the two they read: the SDKs raise at the nested error, Codex reads what failed.
"""

from __future__ import annotations

import msgspec

from gateway.core.errors import FaregateError
from gateway.dialects.json_body import Members, raw_json, write_members
from gateway.dialects.openai_chat.errors import error_body

_ENCODER = msgspec.json.Encoder()
_ERROR = msgspec.json.Decoder(dict[str, msgspec.Raw])
NO_RESPONSE_ID = "resp_none"
"""The id of a response that never began: there is none, and clients want one."""
_UNTOLD: dict[str, object] = {
    "id": NO_RESPONSE_ID,
    "object": "response",
    "created_at": 0,
    "completed_at": None,
    "status": "failed",
    "incomplete_details": None,
    "model": "",
    "previous_response_id": None,
    "instructions": None,
    "output": [],
    "error": None,
    "tools": [],
    "tool_choice": "auto",
    "truncation": "disabled",
    "parallel_tool_calls": True,
    "text": {"format": {"type": "text"}},
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
    "temperature": 1.0,
    "reasoning": None,
    "usage": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "store": False,
    "background": False,
    "service_tier": "default",
    "metadata": {},
    "safety_identifier": None,
    "prompt_cache_key": None,
}


def untold_response() -> Members:
    """A response of which nothing has been said, with every member that its schema requires."""
    return {name: raw_json(value) for name, value in _UNTOLD.items()}


def error_event(error: FaregateError, number: int) -> bytes:
    """The nested form, with its place among the stream's events."""
    said = _ERROR.decode(error_body(error))["error"]
    event: Members = {"type": raw_json("error"), "sequence_number": raw_json(number), "error": said}
    return b"event: error\ndata: " + write_members(event) + b"\n\n"


def failed_event(error: FaregateError, number: int, response: Members) -> bytes:
    """`response.failed` of a response as last told, which keeps everything but its status."""
    failed = dict(response)
    failed["status"] = raw_json("failed")
    failed["error"] = raw_json({"code": error.code, "message": error.message})
    failed["usage"] = raw_json(None)
    event: Members = {
        "type": raw_json("response.failed"),
        "sequence_number": raw_json(number),
        "response": msgspec.Raw(write_members(failed)),
    }
    return b"event: response.failed\ndata: " + write_members(event) + b"\n\n"


def stream_error(error: FaregateError) -> bytes:
    """What ends a stream in which nothing was told yet."""
    return error_event(error, 0) + failed_event(error, 1, untold_response())
