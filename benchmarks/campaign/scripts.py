"""The scripts of the cases of `upstreams.py`."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

from benchmarks.campaign.scripted import DONE, WORDS, Script, content, counted, refusal, stream

GOOD = {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17}
RETRY_SPELLINGS: dict[str, dict[str, str]] = {
    "429 seconds": {"retry-after": "2"},
    "429 milliseconds": {"retry-after-ms": "1500"},
    "429 date": {"retry-after": formatdate(time.time() + 30, usegmt=True)},
    "429 an hour": {"retry-after": "3600"},
    "429 both": {"retry-after": "1", "retry-after-ms": "700", "x-should-retry": "true"},
    "429 nothing": {},
}
"""Name of the script → the headers it sends, which the caller must see. (`x-ratelimit-*` are not among them: an answer
has those of the caller's own limits.)"""
ESTIMATED = ("estimated",)
PRICED = ("priced",)
DOUBTED = ("estimated", "unpriced")
USAGES: dict[str, tuple[str, ...]] = {
    "usage good": PRICED,
    "usage absent": ESTIMATED,
    "usage null": ESTIMATED,
    "usage twice": PRICED,
    "usage growing": PRICED,
    "usage after finish": PRICED,
    "usage negative": DOUBTED,
    "usage huge": DOUBTED,
    "usage float": DOUBTED,
    "usage string": DOUBTED,
    "usage without prompt": DOUBTED,
    "usage list": DOUBTED,
}
"""Name of the script → the states its cost may have."""
_ERROR = json.dumps({"error": {"message": "Overloaded.", "type": "server_error", "code": "overloaded", "param": None}})
_END = content("", "stop")


def _with(usage: object) -> Script:
    return stream(WORDS, _END, counted(usage), DONE)


SCRIPTS: dict[str, Script] = {
    **{name: refusal(429, *headers.items()) for name, headers in RETRY_SPELLINGS.items()},
    "401": refusal(401),
    "403": refusal(403),
    "error-first": Script(200, (("content-type", "text/event-stream"),), f"data: {_ERROR}\n\n".encode()),
    "no-done": stream(WORDS, _END, counted(GOOD), completed=False, end=True),
    "comments-mid": stream(WORDS, completed=False, comments=True),
    "comments-first": stream(completed=False, comments=True),
    "usage good": _with(GOOD),
    "usage absent": stream(WORDS, _END, DONE),
    "usage null": _with(None),
    "usage twice": stream(WORDS, _END, counted(GOOD), counted(GOOD), DONE),
    "usage growing": stream(
        content("a"), counted({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}), WORDS, _END,
        counted(GOOD), DONE,
    ),
    "usage after finish": _with(GOOD),
    "usage negative": _with(GOOD | {"prompt_tokens": -9, "total_tokens": -1}),
    "usage huge": _with({"prompt_tokens": 10**18, "completion_tokens": 8, "total_tokens": 10**18 + 8}),
    "usage float": _with(GOOD | {"completion_tokens": 8.5}),
    "usage string": _with(GOOD | {"completion_tokens": "8"}),
    "usage without prompt": _with({"completion_tokens": 8}),
    "usage list": _with([9, 8]),
}  # fmt: skip
