"""Finds every surface of this room, and those that third parties add by the entry point `faregate.dialects`."""

from __future__ import annotations

from collections.abc import Mapping

import gateway.dialects
from gateway.core.members import discover_members
from gateway.core.ports import Surface
from gateway.dialects.anthropic_messages.codec import CODEC as MESSAGES
from gateway.dialects.openai_chat.codec import CODEC as CHAT
from gateway.dialects.openai_responses.codec import CODEC as RESPONSES
from gateway.dialects.translate.ports import Codec
from gateway.dialects.translate.translation import Translation, translations

ENTRY_POINTS = "faregate.dialects"


def discover() -> dict[str, Surface]:
    """Surfaces by name, in name order. Raises ConfigInvalid when two claim one name."""
    return discover_members("gateway.dialects", gateway.dialects.__path__, lambda surface: surface.name, ENTRY_POINTS)


def discover_translations(surfaces: Mapping[str, Surface]) -> dict[str, tuple[Translation, ...]]:
    """For each surface the translations into others, the one that loses least first."""
    codecs: dict[str, Codec] = {codec.surface: codec for codec in (RESPONSES, MESSAGES, CHAT)}
    return translations(surfaces, codecs)
