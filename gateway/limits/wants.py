"""What a call must take of each limit that matches it: requests when it is admitted, money and tokens per attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from gateway.core.caller import Caller, KeyRecord
from gateway.core.limits import ENFORCING, HoldKind, Limit, Suspension, Take, Unit, Want, Window
from gateway.limits.estimate import estimated_hold
from gateway.limits.rules import NO_RULES, Rules
from gateway.limits.scope import PLANNED, TAG, counted_value, is_owned, mark_of, values_of
from gateway.limits.values import Values
from gateway.limits.windows import Span, span_at

DEFAULT_CAPACITY = 16_384
MAX_KINDS = 65_536
"""Kinds of call remembered of all keys together: callers can make up any number of them."""
LONGEST_VALUE = 256
"""Of what callers send, so many characters tell values apart."""
_NEVER_MS = 1 << 62
_ESTIMATED = 2
"""`_Template.draws` from here on is an estimate."""
_NOTHING: Mapping[str, str] = {}


def counter_name(limit: Limit, values: Iterable[str], window_id: str) -> str:
    """`limit id|scope values|window id`: each set of values that a scope's `*` stands for has its own counter. The
    limit's mark, if it has one, stands after the window."""
    return f"{limit.id}|{counted_value(values)}|{window_id}{mark_of(limit)}"


def admit_wants(key: KeyRecord, model: str, now_ms: int) -> tuple[Want, ...]:
    """One request of each limit on requests of the key itself. Uncached: the request path uses `Wants`."""
    return Wants(capacity=1).admit(key, model, now_ms)


def reserve_wants(key: KeyRecord, now_ms: int, bound_nusd: int, token_bound: int) -> tuple[Want, ...]:
    """`bound_nusd` of each limit on money and `token_bound` of each on tokens. Uncached, as `admit_wants`."""
    return Wants(capacity=1).reserve(key, now_ms, bound_nusd, token_bound)


@dataclass(frozen=True, slots=True)
class _Template:
    """A want without its amount: all that does not change until the next window turns."""

    limit: Limit
    counter: str
    counters: tuple[str, ...]
    expires_ms: int
    resets_ms: int | None
    enforced: bool
    draws: int
    """Which of `Wants.reserve`'s amounts it takes, by its place among them."""

    def want(self, amount: int) -> Want:
        limit = self.limit
        return Want(
            Take(self.counter, limit.id, limit.unit, amount, self.expires_ms),
            limit,
            self.counters,
            self.resets_ms,
            self.enforced,
        )


@dataclass(frozen=True, slots=True)
class _Taken:
    """What one kind of call takes: its requests, ready to be counted, and what it will hold."""

    admit: tuple[Want, ...]
    reserve: tuple[_Template, ...]
    """Those on tokens last, of those on money the ones that hold estimates first: whoever asks whether there is one
    looks at the last, or at the first."""
    estimates: bool = False
    """Whether one of them holds an estimate."""


def _taken_of(admit: tuple[Want, ...], reserve: Iterable[_Template]) -> _Taken:
    ordered = tuple(
        sorted(reserve, key=lambda one: (one.limit.unit is Unit.TOKENS, one.limit.hold is not HoldKind.ESTIMATE))
    )
    return _Taken(admit, ordered, any(template.draws >= _ESTIMATED for template in ordered))


@dataclass(slots=True)
class _Open:
    """Limits of a key that ask for more than the key, and what was found for the calls it has made.

    The flags say which facts of a call the limits ask for: only those tell its calls apart.
    """

    limits: list[Limit]
    suspensions: list[Suspension]
    user: bool
    session: bool
    tags: tuple[str, ...]
    model: bool
    planned: bool
    found: dict[tuple[str, ...], _Taken] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is known of one key until `until_ms`. `key` is compared by identity: a changed key is another record."""

    key: KeyRecord
    from_ms: int
    until_ms: int
    owned: _Taken
    open: _Open | None
    spans: dict[Window, Span]


def _none() -> Iterable[str]:
    return ()


class Wants:
    """Wants with a memory: neither time zones nor counter names are computed per call, only when a window turns.

    What the key alone decides is found by the key; where limits ask for user, session, tags, model or deployment, by
    the key and those. Holds at most `capacity` keys and `kinds_max` kinds of their calls; full, it starts again.
    `live` names the counters that exist: values of before a restart count against `max_values`.
    """

    __slots__ = ("_capacity", "_entries", "_kinds", "_kinds_max", "_rules", "_values")

    def __init__(
        self,
        capacity: int = DEFAULT_CAPACITY,
        live: Callable[[], Iterable[str]] = _none,
        kinds_max: int = MAX_KINDS,
    ) -> None:
        self._capacity = capacity
        self._kinds_max = kinds_max
        self._entries: dict[str, _Entry] = {}
        self._kinds = 0
        self._rules = NO_RULES
        self._values = Values(live, self._forget)

    def use(self, rules: Rules) -> None:
        """From now on these are the limits beside the keys' own: called on each change of configuration."""
        self._rules = rules
        self._forget()
        self._values.keep(rules.limits)

    def admit(
        self, key: KeyRecord, model: str, now_ms: int, caller: Caller | None = None, user: str = ""
    ) -> tuple[Want, ...]:
        """One request of each limit on requests that matches. `model` is the public name asked for; `user` is whom the
        body names, if the caller's own headers do not. Without `caller` only limits that the key decides match.

        Raises RateLimited for a value that a limit with `max_values` has no counter left for.
        """
        entry = self._entries.get(key.key_id)
        if entry is None or entry.key is not key or not entry.from_ms <= now_ms < entry.until_ms:
            entry = self._renewed(key, now_ms)
        if entry.open is None:
            return entry.owned.admit
        return self._taken(entry, entry.open, now_ms, caller, user, model, "").admit

    def reserve(
        self,
        key: KeyRecord,
        now_ms: int,
        bound_nusd: int,
        token_bound: int,
        caller: Caller | None = None,
        user: str = "",
        model: str = "",
        deployment: str = "",
        sizes: tuple[int, int, int, int] | None = None,
    ) -> tuple[Want, ...]:
        """`bound_nusd` of each limit on money and `token_bound` of each on tokens, those on tokens last, of the others
        those that hold estimates first. `model` is the public name it is sent to, `deployment` is `provider/model`.

        Limits with `hold: estimate` take what `estimated_hold` expects of `sizes`, its arguments after the bound; the
        bound where there are none.
        A model without a price is held at 0; whether it may pass a hard limit the path decides (403 `model_unpriced`).
        Raises RateLimited as `admit`.
        """
        entry = self._entries.get(key.key_id)
        if entry is None or entry.key is not key or not entry.from_ms <= now_ms < entry.until_ms:
            entry = self._renewed(key, now_ms)
        taken = entry.owned
        if entry.open is not None:
            taken = self._taken(entry, entry.open, now_ms, caller, user, model, deployment)
        amounts = (bound_nusd, token_bound, bound_nusd, token_bound)
        if taken.estimates and sizes is not None:
            nusd, tokens = estimated_hold(bound_nusd, *sizes)
            amounts = (bound_nusd, token_bound, min(nusd, bound_nusd), min(tokens, token_bound))
        return tuple([template.want(amounts[template.draws]) for template in taken.reserve])

    # ------------------------------------------------------------ within

    def _taken(
        self, entry: _Entry, asks: _Open, now_ms: int, caller: Caller | None, user: str, model: str, deployment: str
    ) -> _Taken:
        """What this call takes: remembered by what its limits ask for."""
        sent = []
        if asks.user:
            sent.append(((caller.user if caller is not None else "") or user)[:LONGEST_VALUE])
        if asks.session:
            sent.append(caller.session if caller is not None else "")
        if asks.model:
            sent.append(self._rules.aliases.get(model, model)[:LONGEST_VALUE])
        if asks.planned:
            sent.append(deployment)
        if asks.tags:
            tags = dict(caller.tags) if caller is not None else _NOTHING
            sent.extend([tags.get(name, "") for name in asks.tags])
        told = tuple(sent)
        taken = asks.found.get(told)
        if taken is None:
            if self._kinds >= self._kinds_max:
                self._forget()
            taken = asks.found[told] = self._matched(entry, asks, told, now_ms)
            self._kinds += 1
        return taken

    def _matched(self, entry: _Entry, asks: _Open, told: tuple[str, ...], now_ms: int) -> _Taken:
        """The key's own limits, and those of the open ones that match. Raises RateLimited."""
        sent = _named(asks, told)
        lifted = [one for one in asks.suspensions if values_of(one.scope, entry.key, sent) is not None]
        found = []
        for limit in asks.limits:
            values = values_of(limit.scope, entry.key, sent)
            if values is None:
                continue
            span = entry.spans[limit.window]
            enforced = _enforced(limit, lifted)
            if not limit.max_values or self._values.admit(limit, values, span, now_ms, enforced):
                found.append(_template(limit, values, span, now_ms, enforced))
        mine = [_lifted(template, lifted) for template in entry.owned.reserve]
        counted = [
            want if not want.enforced or _enforced(want.limit, lifted) else _unenforced(want)
            for want in entry.owned.admit
        ]
        return _taken_of(
            (*counted, *(template.want(1) for template in found if template.limit.unit is Unit.REQUESTS)),
            (*mine, *(template for template in found if template.limit.unit is not Unit.REQUESTS)),
        )

    def _forget(self) -> None:
        self._entries.clear()
        self._kinds = 0

    def _renewed(self, key: KeyRecord, now_ms: int) -> _Entry:
        if len(self._entries) >= self._capacity:
            self._entries.clear()
        entry = self._entries[key.key_id] = _compute(key, self._rules, now_ms)
        return entry


def _compute(key: KeyRecord, rules: Rules, now_ms: int) -> _Entry:
    limits = [*key.limits, *rules.of(key)] if rules else list(key.limits)
    suspensions = rules.suspended(key, now_ms) if rules else []
    spans = {limit.window: span_at(limit.window, now_ms) for limit in limits}
    owned = [limit for limit in limits if is_owned(limit.scope)]
    lifted = [one for one in suspensions if is_owned(one.scope)]
    templates = []
    for limit in owned:
        values = values_of(limit.scope, key, _NOTHING)
        if values is not None:
            templates.append(_template(limit, values, spans[limit.window], now_ms, _enforced(limit, lifted)))
    rest = [limit for limit in limits if not is_owned(limit.scope)]
    open_ended = [one for one in suspensions if not is_owned(one.scope)]
    return _Entry(
        key=key,
        from_ms=now_ms,
        until_ms=_until_ms(limits, suspensions, spans, now_ms),
        owned=_taken_of(
            tuple(template.want(1) for template in templates if template.limit.unit is Unit.REQUESTS),
            (template for template in templates if template.limit.unit is not Unit.REQUESTS),
        ),
        open=_opened(rest, [*lifted, *open_ended]) if rest or open_ended else None,
        spans=spans,
    )


def _until_ms(
    limits: Iterable[Limit], suspensions: Iterable[Suspension], spans: Mapping[Window, Span], now_ms: int
) -> int:
    """The first moment at which something may be different: a window turns, an increase or a suspension ends."""
    ends = [span.turns_ms for span in spans.values() if span.turns_ms is not None]
    ends += [limit.increase_until_ms for limit in limits if limit.increase_until_ms > now_ms]
    ends += [suspension.until_ms for suspension in suspensions]
    return min(ends, default=_NEVER_MS)


def _opened(limits: list[Limit], suspensions: list[Suspension]) -> _Open:
    scopes = [*(limit.scope for limit in limits), *(one.scope for one in suspensions)]
    asked = {dimension for scope in scopes for dimension, _ in scope}
    return _Open(
        limits=limits,
        suspensions=suspensions,
        user="user" in asked,
        session="session" in asked,
        tags=tuple(sorted(name[len(TAG) :] for name in asked if name.startswith(TAG))),
        model="model" in asked,
        planned=not PLANNED.isdisjoint(asked),
    )


def _named(asks: _Open, told: tuple[str, ...]) -> dict[str, str]:
    """The facts of `Wants._taken` by their dimensions."""
    left = iter(told)
    sent = {name: next(left) for name in ("user", "session", "model") if getattr(asks, name)}
    if asks.planned:
        deployment = next(left)
        sent |= {"deployment": deployment, "provider": deployment.partition("/")[0]}
    return sent | {f"{TAG}{name}": value for name, value in zip(asks.tags, left, strict=True)}


def _enforced(limit: Limit, lifted: Iterable[Suspension]) -> bool:
    return limit.on_exceed in ENFORCING and not any(one.limit_id in ("", limit.id) for one in lifted)


def _lifted(template: _Template, lifted: Iterable[Suspension]) -> _Template:
    if not template.enforced or _enforced(template.limit, lifted):
        return template
    return replace(template, enforced=False)


def _unenforced(want: Want) -> Want:
    return Want(want.take, want.limit, want.counters, want.resets_ms, False)


def _template(limit: Limit, values: tuple[str, ...], span: Span, now_ms: int, enforced: bool) -> _Template:
    beginning, mark = f"{limit.id}|{counted_value(values)}|", mark_of(limit)
    return _Template(
        limit=_as_of(limit, now_ms),
        counter=f"{beginning}{span.id}{mark}",
        counters=tuple([f"{beginning}{window_id}{mark}" for window_id in span.ids]),
        expires_ms=span.expires_ms,
        resets_ms=span.end_ms,
        enforced=enforced,
        draws=(limit.unit is not Unit.USD) + _ESTIMATED * (limit.hold is HoldKind.ESTIMATE),
    )


def _as_of(limit: Limit, now_ms: int) -> Limit:
    """The limit with what it allows now: an increase is part of the amount while it lasts."""
    if now_ms >= limit.increase_until_ms:
        return limit
    return msgspec.structs.replace(limit, amount=limit.amount_at(now_ms), increase=0, increase_until_ms=0)
