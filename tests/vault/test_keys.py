"""The text of keys: made, parsed and refused."""

from __future__ import annotations

import hashlib
import hmac
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.vault.keys import (
    BASE62,
    MAX_KEY_LENGTH,
    Hasher,
    checksum,
    generate,
    imported_digest,
    imported_id,
    parse,
    text_kid,
)
from vault.fakes import Chance

KEY = generate(Chance(), "live").text


def test_a_key_has_the_published_form() -> None:
    assert re.fullmatch(r"fg_live_[0-9A-Za-z]{12}_[0-9A-Za-z]{32}_[0-9A-Za-z]{6}", KEY)
    assert checksum("fg_live_abc") == "02GKLu"
    longest = generate(Chance(), "a" * 16).text
    assert len(longest) == MAX_KEY_LENGTH


@given(st.integers(0, 2**32))
def test_what_is_generated_parses_to_its_parts(seed: int) -> None:
    made = generate(Chance(seed), "test")
    assert parse(made.text) == (made.kid, made.secret)
    assert generate(Chance(seed + 1), "test").secret != made.secret


def test_characters_are_drawn_evenly() -> None:
    chance = Chance(3)
    text = "".join(generate(chance, "live").secret for _ in range(2000))
    expected = len(text) / 62
    assert set(text) == set(BASE62)
    assert all(0.8 * expected < text.count(character) < 1.2 * expected for character in BASE62)


@given(st.integers(0, len(KEY) - 1), st.sampled_from(BASE62 + "_- é\0"))
def test_one_wrong_character_is_found_before_any_hash(place: int, character: str) -> None:
    changed = KEY[:place] + character + KEY[place + 1 :]
    assert (parse(changed) is None) == (changed != KEY)


@pytest.mark.parametrize(
    "text",
    [
        "", "fg_", "' OR 1=1--", "%", "\0", "a" * 65536, KEY + "\n", " " + KEY, KEY.upper(), KEY[:-1], KEY + "0",
        "fg__" + KEY[8:], KEY.replace("fg_", "FG_"), "fg_lïve" + KEY[7:], "\ud800" * 60, "fg_live_" + "_" * 53,
    ],
)  # fmt: skip
def test_hostile_texts_are_no_keys(text: str) -> None:
    assert parse(text) is None
    assert len(imported_digest(text)) == 32


@pytest.mark.parametrize("env", ["", "Live", "a" * 17, "a_b", "é"])
def test_an_env_is_a_short_word(env: str) -> None:
    with pytest.raises(ValueError, match="middle word"):
        generate(Chance(), env)


def test_another_secret_of_a_key_keeps_its_kid() -> None:
    first = generate(Chance(1), "live")
    second = generate(Chance(2), "live", first.kid)
    assert second.kid == first.kid
    assert second.secret != first.secret
    with pytest.raises(ValueError, match="public part"):
        generate(Chance(), "live", "short")


@given(st.binary(min_size=32, max_size=100), st.text(BASE62, min_size=1, max_size=80))
def test_the_hasher_is_hmac_sha256(pepper: bytes, secret: str) -> None:
    assert Hasher(pepper).digest(secret) == hmac.digest(pepper, secret.encode(), hashlib.sha256)


def test_an_imported_key_is_known_by_its_plain_sha256() -> None:
    digest = imported_digest("sk-abc")
    assert digest.hex() == hashlib.sha256(b"sk-abc").hexdigest()
    assert imported_id(digest) == "sha_" + digest.hex()[:12]
    assert parse(generate(Chance(), "live", text_kid(imported_id(digest))).text) is not None
