"""llama.cpp's server. Usage is in an event of its own (ggml-org/llama.cpp#15444), beside the last choice before that.

It serves Anthropic's Messages beside OpenAI's endpoints, with errors in OpenAI's shape: `prompt_tokens` are
`input_tokens` and `cache_read_input_tokens` there, both told in `message_start` (tried with b11549).

Errors inside a stream come in an `error:` field that no client reads (ggml-org/llama.cpp#14566 has the cases).
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    INPUT_TOKENS,
    LOOPBACK,
    MAX_TOKENS,
    MESSAGES,
    RESPONSES,
    SHORT_KEEPALIVE_S,
    USUAL_HEADERS,
    ProviderRow,
)

MEMBER = ProviderRow(
    kind="llama_cpp",
    dialect="openai_chat",
    title="llama.cpp",
    base_url="http://127.0.0.1:8080/v1",
    credential_required=False,
    keepalive_s=SHORT_KEEPALIVE_S,
    reply_headers=USUAL_HEADERS,
    free=True,
    networks=LOOPBACK,
    endpoints=(CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, INPUT_TOKENS, MESSAGES, COUNT_TOKENS),
    quirks=Quirks(renamed=MAX_TOKENS, usage_in="choice_event", error_field=True),
)
