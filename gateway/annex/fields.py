"""What of a request reaches litellm: a list of members. litellm takes some hundred more as orders to itself.

`api_base`, `api_key`, `mock_response`, `fallbacks`, `custom_llm_provider`, `metadata`, `extra_headers` … in a caller's
body would choose where a call goes, with whose key, or whether it is made at all. So what is not named here is refused
by name, never passed and never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.annex.failures import Refusal
from gateway.annex.usage import Fields

_CHAT = frozenset({
    "messages", "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
    "max_completion_tokens", "max_tokens", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty",
    "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "temperature",
    "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
    "guardrailConfig", "performanceConfig", "safety_settings", "thinking", "top_k",
})  # fmt: skip
_EMBEDDINGS = frozenset({"input", "dimensions", "user", "input_type"})
_RERANK = frozenset({"query", "documents", "top_n", "rank_fields", "return_documents", "max_chunks_per_doc"})
_TAKEN = frozenset({"model", "stream", "stream_options", "encoding_format"})
"""Read here and said to litellm in our own way."""
_NOT_KEPT = frozenset({
    "metadata", "moderation", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "store",
})  # fmt: skip
"""OpenAI's own features without meaning elsewhere: they change no answer, so they are left out."""

FIELDS: Mapping[str, frozenset[str]] = {"chat": _CHAT, "embeddings": _EMBEDDINGS, "rerank": _RERANK}

_DECODER = msgspec.json.Decoder(dict[str, object])


class Asked(msgspec.Struct, frozen=True):
    """A request as read: the model as litellm calls it, and the members that go on. Unset members are left out."""

    model: str
    fields: Fields
    stream: bool = False
    usage_asked: bool = False
    base64: bool = False


def read_request(body: bytes, endpoint: str) -> Asked:
    """Raises Refusal (400) for a body that cannot be served, naming the member and what to do."""
    try:
        members = _DECODER.decode(body)
    except (ValueError, RecursionError) as error:
        raise _bad("The request body must be a JSON object.") from error
    model = members.get("model")
    if not isinstance(model, str):
        raise _bad("model must be a string.", "model")
    known = FIELDS[endpoint]
    for name in members:
        if name not in known and name not in _TAKEN and name not in _NOT_KEPT:
            raise _bad(
                f"{name[:64]} is not a parameter that this provider takes. Remove it, or use one of: "
                f"{', '.join(sorted(known))}.",
                name[:64],
            )
    options = members.get("stream_options")
    return Asked(
        model=model,
        fields={name: value for name, value in members.items() if name in known and value is not None},
        stream=members.get("stream") is True,
        usage_asked=isinstance(options, dict) and options.get("include_usage") is True,
        base64=members.get("encoding_format") == "base64",
    )


def _bad(message: str, param: str | None = None) -> Refusal:
    return Refusal(400, message, kind="invalid_request_error", code="invalid_request", param=param)
