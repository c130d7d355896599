"""What docs/alerts.md shows is what receivers get: its verification runs, its body has the members of a real one."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from gateway.notify.payload import as_json
from gateway.notify.signing import read_secret, signed
from notify.receivers import ALERT, SECRET

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "alerts.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_example_verifies_what_is_sent_and_nothing_else() -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)
    genuine = names["genuine"]
    body = as_json(ALERT)
    headers = dict(signed(read_secret(SECRET), ALERT.id, int(time.time()), body))
    assert genuine(SECRET, headers, body)
    assert not genuine(SECRET, headers, body + b" ")
    assert not genuine(SECRET, {**headers, "webhook-id": "alr_2"}, body)
    old = dict(signed(read_secret(SECRET), ALERT.id, int(time.time()) - 301, body))
    assert not genuine(SECRET, old, body)


def test_the_example_body_has_the_members_of_a_real_one() -> None:
    shown, real = json.loads(block("json")), json.loads(as_json(ALERT))
    assert list(shown) == list(real)
    assert set(shown["data"]) == set(real["data"])
    assert all(set(figure) == set(real["data"]["figures"][0]) for figure in shown["data"]["figures"])
