"""What every provider row promises, and which headers of a reply a caller gets."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.discover import discover
from gateway.providers.openai import MEMBER as OPENAI
from gateway.providers.row import ProviderRow

ROWS = discover()
parametrised = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
TOKEN = re.compile(r"^[a-z0-9-]+$")
FORBIDDEN = {
    "set-cookie", "location", "strict-transport-security", "transfer-encoding", "connection", "content-length",
    "content-encoding", "content-type", "x-request-id", "server", "www-authenticate",
}  # fmt: skip


def test_both_rows_are_found() -> None:
    assert {"openai", "simulated"} <= ROWS.keys()


@parametrised
def test_a_row_is_usable_as_it_is(row: ProviderRow) -> None:
    assert re.match(r"^[a-z][a-z0-9_]*$", row.kind)
    assert row.dialect
    assert row.base_url == "" or re.match(r"^https?://[^/]+(/[^?#]*[^/?#])?$", row.base_url)
    assert row.base_url.startswith("http://127.0.0.1:") or not row.base_url.startswith("http:"), "secrets need TLS"
    assert row.networks == (("loopback",) if row.base_url.startswith("http:") or row.free else row.networks)
    assert row.credential == "" or re.match(r"^(env:[A-Z][A-Z0-9_]*|file:/.+)$", row.credential)
    assert row.credential_required <= bool(row.credential)
    assert row.on_disconnect in ("cancel", "drain")
    assert 0 < row.keepalive_s <= 60, "shorter than the vendor's own, or a stale connection loses a call"
    for name in (row.auth_header, row.request_id_header, *(name for pair in row.reply_headers for name in pair)):
        assert TOKEN.match(name)
    assert all(TOKEN.match(prefix) for prefix in (*row.forwarded_prefixes, *row.dialect_prefixes))


@parametrised
def test_a_row_is_a_value(row: ProviderRow) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=ProviderRow) == row
    assert hash(row) == hash(ROWS[row.kind])


@parametrised
def test_no_row_passes_what_would_be_an_injection(row: ProviderRow) -> None:
    hostile = dict.fromkeys(FORBIDDEN, "x") | {f"x-ratelimit-limit-{unit}": "1" for unit in ("requests", "tokens")}
    names = {name.decode() for name, _ in row.caller_headers(hostile)}
    assert not names & FORBIDDEN
    assert not any(name.startswith(("x-ratelimit", "x-faregate")) for name in names), "those are the gateway's own"


@parametrised
@given(
    value=st.text(max_size=20)
    | st.sampled_from(["a\r\nset-cookie: x", "a\nb", "a\x00", "\x7f", "é", "a" * 513, "\x85", ""])
)
def test_no_value_can_split_an_answer(row: ProviderRow, value: str) -> None:
    for name, kept in row.caller_headers({theirs: value for theirs, _ in row.reply_headers}):
        assert re.fullmatch(rb"[a-z0-9-]+", name)
        assert re.fullmatch(rb"[\x20-\x7e]{0,512}", kept)
        assert kept == value.encode()


def test_the_openai_row_renames_what_describes_our_account() -> None:
    headers = {
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-requests": "6m0s",
        "x-request-id": "req_upstream",
        "openai-processing-ms": "55",
        "openai-organization": "secret-org",
        "retry-after": "1",
    }
    assert dict(OPENAI.caller_headers(headers)) == {
        b"x-upstream-ratelimit-remaining-tokens": b"149984",
        b"x-upstream-ratelimit-reset-requests": b"6m0s",
        b"x-upstream-request-id": b"req_upstream",
        b"openai-processing-ms": b"55",
        b"retry-after": b"1",
    }


def test_few_get_callers_headers_and_none_a_credential() -> None:
    assert {kind: row.forwarded_prefixes for kind, row in ROWS.items() if row.forwarded_prefixes} == {
        "simulated": ("x-sim-",),
    }
    assert {kind: row.dialect_prefixes for kind, row in ROWS.items() if row.dialect_prefixes} == {
        "anthropic": ("anthropic-",),
    }
