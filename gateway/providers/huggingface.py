"""Hugging Face's router to inference providers. The model's suffix names the provider: `openai/gpt-oss-120b:groq`.

Without a suffix the router chooses, and with it the price: such a model has none here. It bills a call to its end
(openrouter.ai/docs, streaming). What a reply looks like depends on the provider behind it, so usage may be anywhere.
`headers: {x-hf-bill-to: organisation}` bills an organisation (huggingface.co/docs/inference-providers).
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import CHAT, MAX_TOKENS, USUAL_HEADERS, ProviderRow

MEMBER = ProviderRow(
    kind="huggingface",
    dialect="openai_chat",
    title="Hugging Face router",
    base_url="https://router.huggingface.co/v1",
    credential="env:HF_TOKEN",
    on_disconnect="drain",
    reply_headers=(("x-inference-provider", "x-inference-provider"), *USUAL_HEADERS),
    endpoints=(CHAT,),
    quirks=Quirks(renamed=MAX_TOKENS, usage_in="choice_event", done=False),
)
