"""Routes by owner, attempts by chance, periods by counter names, links by signature."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.alerts.pausing import Pause, pause_of, read, sign
from gateway.alerts.periods import forget_after_ms, period_of, read_counter
from gateway.alerts.retry import GIVE_UP_MS, LONGEST_MS, next_attempt_ms
from gateway.alerts.routes import channels_of
from gateway.alerts.spending import Runaway, Subject
from gateway.alerts.telling import alert_id, percent_reached, scope_of, spends_too_fast, trial
from gateway.alerts.written import read_alerts
from gateway.core.alerts import AlertKind, AlertPolicy, AlertRules, Channel, ChannelKind, Route
from gateway.core.caller import KeyRecord
from gateway.core.errors import NotPermitted
from gateway.core.limits import EACH, Limit, Unit, Window, WindowKind
from gateway.limits.wants import counter_name
from gateway.limits.windows import span_at

CHANNELS = tuple(Channel(name, ChannelKind.SLACK, secret="env:S") for name in ("a", "b", "c"))
ALERT = msgspec.structs.replace(trial("x", "acme", "tester", 1), team="growth", key_id="k1", kind=AlertKind.FORECAST)
SECRET = b"s" * 32


@pytest.mark.parametrize(
    ("routes", "told"),
    [
        ((), ("c",)),
        ((Route(("a",), org="acme"),), ("a",)),
        ((Route(("a",), org="other"),), ("c",)),
        ((Route(("a",), org="acme"), Route(("b",), team="growth")), ("b",)),
        ((Route(("a",), team="growth"), Route(("b",), key_id="k1")), ("b",)),
        ((Route(("a",), kinds=(AlertKind.FORECAST,)), Route(("b",), org="acme")), ("b",)),
        ((Route(("a",), org="acme"), Route(("b",), org="acme", kinds=(AlertKind.FORECAST,))), ("b",)),
        ((Route(("a",), org="acme"), Route(("b",), org="acme")), ("a",)),
        ((Route((), key_id="k1"), Route(("b",), org="acme")), ()),
        ((Route(("a", "gone", "a"), key_id="k1"),), ("a",)),
        ((Route(("a",), kinds=(AlertKind.INCREASE,)),), ("c",)),
    ],
)
def test_the_narrowest_owner_is_told(routes: tuple[Route, ...], told: tuple[str, ...]) -> None:
    assert channels_of(AlertPolicy(CHANNELS, ("c",), routes), ALERT) == told


@given(st.integers(0, GIVE_UP_MS - 1), st.integers(1, 500), st.binary(min_size=4, max_size=4))
def test_an_attempt_is_soon_and_within_a_day(gone_ms: int, attempts: int, chance: bytes) -> None:
    created_ms = 10**12
    now_ms = created_ms + gone_ms
    next_ms = next_attempt_ms(created_ms, now_ms, attempts, chance)
    assert next_ms is not None
    assert now_ms < next_ms <= min(now_ms + LONGEST_MS, created_ms + GIVE_UP_MS)
    assert next_attempt_ms(created_ms, created_ms + GIVE_UP_MS, attempts, chance) is None


def test_jitter_is_full() -> None:
    waits = [next_attempt_ms(0, 1, 12, bytes([first, 0, 0, 0])) for first in range(256)]
    assert min(waits) < 2_000 < LONGEST_MS * 0.98 < max(waits)  # type: ignore[type-var]


WINDOWS = st.sampled_from(
    [Window(kind, zone=zone) for kind in (WindowKind.HOUR, WindowKind.DAY, WindowKind.WEEK, WindowKind.MONTH)
     for zone in ("UTC", "Europe/Vienna")] + [Window(WindowKind.TOTAL), Window(WindowKind.ROLLING, 86_400)]
)  # fmt: skip


@given(WINDOWS, st.integers(0, 2**41), st.sampled_from(["sql", "limits.yaml:3"]), st.text(min_size=1, max_size=80))
def test_a_counters_name_tells_its_period(window: Window, now_ms: int, origin: str, user: str) -> None:
    limit = Limit("lim_1", Unit.USD, 5, window, (("key", "k1"), ("user", EACH)), origin=origin)
    span = span_at(window, now_ms)
    name = counter_name(limit, ("k1", user), span.id)
    counter = read_counter(name)
    assert counter is not None
    assert (counter.limit_id, counter.window_id) == ("lim_1", span.id)
    period = period_of(limit, counter, now_ms)
    assert period is not None
    assert name in period.counters
    assert (period.end_ms is None) == (window.kind is WindowKind.TOTAL)
    assert period.end_ms is None or forget_after_ms(period) > period.end_ms > now_ms - 86_400_000
    if window.kind is not WindowKind.ROLLING:
        assert period.counters == (name,)
    if len(user) <= 24:
        assert dict(scope_of(limit, counter.values)) == {"key": "k1", "user": user}


def test_names_of_others_have_no_period() -> None:
    assert read_counter("key_1|total") is None
    daily = Limit("lim_1", Unit.USD, 5, Window(WindowKind.DAY), (("key", "k1"),))
    for window_id in ("all", "60s:17", "3600s:x"):
        counter = read_counter(f"lim_1|k1|{window_id}")
        assert counter is not None
        rolling = msgspec.structs.replace(daily, window=Window(WindowKind.ROLLING, 7200))
        assert period_of(rolling, counter, 10**12) is None
    assert period_of(daily, read_counter("lim_1|k1|all"), 10**12) is None  # type: ignore[arg-type]


def test_an_alert_is_the_same_whoever_finds_it() -> None:
    limit = Limit("lim_1", Unit.TOKENS, 1000, Window(WindowKind.DAY), (("team", "growth"),), name="tokens")
    period = period_of(limit, read_counter("lim_1|growth|2026-11-29"), 1_795_950_000_000)  # type: ignore[arg-type]
    assert period is not None
    first = percent_reached(limit, "growth", period, 80, 801, 1000, 5, None)
    again = percent_reached(limit, "growth", period, 80, 950, 1000, 9, None)
    raised = percent_reached(limit, "growth", period, 80, 950, 1100, 9, None)
    assert first.id == again.id == alert_id(first.dedupe)
    assert raised.id != first.id
    assert (first.org, first.team, first.key_id) == ("", "growth", "")
    assert first.title == "80 % of limit tokens (1000tokens/day, team:growth) spent: 801 tokens of 1,000 tokens"
    assert [figure.usd for figure in first.figures] == [None, None, None]


@given(st.text(max_size=300), st.integers(0, 2**50), st.integers(0, 400), st.integers(0, 255))
def test_a_link_is_what_was_signed_or_nothing(value: str, expires_ms: int, place: int, byte: int) -> None:
    pause = Pause("alr_1", (("org", "acme"), ("key", "k1"), ("user", value)), expires_ms)
    token = sign(pause, SECRET)
    assert read(token, SECRET, expires_ms - 1) == pause
    for wrong in (lambda: read(token, SECRET, expires_ms), lambda: read(token, b"t" * 32, 0)):
        with pytest.raises(NotPermitted):
            wrong()
    bent = bytearray(token.encode())
    bent[place % len(bent)] = byte
    try:
        found = read(bent.decode("latin-1"), SECRET, expires_ms - 1)
    except NotPermitted:
        return
    assert found == pause, "only the last character has bits that mean nothing"


def test_a_key_is_told_by_its_name() -> None:
    limit = Limit("lim_1", Unit.USD, 1000, Window(WindowKind.DAY), (("key", "k1"), ("user", EACH)))
    period = period_of(limit, read_counter("lim_1|k1,k1|2026-11-29"), 1_795_950_000_000)  # type: ignore[arg-type]
    assert period is not None
    key = KeyRecord("k1", "billing app", "acme", "growth", "data", ())
    told = percent_reached(limit, "k1,k1", period, 80, 801, 1000, 5, key)
    assert "key:billing app (k1) user:k1)" in told.title
    assert told.scope == (("key", "k1"), ("user", "k1"))


@pytest.mark.parametrize("dimension", ["user", "session"])
def test_whoever_calls_himself_everybody_cannot_stop_the_key(dimension: str) -> None:
    subject = Subject(dimension, "acme", "growth", "k1", EACH)
    told = spends_too_fast(subject, Runaway(5, None, per_hour=False), AlertRules(), 5, None, "")
    assert pause_of(told, 9) is None
    ordinary = spends_too_fast(
        msgspec.structs.replace(subject, value="ann"), Runaway(5, None, per_hour=False), AlertRules(), 5, None, ""
    )
    assert pause_of(ordinary, 9) is not None
    assert "faregate keys pause k1" in ordinary.next_step, "where there are no links, this is what to do"


@pytest.mark.parametrize(
    "address", ["a..b@example.com", "ops@example..com", "ops@[example", "a(b@example.com", "Zoë@x.y"]
)
def test_an_address_that_no_header_can_have_is_refused_in_the_file(address: str) -> None:
    channel = {"email": [address], "smtp": "smtp.example.com:587", "from": "faregate@example.com"}
    _, faults = read_alerts({"channels": {"finance": channel}})
    assert [fault.place for fault in faults] == [("channels", "finance", "email")]
    _, faults = read_alerts({"channels": {"finance": {**channel, "email": ["ops+1@mail.example.com"]}}})
    assert faults == []
