"""Usage of a batch at OpenAI: of one line of its output, whichever endpoint it was for, or of the whole batch."""

from __future__ import annotations

import msgspec

from gateway.core.usage import Usage
from gateway.dialects.counts import Fields, fields_of
from gateway.dialects.openai_chat import usage as chat
from gateway.dialects.openai_responses import usage as responses

BATCH = "batch"
"""The tier that is billed, whatever the reply calls it."""
_DECODER = msgspec.json.Decoder()


def line_usage(line: bytes) -> Usage | None:
    """Usage of one line of an output file, `{"response": {"body": …}}`; None when it carries none."""
    body = fields_of(fields_of(_decoded(line).get("response")).get("body"))
    return _billed(body)


def batch_usage(batch: bytes) -> Usage | None:
    """Usage of a whole batch object, in the words of the Responses API; None while it has none."""
    usage = fields_of(_decoded(batch).get("usage"))
    return responses.read_usage(dict(usage), BATCH) if usage else None


def _billed(body: Fields) -> Usage | None:
    usage = fields_of(body.get("usage"))
    if not usage:
        return None
    if body.get("object") == "response":
        found = responses.reply_usage(body)
        return None if found is None else msgspec.structs.replace(found, served_tier=BATCH)
    return chat.read_usage(dict(usage), BATCH, has_output="completion_tokens" in usage)


def _decoded(text: bytes) -> Fields:
    try:
        return fields_of(_DECODER.decode(text))
    except (ValueError, RecursionError):
        return {}
