"""Mistral. Strict: a member outside its schema is a 422, `stream_options` among them; usage always comes at the end.

Sources: the schema in mistralai 3.7 (`random_seed`, `max_tokens`, `metadata`); `stream_options` in
openai/openai-agents-python#442; `max_completion_tokens` in editor-code-assistant/eca#231; `reasoning_content` in
charmbracelet/crush#1590; ids of tool calls, 9 letters and digits, in anomalyco/opencode#1680. It bills a call to its
end (openrouter.ai/docs, streaming). Completions are its fill-in-the-middle API at another path with another shape.
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import (
    BOOKKEEPING,
    CHAT,
    EMBEDDINGS,
    MAX_TOKENS,
    RETRY_HEADERS,
    UPSTREAM_ID_NAME,
    ProviderRow,
)

MEMBER = ProviderRow(
    kind="mistral",
    dialect="openai_chat",
    title="Mistral",
    base_url="https://api.mistral.ai/v1",
    credential="env:MISTRAL_API_KEY",
    on_disconnect="drain",
    reply_headers=(("mistral-correlation-id", UPSTREAM_ID_NAME), *RETRY_HEADERS),
    genai_prices="mistral",
    endpoints=(CHAT, EMBEDDINGS),
    quirks=Quirks(
        stream_usage=False,
        renamed=(*MAX_TOKENS, ("seed", "random_seed")),
        refused=tuple(name for name in BOOKKEEPING if name != "metadata"),
        refused_in_messages=("reasoning_content", "reasoning"),
        tool_id_chars=9,
        usage_in="choice_event",
    ),
)
