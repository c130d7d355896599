"""shrink: once a provider has told the size of the prompt, a running attempt holds no more than that can cost.

A hold counts every byte of a prompt as a token, because before the provider counts nobody knows better. Providers that
tell usage early (in each chunk, or that of the input first) end that: the rest of the hold is given back at once, to
calls that wait for it. The record is appended before the money is lent again. A hold never grows.
"""

from __future__ import annotations

import msgspec

from gateway.core.call import Head
from gateway.core.charge import PriceSheet
from gateway.core.limits import Take, Unit
from gateway.core.records import Hold, Shrink
from gateway.core.tokens import estimate_tokens
from gateway.core.usage import Usage
from gateway.flow.services import Services
from gateway.flow.state import Attempt, Passage
from gateway.pricing.bound import Bound, hold_bound

SHRINK_WORTH = 20
"""A hold shrinks if that frees a twentieth of it: of twenty such calls at once, one more then gets in. It costs
about 30 µs (`shrink_us` of `benchmarks/steps.py`), a seventh of a call, once a stream."""
PLAUSIBLE_SHARE = 8
"""No text has an eighth of the tokens it is estimated at: fewer than that is a placeholder."""


def may_shrink(attempt: Attempt) -> bool:
    """Whether early usage could free anything: the provider is known to tell the whole prompt first, something is held,
    and all the call may use is known by its names. Of several prompts in one request a provider may tell one at a time;
    and where a prompt is marked for a cache, first what was not cached, unless it is known to tell that as well
    (Anthropic's `message_start`). Where nobody knows how long the answer can get, as of free models that are in no
    price source, what is held is no bound, and must not become less."""
    head, sheet = attempt.composed.head, attempt.target.sheet
    quirks = attempt.target.row.quirks
    if not quirks.tells_prompt_first or (head.cache_markers and not quirks.writes_marked_only):
        return False
    if head.unknown_fields or head.hosted_tools or head.inputs != 1:
        return False
    ends = head.max_output_tokens or (sheet is not None and (sheet.max_output_tokens or sheet.context_window))
    return bool(attempt.hold.takes and ends)


def shrink(passage: Passage, services: Services, attempt: Attempt, usage: Usage) -> bool:
    """Gives back what the prompt cannot cost any more, if that is worth a record. False for a usage that does not tell
    the prompt yet: a later one may."""
    prompt_tokens = usage.input_tokens()
    if usage.fault or usage.parts or not _is_plausible(attempt.composed.head, prompt_tokens):
        return False
    hold, target = attempt.hold, attempt.target
    bound = exact_bound(attempt.composed.head, target.sheet, hold.ts_ms, target.provider.region, prompt_tokens)
    smaller = shrunk(hold, bound)
    freed = tuple(
        [_less(old, new) for old, new in zip(hold.takes, smaller.takes, strict=True) if new.amount < old.amount]
    )
    worth = any(
        one.amount * SHRINK_WORTH >= old.amount for one in freed for old in hold.takes if one.counter == old.counter
    )
    if not worth or not services.journal.ready:  # a full disk's room is for those that must end
        return True
    record = Shrink(services.clock.now_ms(), hold.attempt_id, freed, smaller.bound_nusd)
    services.journal.append(record, passage.call_id)
    attempt.hold = msgspec.structs.replace(smaller, input_estimate=prompt_tokens)
    services.limits.apply(record, passage.call_id)
    services.metrics.hold_shrunk(hold.deployment)
    return True


def exact_bound(head: Head, sheet: PriceSheet | None, at_ms: int, region: str, prompt_tokens: int) -> Bound:
    """The most a request can cost whose prompt is known to have `prompt_tokens`: at the dearest rates in its reach, as
    which of them were cached may still be told otherwise. A prompt of that many tokens is one of a model whose context
    window is no longer."""
    if sheet is None:
        unpriced = hold_bound(head, None, at_ms)
        return Bound(None, prompt_tokens, unpriced.output_bound, unpriced.reason)
    window = sheet.context_window
    output = sheet.max_output_tokens
    if not output and head.max_output_tokens is None:
        output = window  # what `hold_bound` takes for the longest answer there is, read before the window is cut
    fitting = msgspec.structs.replace(
        sheet, context_window=min(prompt_tokens, window) if window else prompt_tokens, max_output_tokens=output
    )
    return hold_bound(head, fitting, at_ms, region=region)


def shrunk(hold: Hold, bound: Bound) -> Hold:
    """The hold with takes and bound that are at most `bound`; nothing of it grows."""
    takes = []
    for take in hold.takes:
        most = take.amount
        if take.unit is Unit.USD and bound.nusd is not None:
            most = min(most, bound.nusd)
        elif take.unit is Unit.TOKENS:
            most = min(most, bound.tokens)
        takes.append(Take(take.counter, take.limit_id, take.unit, most, take.expires_ms))
    nusd = hold.bound_nusd
    if nusd is not None and bound.nusd is not None:
        nusd = min(nusd, bound.nusd)
    return msgspec.structs.replace(hold, takes=tuple(takes), bound_nusd=nusd)


def _is_plausible(head: Head, prompt_tokens: int) -> bool:
    if head.media or head.audio:  # most of their bytes are no text; but each message and item has more than a token
        return prompt_tokens > head.messages + head.media
    return prompt_tokens * PLAUSIBLE_SHARE >= estimate_tokens(head.text_bytes)


def _less(old: Take, new: Take) -> Take:
    return Take(old.counter, old.limit_id, old.unit, old.amount - new.amount, old.expires_ms)
