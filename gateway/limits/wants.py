"""What a call must take of each limit of its key: requests when it is admitted, money and tokens per attempt."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.caller import KeyRecord
from gateway.core.limits import Limit, OnExceed, Take, Unit, Want
from gateway.limits.windows import Span, span_at

DEFAULT_CAPACITY = 16_384


def counter_name(limit: Limit, key: KeyRecord, window_id: str) -> str:
    """`limit id|scope value|window id`. A scope value `*` stands for the key's own: each key, team or org has its own
    counter then."""
    return f"{limit.id}|{_scope_value(limit, key)}|{window_id}"


def _scope_value(limit: Limit, key: KeyRecord) -> str:
    own = {"key": key.key_id, "team": key.team, "org": key.org}
    return ",".join(own.get(dimension, value) if value == "*" else value for dimension, value in limit.scope)


def admit_wants(key: KeyRecord, model: str, now_ms: int) -> tuple[Want, ...]:
    """One request of each limit on requests. `model` is for limits scoped to a model, which `Limit` does not have yet.
    Uncached: the request path uses `Wants`."""
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
class _Entry:
    """What is known of one key until `until_ms`. `key` is compared by identity: a changed key is another record."""

    key: KeyRecord
    from_ms: int
    until_ms: int | None
    admit: tuple[Want, ...]
    reserve: tuple[_Template, ...]


class Wants:
    """Wants with a cache: neither time zones nor counter names are computed per call, only when a window turns.

    Holds at most `capacity` keys; when full it starts again, which costs each key one computation.
    """

    __slots__ = ("_capacity", "_entries")

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._entries: dict[str, _Entry] = {}

    def admit(self, key: KeyRecord, model: str, now_ms: int) -> tuple[Want, ...]:
        """As `admit_wants`."""
        return self._entry(key, now_ms).admit

    def reserve(self, key: KeyRecord, now_ms: int, bound_nusd: int, token_bound: int) -> tuple[Want, ...]:
        """As `reserve_wants`. A model without a price is held at 0; whether it may pass a hard limit the path
        decides (403 `model_unpriced`)."""
        return tuple(
            [
                template.want(bound_nusd if template.limit.unit is Unit.USD else token_bound)
                for template in self._entry(key, now_ms).reserve
            ]
        )

    def _entry(self, key: KeyRecord, now_ms: int) -> _Entry:
        entry = self._entries.get(key.key_id)
        if (
            entry is not None
            and entry.key is key
            and entry.from_ms <= now_ms
            and (entry.until_ms is None or now_ms < entry.until_ms)
        ):
            return entry
        if len(self._entries) >= self._capacity:
            self._entries.clear()
        entry = self._entries[key.key_id] = _compute(key, now_ms)
        return entry


def _compute(key: KeyRecord, now_ms: int) -> _Entry:
    spans = {limit.window: span_at(limit.window, now_ms) for limit in key.limits}
    templates = [_template(limit, key, spans[limit.window]) for limit in key.limits]
    turns = [span.turns_ms for span in spans.values() if span.turns_ms is not None]
    return _Entry(
        key=key,
        from_ms=now_ms,
        until_ms=min(turns, default=None),
        admit=tuple(template.want(1) for template in templates if template.limit.unit is Unit.REQUESTS),
        reserve=tuple(template for template in templates if template.limit.unit is not Unit.REQUESTS),
    )


def _template(limit: Limit, key: KeyRecord, span: Span) -> _Template:
    return _Template(
        limit=limit,
        counter=counter_name(limit, key, span.id),
        counters=tuple(counter_name(limit, key, window_id) for window_id in span.ids),
        expires_ms=span.expires_ms,
        resets_ms=span.end_ms,
        enforced=limit.on_exceed is OnExceed.BLOCK,
    )
