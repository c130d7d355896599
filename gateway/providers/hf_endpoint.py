"""A dedicated Hugging Face Inference Endpoint: an address of its own, behind it TGI, vLLM, SGLang or llama.cpp.

It is billed by the hour, not by calls: its models have no price until an override gives them one.
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import MAX_TOKENS, USUAL_HEADERS, ProviderRow

MEMBER = ProviderRow(
    kind="hf_endpoint",
    dialect="openai_chat",
    title="Hugging Face Inference Endpoint",
    credential="env:HF_TOKEN",
    reply_headers=USUAL_HEADERS,
    quirks=Quirks(renamed=MAX_TOKENS, usage_in="choice_event", done=False),
)
