"""Credentials: references resolved late, secrets that do not print."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest

from gateway.core.errors import ConfigInvalid
from gateway.vault.credentials import Credentials, Secret


def test_a_secret_does_not_print() -> None:
    secret = Secret("hunter2")
    printed = [repr(secret), str(secret), f"{secret}", f"{secret:>20}", f"{[secret]}", "%s" % secret]  # noqa: UP031
    printed += [json.dumps({"a": secret}, default=str), repr(pickle.loads(pickle.dumps(secret)).reveal())]
    assert all("hunter2" not in text and "***" in text for text in printed)
    with pytest.raises(TypeError):
        json.dumps(secret)
    assert not hasattr(secret, "__dict__")
    assert secret.reveal() == "hunter2"


def test_a_secret_compares_and_copies_but_is_no_key_of_a_dictionary() -> None:
    secret = Secret("a")
    assert secret == Secret("a")
    assert secret != Secret("b")
    assert secret != "a"
    assert copy.deepcopy({"x": secret})["x"].reveal() == "a"
    assert copy.copy(secret) is secret
    with pytest.raises(TypeError):
        hash(secret)


def test_references_resolve(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    credentials = Credentials({"NAME": " sk-env\n"})
    assert credentials.resolve("env:NAME").reveal() == "sk-env"
    assert credentials.resolve(f"file:{file}").reveal() == "sk-file"
    assert credentials.resolve("").reveal() == ""


def test_a_file_is_read_again_after_a_reload(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("one")
    credentials = Credentials({})
    reference = f"file:{file}"
    assert credentials.resolve(reference).reveal() == "one"
    file.write_text("two")
    assert credentials.resolve(reference).reveal() == "one"
    credentials.reload()
    assert credentials.resolve(reference).reveal() == "two"


def test_a_missing_one_is_tried_again_at_the_next_use(tmp_path: Path) -> None:
    file = tmp_path / "key"
    credentials = Credentials({})
    with pytest.raises(ConfigInvalid, match="No such file"):
        credentials.resolve(f"file:{file}")
    file.write_text("now")
    assert credentials.resolve(f"file:{file}").reveal() == "now"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("env:MISSING", "environment variable MISSING is not set. Set it"),
        ("env:EMPTY", "is empty"),
        ("env:SPLIT", "characters that no key has"),
        ("env:UMLAUT", "characters that no key has"),
        ("file:relative", "is no reference"),
        ("file:/nowhere/at/all", "cannot be read"),
        ("file:/tmp", "cannot be read"),
        ("file:/dev/zero", "is over"),
        ("sk-hunter2", "is no reference"),
        ("env:", "is no reference"),
    ],
)
def test_what_cannot_be_resolved_says_what_to_do_and_shows_no_secret(reference: str, message: str) -> None:
    environment = {"EMPTY": " ", "SPLIT": "hunter2\nX-Evil: 1", "UMLAUT": "hunter2ü"}
    with pytest.raises(ConfigInvalid, match=message) as caught:
        Credentials(environment).resolve(reference)
    assert "hunter2" not in caught.value.message
