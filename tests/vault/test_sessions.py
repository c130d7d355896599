"""Console sessions and form tokens: signed, expiring, and dead as soon as their key's rights change."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.caller import KeyRecord
from gateway.core.errors import ConfigInvalid, NotAuthenticated
from gateway.vault.sessions import MAX_SIGNED_OUT, Sessions, load_session_secret, subkey
from vault.fakes import Chance, Clock, peppers, record

MINTED = peppers().mint(Chance(1), "live")
KEY = record(MINTED, role="admin")
HOUR_MS = 3600 * 1000


class Desk:
    """Sessions over one key that a test may change or take away."""

    def __init__(self, secret: bytes = b"s" * 32) -> None:
        self.key: KeyRecord | None = KEY
        self.clock = Clock()
        self.sessions = Sessions(secret, self.find, self.clock, Chance(), 12 * HOUR_MS)

    def find(self, key_id: str) -> KeyRecord | None:
        return self.key if key_id == KEY.key_id else None

    def sign_in(self) -> str:
        return self.sessions.open(KEY, MINTED.digest)

    def refused(self, token: str) -> bool:
        try:
            self.sessions.check(token)
        except NotAuthenticated:
            return True
        return False


def test_a_session_gives_the_key_as_it_is_now() -> None:
    desk = Desk()
    token = desk.sign_in()
    desk.key = msgspec.structs.replace(KEY, name="renamed", team="other")
    session = desk.sessions.check(token)
    assert session.key.name == "renamed"
    assert session.expires_ms == desk.clock.ms + 12 * HOUR_MS
    assert MINTED.text not in token


def test_it_ends_at_its_time() -> None:
    desk = Desk()
    token = desk.sign_in()
    desk.clock.ms += 12 * HOUR_MS - 1
    assert not desk.refused(token)
    desk.clock.ms += 1
    assert desk.refused(token)


@pytest.mark.parametrize("change", ["revoked", "paused", "expired", "role", "org", "rotated", "overlap over"])
def test_it_ends_when_the_keys_rights_change(change: str) -> None:
    desk = Desk()
    token = desk.sign_in()
    changed: dict[str, KeyRecord | None] = {
        "revoked": None,
        "paused": msgspec.structs.replace(KEY, paused=True),
        "expired": msgspec.structs.replace(KEY, expires_ms=desk.clock.ms),
        "role": msgspec.structs.replace(KEY, role="finance"),
        "org": msgspec.structs.replace(KEY, org="other"),
        "rotated": msgspec.structs.replace(KEY, hashes=((1, b"n" * 32, 0),)),
        "overlap over": msgspec.structs.replace(KEY, hashes=((1, MINTED.digest, desk.clock.ms), (1, b"n" * 32, 0))),
    }
    desk.key = changed[change]
    assert desk.refused(token)


def test_in_a_rotations_overlap_it_goes_on() -> None:
    desk = Desk()
    token = desk.sign_in()
    desk.key = msgspec.structs.replace(KEY, hashes=((1, MINTED.digest, desk.clock.ms + 1), (1, b"n" * 32, 0)))
    assert not desk.refused(token)


@given(st.data())
def test_no_changed_token_is_taken(data: st.DataObject) -> None:
    desk = Desk()
    token = desk.sign_in()
    place = data.draw(st.integers(0, len(token) - 1))
    bits = data.draw(st.integers(1, 127))
    changed = token[:place] + chr(ord(token[place]) ^ bits) + token[place + 1 :]
    assert desk.refused(changed)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "é.é", "A" * 10_000, "\ud800", "aaa."])
def test_hostile_tokens_are_refused(token: str) -> None:
    assert Desk().refused(token)


def test_another_servers_token_and_a_form_token_are_refused() -> None:
    desk = Desk()
    assert desk.refused(Desk(b"t" * 32).sign_in())
    assert desk.refused(desk.sessions.csrf_token("x"))


def test_signing_out_ends_this_session_alone() -> None:
    desk = Desk()
    one, two = desk.sign_in(), desk.sign_in()
    desk.sessions.close(one)
    desk.sessions.close("nonsense")
    assert desk.refused(one)
    assert not desk.refused(two)


def test_signed_out_sessions_are_remembered_in_bounded_memory() -> None:
    desk = Desk()
    for _ in range(MAX_SIGNED_OUT + 10):
        desk.sessions.close(desk.sign_in())
    assert len(desk.sessions._signed_out) == MAX_SIGNED_OUT
    desk.clock.ms += 13 * HOUR_MS
    desk.sessions.close(desk.sign_in())
    assert len(desk.sessions._signed_out) == 1


def test_form_tokens_are_for_one_session_and_some_hours() -> None:
    desk = Desk()
    session = desk.sessions.check(desk.sign_in())
    token = desk.sessions.csrf_token(session.session_id)
    assert desk.sessions.csrf_valid(token, session.session_id)
    assert not desk.sessions.csrf_valid(token, "other")
    assert not Desk(b"t" * 32).sessions.csrf_valid(token, session.session_id)
    later = "9" + token[1:]
    assert not desk.sessions.csrf_valid(later, session.session_id)
    for hostile in ("", ".", "9" * 400, "٣.x", "-1.x", "1_0.x", token + "é", "1.x"):
        assert not desk.sessions.csrf_valid(hostile, session.session_id)
    desk.clock.ms += 12 * HOUR_MS
    assert not desk.sessions.csrf_valid(token, session.session_id)


def test_each_purpose_has_a_key_of_its_own() -> None:
    assert len({subkey(b"s" * 32, purpose) for purpose in ("a", "b", "c")}) == 3
    with pytest.raises(ValueError, match="under 32 bytes"):
        Desk(b"short")


def test_the_secret_is_made_once_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "session.key"
    secret = load_session_secret(path, Chance(1))
    assert len(secret) == 32
    assert load_session_secret(path, Chance(2)) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    for content in ("", "c2hvcnQ=", "no base64!"):
        path.write_text(content)
        with pytest.raises(ConfigInvalid, match="Delete it and restart"):
            load_session_secret(path, Chance())
