"""Alerts in words: what happened, whom it concerns, what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from gateway.alerts.forecast import Forecast
from gateway.alerts.periods import Period
from gateway.alerts.spending import Runaway, Subject
from gateway.alerts.thresholds import level_of
from gateway.core.alerts import Alert, AlertKind, AlertRules, Figure, Severity
from gateway.core.caller import KeyRecord
from gateway.core.ids import print_id
from gateway.core.limits import EACH, ENFORCING, Limit, OnExceed, Suspension, Unit
from gateway.core.money import print_usd
from gateway.limits.scope import scope_words, shown_values
from gateway.limits.text import write_limit

ALERT = "alr"
Scope = tuple[tuple[str, str], ...]
_CRITICAL_PERCENT = 100
_WARNING_PERCENT = 80


def alert_id(dedupe: str) -> str:
    """`alr_…`: the same for the same alert, whoever finds it and however often."""
    return print_id(ALERT, blake2b(dedupe.encode("utf-8", "surrogatepass"), digest_size=16).digest())


def percent_reached(
    limit: Limit, values: str, period: Period, percent: int, spent: int, amount: int, now_ms: int, key: KeyRecord | None
) -> Alert:
    """`percent` of `amount` is spent, or (100) the limit refuses calls. `key` is the key it is of, if it is one's."""
    scope = scope_of(limit, values)
    reached = spent >= level_of(percent, amount)
    words = _limit_words(limit, scope, key)
    what = f"{percent} % of {words} spent" if reached else f"{words} is used up"
    alert = Alert(
        id=alert_id(dedupe := f"threshold|{limit.id}|{values}|{period.name}|{percent}|{amount}"),
        dedupe=dedupe,
        kind=AlertKind.THRESHOLD,
        severity=_severity(percent),
        created_ms=now_ms,
        title=f"{what}: {_amount(spent, limit.unit)} of {_amount(amount, limit.unit)}",
        next_step=_threshold_step(limit, percent),
        scope=scope,
        limit_id=limit.id,
        period=period.name,
        period_ends_ms=period.end_ms,
        figures=(_figure("spent", spent, limit.unit), _figure("limit", amount, limit.unit), _percent(percent)),
    )
    return _concerning(alert, scope, key)


def refuses_large(
    limit: Limit, values: str, period: Period, share: int, spent: int, amount: int, now_ms: int, key: KeyRecord | None
) -> Alert:
    """A call was refused though much of the limit is left: it could have cost more than that. `share` marks it."""
    alert = percent_reached(limit, values, period, share, spent, amount, now_ms, key)
    return msgspec.structs.replace(
        alert,
        severity=Severity.WARNING,
        title=f"{_limit_words(limit, alert.scope, key)} refused a call that could cost more than is left: "
        f"{_amount(spent, limit.unit)} of {_amount(amount, limit.unit)} spent",
        next_step="Smaller calls go on. Ask for less output (max_tokens) or a cheaper model, or raise the limit "
        "(`faregate limits increase`).",
        figures=alert.figures[:2],
    )


def forecast_exceeds(
    limit: Limit,
    values: str,
    period: Period,
    found: Forecast,
    spent: int,
    amount: int,
    now_ms: int,
    key: KeyRecord | None,
) -> Alert:
    scope = scope_of(limit, values)
    alert = Alert(
        id=alert_id(dedupe := f"forecast|{limit.id}|{values}|{period.name}|{amount}"),
        dedupe=dedupe,
        kind=AlertKind.FORECAST,
        severity=Severity.WARNING,
        created_ms=now_ms,
        title=f"{_limit_words(limit, scope, key)} will not last: {_amount(found.projected, limit.unit)} at this pace, "
        f"{_amount(amount, limit.unit)} allowed; used up about {moment(found.exhausted_ms)}",
        next_step="Raise the limit, or look at what spends it (faregate spend), before it refuses calls."
        if limit.on_exceed in ENFORCING
        else "Look at what spends it (faregate spend), or raise the limit.",
        scope=scope,
        limit_id=limit.id,
        period=period.name,
        period_ends_ms=period.end_ms,
        figures=(
            _figure("projected", found.projected, limit.unit),
            _figure("spent", spent, limit.unit),
            _figure("limit", amount, limit.unit),
            Figure("exhausted_at", found.exhausted_ms, "ms"),
        ),
    )
    return _concerning(alert, scope, key)


def spends_too_fast(
    subject: Subject, found: Runaway, rules: AlertRules, now_ms: int, key: KeyRecord | None, note: str
) -> Alert:
    """`note` says what is not known of the usual spending."""
    who = f"key {_key_name(subject.key_id, key)}"
    if subject.dimension != "key":
        who = f"{subject.dimension} {subject.value} of {who}"
    usual = "unknown" if found.usual_nusd is None else _amount(found.usual_nusd, Unit.USD)
    why = f"over {_amount(rules.rate_per_hour_nusd, Unit.USD)} an hour" if found.per_hour else f"usual is {usual}"
    scope: Scope = (("org", subject.org), ("team", subject.team), ("key", subject.key_id))
    if subject.dimension != "key":
        scope = (*scope, (subject.dimension, subject.value))
    figures = [_figure("spent_in_60_minutes", found.spent_nusd, Unit.USD)]
    if found.usual_nusd is not None:
        figures.append(_figure("same_hour_median", found.usual_nusd, Unit.USD))
    if found.per_hour:
        figures.append(_figure("limit_per_hour", rules.rate_per_hour_nusd, Unit.USD))
    pace = "|".join((subject.dimension, subject.org, subject.key_id, subject.value))
    return Alert(
        id=alert_id(dedupe := f"rate_of_spend|{pace}|{now_ms}"),
        dedupe=dedupe,
        kind=AlertKind.RATE_OF_SPEND,
        severity=Severity.CRITICAL,
        created_ms=now_ms,
        title=f"{who} spent {_amount(found.spent_nusd, Unit.USD)} in the last 60 minutes ({why})",
        next_step="If nobody means this, open the pause link: it shows what it would stop before it does. Without one: "
        f"`faregate keys pause {subject.key_id}`.",
        org=subject.org,
        team=subject.team,
        key_id=subject.key_id,
        scope=scope,
        period=f"60 minutes to {moment(now_ms)}",
        figures=tuple(figures),
        note=note,
    )


def limits_suspended(suspension: Suspension, now_ms: int, key: KeyRecord | None) -> Alert:
    scope = tuple(suspension.scope)
    what = f"limit {suspension.limit_id}" if suspension.limit_id else "every limit"
    alert = Alert(
        id=alert_id(dedupe := f"suspension|{suspension.id}"),
        dedupe=dedupe,
        kind=AlertKind.SUSPENSION,
        severity=Severity.WARNING,
        created_ms=now_ms,
        title=f"Until {moment(suspension.until_ms)} {what} refuses nothing of {scope_words(scope)} "
        f"(by {suspension.actor}: {suspension.reason})",
        next_step=f"If that is not meant, `faregate limits resume {suspension.id}` ends it now.",
        scope=scope,
        limit_id=suspension.limit_id,
        period_ends_ms=suspension.until_ms,
    )
    return _concerning(alert, scope, key)


def limit_increased(limit: Limit, now_ms: int, key: KeyRecord | None) -> Alert:
    more = _amount(limit.increase, limit.unit)
    alert = Alert(
        id=alert_id(dedupe := f"increase|{limit.id}|{limit.increase}|{limit.increase_until_ms}"),
        dedupe=dedupe,
        kind=AlertKind.INCREASE,
        severity=Severity.INFO,
        created_ms=now_ms,
        title=f"{_limit_words(limit, limit.scope, key)} allows {more} more until {moment(limit.increase_until_ms)}",
        next_step="`faregate config log` says who did it; `faregate limits increase NAME none` ends it."
        if limit.origin == "sql"
        else f"It stands in {limit.origin}.",
        scope=limit.scope,
        limit_id=limit.id,
        period_ends_ms=limit.increase_until_ms,
        figures=(_figure("increase", limit.increase, limit.unit), _figure("limit", limit.amount, limit.unit)),
    )
    return _concerning(alert, limit.scope, key)


def model_unpriced(deployment: str, model: str, org: str, now_ms: int) -> Alert:
    day = datetime.fromtimestamp(now_ms // 1000, UTC).date().isoformat()
    return Alert(
        id=alert_id(dedupe := f"unpriced|{org}|{deployment}|{day}"),
        dedupe=dedupe,
        kind=AlertKind.UNPRICED,
        severity=Severity.WARNING,
        created_ms=now_ms,
        title=f"{deployment} answers calls and has no price: what they cost is not known",
        next_step=f"Give {model} a price in policies/prices.yaml (an explicit 0 if it costs nothing).",
        org=org,
        scope=(("org", org), ("deployment", deployment)),
        period=day,
    )


def recording_delayed(behind_ms: int, behind_bytes: int, fault: str, now_ms: int) -> Alert:
    return Alert(
        id=alert_id(dedupe := f"recording_delay|{now_ms}"),
        dedupe=dedupe,
        kind=AlertKind.RECORDING_DELAY,
        severity=Severity.CRITICAL,
        created_ms=now_ms,
        title=f"The newest usage in SQL is {behind_ms // 1000} s old: {fault or 'recording does not keep up'}",
        next_step="Nothing is lost: the journals keep it. Look at SQL, and at the free space of the data folder.",
        figures=(Figure("behind", behind_ms, "ms"), Figure("behind", behind_bytes, "bytes")),
    )


def journal_faulty(fault: str, now_ms: int) -> Alert:
    return Alert(
        id=alert_id(dedupe := f"journal_fault|{now_ms}"),
        dedupe=dedupe,
        kind=AlertKind.JOURNAL_FAULT,
        severity=Severity.CRITICAL,
        created_ms=now_ms,
        title=f"A journal cannot be read further: {fault}",
        next_step="Run `faregate ledger verify` and keep the data folder as it is; docs/journal.md says more.",
    )


def trial(channel: str, org: str, actor: str, now_ms: int) -> Alert:
    """What `faregate alerts test` sends."""
    return Alert(
        id=alert_id(dedupe := f"test|{channel}|{actor}|{now_ms}"),
        dedupe=dedupe,
        kind=AlertKind.TEST,
        severity=Severity.INFO,
        created_ms=now_ms,
        title=f"A test of the channel {channel}, asked for by {actor}",
        next_step="Nothing is to be done: this channel works.",
        org=org,
        figures=(_figure("spent", 1_234_567_890, Unit.USD),),
    )


def moment(ms: int) -> str:
    """`2026-11-29 13:05 UTC`."""
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%d %H:%M} UTC"


# ---------------------------------------------------------------- within


def _severity(percent: int) -> Severity:
    if percent >= _CRITICAL_PERCENT:
        return Severity.CRITICAL
    return Severity.WARNING if percent >= _WARNING_PERCENT else Severity.INFO


def _threshold_step(limit: Limit, percent: int) -> str:
    if percent < _CRITICAL_PERCENT:
        return "Look at what spends it (faregate spend), and raise the limit in time if that is right."
    match limit.on_exceed:
        case OnExceed.BLOCK:
            return (
                "Calls are refused until the window ends; `faregate limits increase` (or `keys update`) lets more in."
            )
        case OnExceed.DOWNGRADE:
            return f"Calls that do not fit go on with {limit.downgrade_to}; `faregate limits increase` lets more in."
        case OnExceed.CAP_OUTPUT:
            return (
                "Answers are cut shorter, or refused where too little is left; `faregate limits increase` lets more in."
            )
        case OnExceed.ALERT | OnExceed.DRY_RUN:
            return "Nothing is refused: this limit only tells. Decide whether it should block (on_exceed)."


def scope_of(limit: Limit, values: str) -> Scope:
    """A limit's dimensions with the values that were counted."""
    shown = shown_values(values) if values else []
    if len(shown) != len(limit.scope):
        return limit.scope
    return tuple((name, value) for (name, _), value in zip(limit.scope, shown, strict=True))


def _limit_words(limit: Limit, scope: Iterable[tuple[str, str]], key: KeyRecord | None) -> str:
    """With the key's name: nobody knows ids at night. The id of a file's limit is the name that it has there."""
    own = limit.name or ("" if limit.origin == "sql" else limit.id)
    name = f"{own} " if own else ""
    if key is not None:
        scope = [
            (one, _key_name(value, key) if one == "key" and value == key.key_id else value) for one, value in scope
        ]
    return f"limit {name}({write_limit(limit)}, {scope_words(scope)})"


def _concerning(alert: Alert, scope: Scope, key: KeyRecord | None) -> Alert:
    """The alert with whom its scope concerns; a key says its team and org."""
    if key is not None:
        return msgspec.structs.replace(alert, org=key.org, team=key.team, key_id=key.key_id)
    found = {name: value for name, value in scope if value != EACH}
    org, team, key_id = (found.get(name, "") for name in ("org", "team", "key"))
    return msgspec.structs.replace(alert, org=org, team=team, key_id=key_id)


def _key_name(key_id: str, key: KeyRecord | None) -> str:
    return f"{key.name} ({key_id})" if key is not None and key.name else key_id


def _amount(amount: int, unit: Unit) -> str:
    return f"{print_usd(amount)} USD" if unit is Unit.USD else f"{amount:,} {unit.value}"


def _figure(name: str, amount: int, unit: Unit) -> Figure:
    return Figure(
        name, amount, "nusd" if unit is Unit.USD else unit.value, print_usd(amount) if unit is Unit.USD else None
    )


def _percent(percent: int) -> Figure:
    return Figure("threshold", percent, "percent")
