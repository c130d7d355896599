"""Kinds of provider as the price book knows them: whose prices they have, and what is peculiar to how they bill."""

from __future__ import annotations

import re

import msgspec

from gateway.core.charge import PriceRow
from gateway.core.usage import Meter
from gateway.pricing.draft import Draft
from gateway.pricing.rows import STANDARD


class Vendor(msgspec.Struct, frozen=True):
    """Where a kind of provider's prices are: its id in genai-prices and in the litellm map.

    `fee_prefixes` are models that bill a fee for each call which no usage reports: they stay unpriced rather than too
    cheap. `as_text` are meters that this vendor bills as it bills plain input (and cached ones as cached input), where
    it gives them no price of their own. `thinks_beyond`: its models' reasoning may go beyond the caller's limit;
    `thinkers` is a pattern of the names of those that reason, where the sources do not say it of all.
    `searches_unasked`: its models search the web as often as they like, and bill each search.
    `shortest_audio_s`: less audio than this is billed as this.
    """

    genai: str
    litellm: str
    fee_prefixes: tuple[str, ...] = ()
    as_text: tuple[Meter, ...] = (Meter.INPUT_IMAGE,)
    thinks_beyond: bool = False
    thinkers: str = ""
    searches_unasked: bool = False
    shortest_audio_s: int = 0

    def may_think_beyond(self, model: str, reasons: bool) -> bool:
        """Whether a model's reasoning may go beyond the caller's limit. `reasons`: a source says that it reasons."""
        named = bool(self.thinkers) and re.match(self.thinkers, model) is not None
        return named or (self.thinks_beyond and reasons)


_GROK_THINKERS = r"~?(x-ai/)?grok-(?!.*non-reasoning)(3-mini|[4-9]|build|code|latest)"
"""The sources know it of `grok-4.7` and not of `grok-4.7-latest`, nor of any through a router."""
_SEARCHERS = (
    "gpt-4o-search-preview",
    "gpt-4o-mini-search-preview",
    "gpt-5-search-api",
)
_ROUTED_SEARCHERS = (
    *(f"openai/{name}" for name in (*_SEARCHERS, "o3-deep-research", "o4-mini-deep-research")),
    "perplexity/",
    "sonar",
    "llama-3.1-sonar",
)
"""Through a router the sources have only the prices of their tokens."""
_ALL_SEEN = (Meter.INPUT_IMAGE, Meter.INPUT_VIDEO, Meter.CACHE_READ_IMAGE, Meter.CACHE_READ_VIDEO)

VENDORS: dict[str, Vendor] = {
    "openai": Vendor("openai", "openai", _SEARCHERS),
    "anthropic": Vendor("anthropic", "anthropic"),
    "gemini": Vendor("google", "gemini", as_text=_ALL_SEEN),
    "mistral": Vendor("mistral", "mistral"),
    "groq": Vendor("groq", "groq", shortest_audio_s=10),
    "deepseek": Vendor("deepseek", "deepseek"),
    "xai": Vendor("x-ai", "xai", thinks_beyond=True, thinkers=_GROK_THINKERS),
    "together": Vendor("together", "together_ai"),
    "fireworks": Vendor("fireworks", "fireworks_ai"),
    "openrouter": Vendor("openrouter", "openrouter", _ROUTED_SEARCHERS, thinkers=_GROK_THINKERS),
    "cerebras": Vendor("cerebras", "cerebras"),
    "perplexity": Vendor("perplexity", "perplexity", thinks_beyond=True, searches_unasked=True),
    "azure_openai": Vendor("azure", "azure"),
    "cohere": Vendor("cohere", "cohere"),
}

FREE_KINDS = frozenset({"llama_cpp", "lm_studio", "nim", "ollama", "sglang", "tgi", "vllm"})
"""Servers on one's own hardware: a call costs nothing."""
LOCAL = "local"
EVERY_MODEL = "*"
"""The name under which a free kind's prices stand for models that only a wildcard names."""
_FREE_TIERS = (STANDARD, "flex", "priority", "fast", "scale", "batch")
FREE = Draft(
    tuple(
        PriceRow("", meter, 0, tier=tier, source=LOCAL)
        for tier in _FREE_TIERS
        for meter in Meter
        if meter not in (Meter.REQUEST, Meter.REQUEST_LOW, Meter.REQUEST_MEDIUM, Meter.REQUEST_HIGH, Meter.REASONING)
    ),
)
ROUTER, ROUTED = "huggingface", "huggingface_"
PROXIES = frozenset({"litellm", "annex"})
"""Kinds whose models are named as litellm routes them: `vendor/model`."""
UNPRICED = {
    "hf_endpoint": Draft(unpriced="it is billed by the hour, not by calls"),
    "nvidia": Draft(unpriced="it is sold by contract, not at a published price"),
    ROUTER: Draft(unpriced="no price source knows it at that provider; name one as in openai/gpt-oss-120b:groq"),
    "litellm": Draft(unpriced="the proxy's own name for it has no price; give it priced_as: openai/… or the like"),
}


def vendor_of(kind: str, model: str) -> tuple[Vendor | None, str]:
    """Whose prices a model has, and its name there. A router's model says it at the end (`model:groq`), a proxy's at
    the beginning (`openai/model`, in litellm's names of vendors)."""
    if kind == ROUTER:
        name, _, provider = model.rpartition(":")
        return (Vendor(ROUTED + provider, "") if name else None), name
    if kind in PROXIES:
        prefix, _, name = model.partition("/")
        return next((vendor for vendor in VENDORS.values() if name and vendor.litellm == prefix), None), name
    return VENDORS.get(kind), model
