"""Identifiers print and parse without loss and sort by age; records keep their meaning when fields are added."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.caller import GRANTS, KeyRecord, Permission, Role, permits, team_scope
from gateway.core.ids import ATTEMPT, CALL, make_id, parse_id, print_id, time_of
from gateway.core.records import TYPE_OF, Dispatch, RecordType, Stat, decode_record, encode_record


@given(st.binary(min_size=16, max_size=16))
def test_an_id_survives_printing(raw: bytes) -> None:
    printed = print_id(CALL, raw)
    assert len(printed) == 30
    assert parse_id(CALL, printed) == raw
    assert parse_id(CALL, printed.upper().replace("REQ", "req")) == raw
    assert parse_id(ATTEMPT, printed) is None


@given(st.integers(0, 2**48 - 2), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_ids_sort_by_age(now_ms: int, one: bytes, other: bytes) -> None:
    older, newer = make_id(now_ms, one), make_id(now_ms + 1, other)
    assert older < newer
    assert print_id(CALL, older) < print_id(CALL, newer)
    assert time_of(older) == now_ms


@pytest.mark.parametrize("text", ["", "req_", "req_" + "u" * 26, "req_" + "z" * 26, "req_" + "0" * 25, "0" * 26])
def test_what_is_no_id_is_none(text: str) -> None:
    assert parse_id(CALL, text) is None


def test_every_record_type_can_be_written_and_read() -> None:
    assert set(TYPE_OF.values()) == set(RecordType)
    stat = Stat(ts_ms=5, counts={"invalid_api_key": 3})
    assert decode_record(RecordType.STAT, encode_record(stat)) == stat


def test_a_newer_versions_extra_field_is_passed_over_and_an_unknown_type_is_not() -> None:
    longer = msgspec.msgpack.encode([7, b"a" * 16, "a field of the future"])
    assert decode_record(RecordType.DISPATCH, longer) == Dispatch(ts_ms=7, attempt_id=b"a" * 16)
    with pytest.raises(ValueError, match="99"):
        decode_record(99, longer)


def key(role: str) -> KeyRecord:
    return KeyRecord("k", "k", "default", "red", role, ())


def test_roles_grant_what_they_say_and_no_more() -> None:
    assert not permits(key(Role.ADMIN), Permission.CALL_MODELS)
    assert permits(key(Role.DATA), Permission.CALL_MODELS)
    for permission in (Permission.WRITE_KEYS, Permission.READ_CONTENT, Permission.WRITE_CONFIG):
        assert not permits(key(Role.FINANCE), permission)
    assert permits(key(Role.FINANCE), Permission.READ_SPEND)
    assert GRANTS[Role.METRICS] == {Permission.PUBLIC, Permission.READ_METRICS}
    assert not any(permits(key("made-up"), permission) for permission in Permission if permission != Permission.PUBLIC)
    assert not permits(None, Permission.READ_SPEND)
    assert team_scope(key(Role.TEAM)) == "red"
    assert team_scope(key(Role.FINANCE)) is None
