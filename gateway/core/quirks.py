"""How a vendor's OpenAI-shaped API differs from OpenAI's, as data: rows of `providers/` carry them, dialects obey them.

Here too is what the two sides share of a vendor's own words: the cost it reports, and what its error body says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from gateway.core.money import NANO, divide_half_even

UsageIn = Literal["own_event", "choice_event"]

_AMOUNT = re.compile(r"(\d{1,12})(?:\.(\d{1,40}))?(?:[eE]([+-]?\d{1,2}))?", re.ASCII)
REPORTED_NUSD_MAX = 10**15
"""A million USD for one call: a report above it is a mistake, not money."""


class ReportedCost(msgspec.Struct, frozen=True):
    """Where a usage object says what the call cost: the way to the number in it, and how many of its units are 1 USD.

    `own_key` leads to what the vendor behind it charges besides, counted only where the usage says `is_byok: true`.
    """

    path: tuple[str, ...]
    per_usd: int = 1
    own_key: tuple[str, ...] = ()


class Quirks(msgspec.Struct, frozen=True):
    """The defaults are OpenAI's own behaviour; every field names one difference.

    A member of a request is left out only where the provider is known to answer it with an error and it is no
    instruction for the text to write: every other difference is the provider's to tell, in an error of its own.
    """

    stream_usage: bool = True
    """It understands `stream_options.include_usage`. False: `stream_options` is not sent at all; usage comes by itself
    or not."""

    renamed: tuple[tuple[str, str], ...] = ()
    """Members of a request that it knows under another name: (OpenAI's name, its own)."""

    refused: tuple[str, ...] = ()
    """Members of a request that it refuses: left out, and told to the caller."""

    refused_in_messages: tuple[str, ...] = ()
    """Members of the messages that it refuses (another vendor's reasoning, sent back): left out, and told."""

    tool_id_chars: int = 0
    """Ids of tool calls must be exactly so many letters and digits; another id is replaced, the same one always alike.
    0: any id will do."""

    usage_in: UsageIn = "own_event"
    """`choice_event`: it may say a stream's usage beside a choice, in the last event or in each. A caller that asked
    for usage gets it in an event of its own, as OpenAI sends it."""

    tells_prompt_first: bool = False
    """The first usage of a stream has all of the prompt, and none later more. Others may begin with a part of it
    (before a search, a cache), so their holds do not shrink on it."""

    writes_marked_only: bool = False
    """Its prompt cache is written only where a request marks it, and a usage that tells the prompt tells what of it was
    read and written. Others may write it unasked, and bill that."""

    hidden_tokens: int = 0
    """The most it adds to the prompt of a call that is translated for it, where that names tools or a format: prompts
    of its own about those."""

    takes_tags: bool = False
    """`metadata.tags` may be an array of texts, as LiteLLM's clients send them. Others refuse that: it is taken out."""

    done: bool = True
    """A stream ends with `[DONE]`. False: it may be missing, and is added to a complete stream."""

    error_field: bool = False
    """Errors inside a stream may come in an `error:` field, which no client reads: made a data event."""

    reasoning_outside: bool = False
    """Reasoning tokens (`usage.reasoning_tokens`) are neither in `completion_tokens` nor in `total_tokens`."""

    reported_cost: ReportedCost | None = None
    """Where its usage says what the call cost, beside our own price, never instead of it."""

    def dropped(self, names: Iterable[str], message_names: Iterable[str] = ()) -> tuple[str, ...]:
        """Which of these members of a body, and of its messages, are left out: what the caller has to be told."""
        body = [name for name in names if name in self.refused]
        inner = [f"messages.{name}" for name in self.refused_in_messages if name in set(message_names)]
        return (*body, *inner)


PLAIN = Quirks()
"""No difference at all."""


class ErrorFacts(msgspec.Struct, frozen=True):
    """What a provider's error body says. `message` is its own text, one line of at most 500 characters; `code` is one
    of our words for the cause (`context_length_exceeded`, `rate_limit_exceeded` …), whatever the vendor calls it."""

    message: str
    code: str


def read_amount(text: str, per_usd: int = 1) -> int | None:
    """Nano-USD of a decimal number as written in JSON or a header, exact, rounded half-even once; never by a float.

    None for what is no amount: a negative number, `None`, more than a million USD, over 40 decimals.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        return None
    whole, fraction, exponent = match.group(1), match.group(2) or "", int(match.group(3) or 0)
    power = exponent - len(fraction)
    numerator = int(whole + fraction) * NANO * 10 ** max(0, power)
    nusd = divide_half_even(numerator, per_usd * 10 ** max(0, -power))
    return nusd if nusd <= REPORTED_NUSD_MAX else None
