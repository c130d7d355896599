"""The rate-limit headers of each dialect, letter by letter, and the provider's own beside them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.limits import Blocked, Limit, Take, Unit, Want, Window, WindowKind
from gateway.limits.headers import Headers, kept, print_wait, rate_headers
from gateway.limits.refusal import refusal_for

NOW_MS = 1_795_608_000_000  # 2026-11-25T12:00:00Z
MINUTE = Window(WindowKind.ROLLING, 60)
OPENAI = {
    Unit.REQUESTS: {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
    },
    Unit.TOKENS: {
        "x-ratelimit-limit-tokens": "60",
        "x-ratelimit-remaining-tokens": "59",
        "x-ratelimit-reset-tokens": "1s",
    },
}
ANTHROPIC = {
    Unit.REQUESTS: {
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "59",
        "anthropic-ratelimit-requests-reset": "2026-11-25T12:00:01Z",
    },
    Unit.TOKENS: {
        "anthropic-ratelimit-tokens-limit": "60",
        "anthropic-ratelimit-tokens-remaining": "59",
        "anthropic-ratelimit-tokens-reset": "2026-11-25T12:00:01Z",
    },
}


def text(headers: Headers) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}


@pytest.mark.parametrize("unit", [Unit.REQUESTS, Unit.TOKENS])
@pytest.mark.parametrize(("dialect", "golden"), [("openai_chat", OPENAI), ("anthropic_messages", ANTHROPIC)])
def test_golden(dialect: str, golden: dict[Unit, dict[str, str]], unit: Unit) -> None:
    assert text(rate_headers(dialect, unit, 60, 59, NOW_MS + 1000, NOW_MS)) == golden[unit]


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages", "gemini", ""])
def test_a_window_without_an_end_has_no_reset_and_nothing_is_below_nothing(dialect: str) -> None:
    found = text(rate_headers(dialect, Unit.TOKENS, 60, -5, None, NOW_MS))
    assert sorted(found.values()) == ["0", "60"]
    assert not any("reset" in name for name in found)


@pytest.mark.parametrize(
    ("ms", "written"),
    [
        (0, "0ms"),
        (999, "999ms"),
        (1000, "1s"),
        (58_001, "59s"),
        (59_001, "1m0s"),
        (360_000, "6m0s"),
        (3_723_000, "1h2m3s"),
    ],
)
def test_lengths_of_time_as_openai_writes_them(ms: int, written: str) -> None:
    assert print_wait(ms) == written


def test_the_providers_own_are_kept_where_the_key_has_no_limit_of_the_kind() -> None:
    theirs: Any = [
        (b"x-upstream-request-id", b"up-1"),
        (b"x-upstream-ratelimit-limit-requests", b"9"),
        (b"x-upstream-ratelimit-remaining-tokens", b"700"),
    ]
    plain = {"x-ratelimit-limit-requests": "9", "x-ratelimit-remaining-tokens": "700"}
    assert text(kept((), tuple(theirs))) == plain
    assert text(kept(((b"x-faregate-downgraded", b"a -> b"),), tuple(theirs))) == plain
    ours = rate_headers("openai_chat", Unit.REQUESTS, 60, 59, None, NOW_MS)
    assert text(kept(ours, tuple(theirs))) == {"x-ratelimit-remaining-tokens": "700"}
    assert kept(ours, ((b"retry-after", b"1"),)) == ()


@pytest.mark.parametrize(("dialect", "golden"), [("openai_chat", OPENAI), ("anthropic_messages", ANTHROPIC)])
@pytest.mark.parametrize("by_spent", [True, False])
def test_refusals_say_it_in_the_callers_dialect(
    dialect: str, golden: dict[Unit, dict[str, str]], by_spent: bool
) -> None:
    limit = Limit("l", Unit.TOKENS, 60, MINUTE, (("key", "k"),))
    want = Want(Take("l|k|60s:1", "l", Unit.TOKENS, 60), limit, ("l|k|60s:1",), NOW_MS + 1000)
    error = refusal_for(Blocked(want, 1, 0, by_spent, NOW_MS + 1000), NOW_MS, dialect=dialect)
    assert golden[Unit.TOKENS].items() <= error.headers.items()
    assert not [name for name in error.headers if "ratelimit" in name and name not in golden[Unit.TOKENS]]


def test_a_refused_budget_has_none() -> None:
    limit = Limit("l", Unit.USD, 60, MINUTE, (("key", "k"),))
    want = Want(Take("l|k|60s:1", "l", Unit.USD, 60), limit, ("l|k|60s:1",), NOW_MS + 1000)
    for by_spent in (True, False):
        error = refusal_for(Blocked(want, 1, 0, by_spent, None), NOW_MS)
        assert not [name for name in error.headers if "ratelimit" in name]
