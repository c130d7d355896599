"""Usage of Ollama's native API: in the reply, and in the one chunk of a stream that is `done`."""

from __future__ import annotations

import msgspec

from gateway.core.usage import Meter, Usage
from gateway.dialects.counts import Counts, fields_of

_COUNTS = ("prompt_eval_count", "prompt_eval_cached_count", "eval_count")
_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


def reply_usage(body: bytes) -> Usage | None:
    """None for a chunk that is not the last, and for a reply that counts nothing. Other members are no usage."""
    try:
        reply = fields_of(_DECODER.decode(body))
    except (ValueError, RecursionError):
        return None
    fields = {name: reply[name] for name in _COUNTS if name in reply}
    if not fields or reply.get("done") is False:
        return None
    counts = Counts()
    prompt, cached = counts.count(fields, "prompt_eval_count"), counts.count(fields, "prompt_eval_cached_count")
    if cached > prompt:
        counts.fail(f"prompt_eval_count {prompt} is less than its cached {cached}")
    meters = {
        Meter.INPUT: prompt - cached,
        Meter.CACHE_READ: cached,
        Meter.OUTPUT: counts.count(fields, "eval_count"),
    }
    return counts.usage(meters, _ENCODER.encode(fields))
