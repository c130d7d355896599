"""Hugging Face's text-generation-inference on one's own hardware.

It knows only `max_tokens`. Errors are `{"error": text, "error_type": …}`, inside a stream too
(huggingface/text-generation-inference#2668); older releases end without `[DONE]`.
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import CHAT, COMPLETIONS, LOOPBACK, MAX_TOKENS, USUAL_HEADERS, ProviderRow

MEMBER = ProviderRow(
    kind="tgi",
    dialect="openai_chat",
    title="text-generation-inference",
    credential_required=False,
    reply_headers=USUAL_HEADERS,
    free=True,
    networks=LOOPBACK,
    endpoints=(CHAT, COMPLETIONS),
    quirks=Quirks(renamed=MAX_TOKENS, usage_in="choice_event", done=False),
)
