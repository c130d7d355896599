"""A limit as people write it, member by member: the same in `limits.yaml`, over HTTP and on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from gateway.core.limits import EACH, HoldKind, Limit, OnExceed, Unit
from gateway.limits.scope import DIMENSIONS, PLANNED, TAG, Scope, has_values, is_dimension, whole_scope
from gateway.limits.text import MAX_AMOUNT, parse_limit

EACH_WORD = "each"
ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
SQL_PREFIX = "lim_"
"""How ids of limits that SQL owns begin; no file may use it, so no two limits ever share a counter."""
DEFAULT_MAX_VALUES = 10_000
MOST_VALUES = 1_000_000
MOST_ALERTS = 10
LONGEST_VALUE = 256
LATEST_MS = 253_370_764_800_000
"""9999-01-01T00:00:00Z: no later moment can be shown in every time zone."""

_ID = re.compile(ID_PATTERN)
DEFAULT_MIN_OUTPUT = 64
"""Fewer tokens than this are no answer that anybody can use."""
MOST_OUTPUT = 2**31 - 1


class Mistake(ValueError):
    """What is wrong with one member of a limit, and what would be right."""

    def __init__(self, member: str, message: str, suggestion: str = "") -> None:
        super().__init__(f"{member}: {message}" + (f". {suggestion}" if suggestion else ""))
        self.member = member
        self.message = message
        self.suggestion = suggestion


class Member(NamedTuple):
    """One member: what it means, for the schema and for people."""

    name: str
    meaning: str


MEMBERS = (
    Member("limit", "Amount and window: 500USD/month, 0.5USD/day@Europe/Vienna, 1000000tokens/day, 60/min, 20USD/1h."),
    Member("scope", "Which calls it is about; all of these must match. `each`: every value has a count of its own."),
    Member("on_exceed", "What happens to a call that does not fit."),
    Member("downgrade_to", "With on_exceed: downgrade, the model of routes.yaml that such a call goes on with."),
    Member("min_output", "With on_exceed: cap_output, the fewest tokens of output that are worth a call."),
    Member("hold", "What is held before a call: a proven upper bound, or an estimate that may be overshot."),
    Member("alerts", "Per cent of the amount at which to alert."),
    Member("max_values", "How many values of what callers send may have counts at a time, within each owner."),
    Member("increase", "A temporary increase, and when it ends."),
)


def check_id(text: str) -> str:
    """The id of a limit in a file. Raises Mistake."""
    if not _ID.fullmatch(text):
        raise Mistake("id", f"{text[:70]!r} cannot be a limit's id", "Use up to 64 of a-z, 0-9, - and _")
    if text.startswith(SQL_PREFIX):
        raise Mistake("id", f"ids that begin with {SQL_PREFIX} are given by the database", "Choose another one")
    return text


def read_limit(id: str, given: Mapping[str, object], *, origin: str, name: str = "") -> Limit:
    """The limit of its members. Raises Mistake for the first that is wrong, missing or unknown."""
    known = [member.name for member in MEMBERS]
    for member in given:
        if member not in known:
            raise Mistake(member, "is no member of a limit", f"There are {', '.join(known)}")
    text = given.get("limit")
    if not isinstance(text, str):
        raise Mistake("limit", "is missing", "Write it like 500USD/month or 60/min")
    try:
        limit = parse_limit(text)
    except ValueError as error:
        raise Mistake("limit", str(error)) from None
    scope = read_scope(given.get("scope", {}))
    if limit.unit is Unit.REQUESTS and any(dimension in PLANNED for dimension, _ in scope):
        raise Mistake(
            "scope",
            "requests are counted before a provider and deployment are chosen",
            "Limit tokens or USD there, or requests by model",
        )
    by, until_ms = _increase(given.get("increase"), limit.unit)
    action = _on_exceed(given.get("on_exceed", OnExceed.BLOCK.value))
    hold = _hold(given.get("hold", HoldKind.BOUND.value))
    downgrade_to, min_output = _reshaping(action, limit.unit, hold, given)
    return Limit(
        id=id,
        unit=limit.unit,
        amount=limit.amount,
        window=limit.window,
        scope=scope,
        on_exceed=action,
        hold=hold,
        origin=origin,
        name=name,
        max_values=_max_values(given.get("max_values"), scope),
        alerts=_alerts(given.get("alerts", ())),
        increase=by,
        increase_until_ms=until_ms,
        downgrade_to=downgrade_to,
        min_output=min_output,
    )


def read_scope(given: object) -> Scope:
    """The whole scope, with what it implies, of a mapping of dimensions to values. Raises Mistake."""
    if not isinstance(given, Mapping):
        raise Mistake("scope", "must be a mapping", "Write it like {team: growth, user: each}")
    found = []
    for dimension, value in given.items():
        if not isinstance(dimension, str) or not is_dimension(dimension):
            raise Mistake(
                "scope", f"{str(dimension)[:70]!r} is no dimension", f"There are {', '.join(DIMENSIONS)}, {TAG}NAME"
            )
        if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > LONGEST_VALUE:
            raise Mistake("scope", f"{dimension} must be one printable text, or {EACH_WORD}")
        if value == EACH:
            raise Mistake("scope", f"{dimension} cannot be *", f"Write {EACH_WORD} for each value of it")
        found.append((dimension, EACH if value == EACH_WORD else value))
    return whole_scope(found)


def _on_exceed(given: object) -> OnExceed:
    try:
        return OnExceed(str(given))
    except ValueError:
        raise Mistake("on_exceed", f"cannot be {str(given)[:40]!r}", f"Use {', '.join(OnExceed)}") from None


def _reshaping(action: OnExceed, unit: Unit, hold: HoldKind, given: Mapping[str, object]) -> tuple[str, int]:
    """(model to go on with, fewest tokens of output) of the actions that change a call. Raises Mistake."""
    model, tokens = given.get("downgrade_to"), given.get("min_output")
    changes = action in (OnExceed.DOWNGRADE, OnExceed.CAP_OUTPUT)
    if changes and unit is Unit.REQUESTS:
        raise Mistake("on_exceed", f"{action} is for money and tokens: a request is one whatever it is changed to")
    if model is not None and action is not OnExceed.DOWNGRADE:
        raise Mistake("downgrade_to", "is for on_exceed: downgrade", "Remove it")
    if tokens is not None and action is not OnExceed.CAP_OUTPUT:
        raise Mistake("min_output", "is for on_exceed: cap_output", "Remove it")
    if action is OnExceed.DOWNGRADE:
        if not isinstance(model, str) or not model.strip() or not model.isprintable() or len(model) > LONGEST_VALUE:
            raise Mistake("downgrade_to", "must name the model to go on with", "Write it like gpt-4o-mini")
        return model, 0
    if action is not OnExceed.CAP_OUTPUT:
        return "", 0
    if hold is not HoldKind.BOUND:
        raise Mistake("hold", "must be bound with on_exceed: cap_output: only a proven bound tells what fits")
    if tokens is None:
        return "", DEFAULT_MIN_OUTPUT
    if type(tokens) is not int or not 1 <= tokens <= MOST_OUTPUT:
        raise Mistake("min_output", f"must be a whole number from 1 to {MOST_OUTPUT}")
    return "", tokens


def _hold(given: object) -> HoldKind:
    try:
        return HoldKind(str(given))
    except ValueError:
        raise Mistake("hold", f"cannot be {str(given)[:40]!r}", f"Use {', '.join(HoldKind)}") from None


def _max_values(given: object, scope: Scope) -> int:
    if not has_values(scope):
        if given is not None:
            raise Mistake("max_values", "is for scopes with each user, session, tag, model or deployment", "Remove it")
        return 0
    if given is None:
        return DEFAULT_MAX_VALUES
    if type(given) is not int or not 1 <= given <= MOST_VALUES:
        raise Mistake("max_values", f"must be a whole number from 1 to {MOST_VALUES}")
    return given


def _alerts(given: object) -> tuple[int, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) > MOST_ALERTS:
        raise Mistake("alerts", f"must be a list of at most {MOST_ALERTS} numbers", "Write it like [50, 80, 100]")
    if any(type(percent) is not int or not 1 <= percent <= 100 for percent in given):
        raise Mistake("alerts", "are whole per cents from 1 to 100")
    return tuple(sorted(set(given)))


def _increase(given: object, unit: Unit) -> tuple[int, int]:
    if given is None:
        return 0, 0
    if not isinstance(given, Mapping) or set(given) != {"by", "until"}:
        raise Mistake("increase", "has the members by and until", "Write it like {by: 100USD, until: 2026-12-24}")
    return read_amount(str(given["by"]), unit), read_until(str(given["until"]))


def read_amount(text: str, unit: Unit) -> int:
    """The amount of an increase, in the unit of its limit. Raises Mistake."""
    try:
        amount = parse_limit(f"{text}/total")
    except ValueError as error:
        raise Mistake("increase", str(error)) from None
    if amount.unit is not unit:
        raise Mistake("increase", f"{text[:40]!r} is of another unit than the limit", f"Give an amount of {unit.value}")
    if not 0 < amount.amount <= MAX_AMOUNT // 2:
        raise Mistake("increase", "must be more than nothing, and be countable")
    return amount.amount


def read_until(text: str) -> int:
    """A moment in ms UTC of `2026-12-24` (its first instant in UTC) or a full ISO time. Raises Mistake."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Mistake(
            "until", f"{text[:40]!r} is not a time", "Write it like 2026-12-24 or 2026-12-24T18:00:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    until_ms = max(0, int(moment.timestamp()) * 1000)
    if until_ms > LATEST_MS:
        raise Mistake("until", "is after the year 9998", "Change the amount for good instead")
    return until_ms


def write_scope(scope: Scope) -> dict[str, str]:
    """A scope as `read_scope` takes it."""
    return {dimension: EACH_WORD if value == EACH else value for dimension, value in scope}
