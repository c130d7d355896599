"""What a caller is told when a limit is in the way: which one, how much of it is left, and when to come back."""

from __future__ import annotations

from gateway.core.errors import BudgetExceeded, BudgetReserved, CallRefused, RateLimited
from gateway.core.limits import Blocked, Unit
from gateway.core.money import print_usd
from gateway.limits.headers import iso, rate_headers
from gateway.limits.scope import scope_words, shown_values
from gateway.limits.text import print_amount, print_limit

DEFAULT_BUDGET_STATUS = 402
MAX_RETRY_S = 65
"""The longest `retry-after` sent: a minute's rolling window frees its first request after at most 65 s. Some SDKs sleep
for as long as they are told, others give up above a minute or two: a longer wait is told as `resets_at` with
`x-should-retry: false`, which all of them obey."""
RESERVED_RETRY_S = 5
"""When to come back while other calls' holds are in the way: about the length of a call."""
MAX_RESERVED_RETRY_S = 10
"""The same for who comes back and finds them there still: those calls are long ones."""

_STOP = {"x-should-retry": "false"}


def refusal_for(
    blocked: Blocked,
    now_ms: int,
    budget_status: int = DEFAULT_BUDGET_STATUS,
    dialect: str = "",
    client_retry: int = 0,
    shortest: int = 0,
) -> CallRefused:
    """The error of a blocked call: BudgetExceeded for spent money (status `budget_status`), BudgetReserved where only
    running calls' holds are in the way, RateLimited for spent requests and tokens. How a limit on those stands is in
    the headers of the caller's `dialect`. `client_retry` is how often its SDK has tried again already. `shortest` is
    the output limit that was tried last, and did not fit either, where limits cap the output (0: none was)."""
    unit = blocked.want.limit.unit
    if not blocked.by_spent:
        return _reserved(blocked, now_ms, dialect, client_retry)
    if unit is Unit.USD:
        return _exceeded(blocked, now_ms, budget_status, shortest)
    return _rate_limited(blocked, now_ms, dialect, shortest)


def _cut_short(shortest: int) -> tuple[str, dict[str, object]]:
    """What a caller is told whose answer could not even be cut short; and the member that says it to programs."""
    if not shortest:
        return "", {}
    return f" Not even an answer cut to {shortest} tokens, the least this limit allows, fits.", {"min_output": shortest}


def _standing(blocked: Blocked, now_ms: int, dialect: str) -> dict[str, str]:
    """The rate-limit headers of the limit that refused; none of a budget."""
    limit = blocked.want.limit
    if limit.unit is Unit.USD:
        return {}
    left = limit.amount - blocked.spent - blocked.reserved
    headers = rate_headers(dialect, limit.unit, limit.amount, left, _reset_ms(blocked), now_ms)
    return {name.decode(): value.decode() for name, value in headers}


def _exceeded(blocked: Blocked, now_ms: int, status: int, shortest: int) -> BudgetExceeded:
    want = blocked.want
    text = (
        f"The budget of {print_limit(want.limit)} for {scope_text(blocked)} does not allow this call: "
        f"{print_usd(blocked.spent)} USD are spent, {print_usd(blocked.reserved)} USD are reserved by running calls "
        f"and this call may cost up to {print_usd(want.take.amount)} USD."
    )
    cut, told = _cut_short(shortest)
    if shortest:  # a lower max_tokens than that would not be sent on
        resets = "" if want.resets_ms is None else f"wait until {iso(_reset_ms(blocked))}, "
        advice = f"{resets}send less, or have the budget raised."
        advice = advice[0].upper() + advice[1:]
    elif want.take.amount > want.limit.amount:
        advice = "It is more than the whole budget: give a lower max_tokens, send less, or have the budget raised."
    elif want.resets_ms is None:
        advice = "The budget does not reset: have it raised, or give a lower max_tokens."
    else:
        advice = f"Wait until {iso(_reset_ms(blocked))}, give a lower max_tokens, or have the budget raised."
    error = BudgetExceeded(f"{text}{cut} {advice}", headers=_STOP, extra={**_facts(blocked), **told})
    error.status = status
    return error


def _reserved(blocked: Blocked, now_ms: int, dialect: str, client_retry: int) -> BudgetReserved:
    want = blocked.want
    unit = want.limit.unit
    wait_s = MAX_RESERVED_RETRY_S if client_retry else RESERVED_RETRY_S
    if blocked.frees_ms is not None:
        wait_s = min(max(1, -(-(blocked.frees_ms - now_ms) // 1000)), wait_s)
    return BudgetReserved(
        f"What is left of {print_limit(want.limit)} for {scope_text(blocked)} is reserved by running calls: "
        f"{print_amount(unit, blocked.spent)} spent, {print_amount(unit, blocked.reserved)} reserved, up to "
        f"{print_amount(unit, want.take.amount)} needed. Reservations end with their calls: retry in {wait_s} s.",
        headers={**_standing(blocked, now_ms, dialect), "retry-after": str(wait_s)},
        extra=_facts(blocked),
    )


def _rate_limited(blocked: Blocked, now_ms: int, dialect: str, shortest: int) -> RateLimited:
    want = blocked.want
    limit = want.limit
    headers = _standing(blocked, now_ms, dialect)
    reset_ms = _reset_ms(blocked)
    wait_ms = max(1, reset_ms - now_ms) if reset_ms is not None else None
    if want.take.amount > limit.amount:
        headers |= _STOP
        advice = "It is more than the whole limit: give a lower max_tokens, send less, or have the limit raised."
    elif wait_ms is None:
        headers |= _STOP
        advice = "The limit does not reset: have it raised."
    elif wait_ms > MAX_RETRY_S * 1000:
        headers |= _STOP
        advice = f"Wait until {iso(reset_ms)}, or have the limit raised."
    else:
        headers |= {"retry-after": str(-(-wait_ms // 1000)), "retry-after-ms": str(wait_ms)}
        advice = f"Retry in {wait_ms / 1000:.1f} s."
    used = print_amount(limit.unit, blocked.spent)
    what = (
        f"is used up: {used} taken"
        if limit.unit is Unit.REQUESTS
        else f"does not allow this call: {used} taken, and it may need {print_amount(limit.unit, want.take.amount)}"
    )
    cut, told = _cut_short(shortest)
    return RateLimited(
        f"The rate limit of {print_limit(limit)} for {scope_text(blocked)} {what}.{cut} {advice}",
        headers=headers,
        extra={**_facts(blocked), **told},
    )


def _reset_ms(blocked: Blocked) -> int | None:
    """When it is worth coming back: the moment there is room, else the end of the window."""
    return blocked.frees_ms if blocked.frees_ms is not None else blocked.want.resets_ms


def _facts(blocked: Blocked) -> dict[str, object]:
    """The machine-readable members. Money is exact USD as text, with the same integers in nano-USD beside it."""
    want = blocked.want
    limit = want.limit
    amounts = {
        "limit": limit.amount,
        "spent": blocked.spent,
        "reserved": blocked.reserved,
        "required": want.take.amount,
    }
    reset_ms = _reset_ms(blocked)
    facts: dict[str, object] = {"scope": scope_text(blocked), "limit_id": limit.id, "unit": limit.unit.value}
    if limit.name:
        facts["limit_name"] = limit.name
    if limit.unit is Unit.USD:
        facts |= {name: print_usd(amount) for name, amount in amounts.items()}
        facts |= {f"{name}_nusd": amount for name, amount in amounts.items()}
    else:
        facts |= amounts
    facts["resets_at"] = None if reset_ms is None else -(-reset_ms // 1000)
    facts["resets_at_iso"] = None if reset_ms is None else iso(reset_ms)
    return facts


def scope_text(blocked: Blocked) -> str:
    """`team:growth user:ann`; the counter's name tells the value where the limit says `*`."""
    limit = blocked.want.limit
    values = shown_values(blocked.want.take.counter.removeprefix(f"{limit.id}|").rpartition("|")[0])
    if len(values) != len(limit.scope):
        values = [value for _, value in limit.scope]
    return scope_words(zip([dimension for dimension, _ in limit.scope], values, strict=True))
