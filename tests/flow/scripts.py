"""What providers do, and the calls that tests interrupt everywhere: `SCENES`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flow.fakes import Scripted
from flow.world import World, chat
from gateway.core.errors import FaregateError, UpstreamLost, UpstreamNotStarted, UpstreamTimeout
from gateway.core.limits import Limit, OnExceed, Unit, Window, WindowKind

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": "up-1"}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
COST_NUSD = 10 * 2 + 5 * 10
REFUSED = UpstreamNotStarted("cancels (cancels.test:80) cannot be connected to: refused.")
LOST = UpstreamLost("cancels (cancels.test:80) ended the connection before it replied.")
TIMEOUT = UpstreamTimeout("cancels (cancels.test:80) did not finish within 600 s (total deadline).")
DONE = b"data: [DONE]\n\n"


def completion(usage: object = USAGE, **more: Any) -> bytes:
    message = {"role": "assistant", "content": "Hello there"}
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-test-2026",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        **({} if usage is None else {"usage": usage}),
        **more,
    }
    return json.dumps(whole).encode()


def whole(*steps: bytes | float | FaregateError, **more: Any) -> Scripted:
    return Scripted(steps or (0.02, completion()), **more)


def refusal(status: int, headers: Mapping[str, str] = JSON, message: str = "no") -> Scripted:
    body = json.dumps({"error": {"message": message, "type": "x", "code": "y"}}).encode()
    return Scripted((0.01, body), status=status, headers=dict(headers))


def chunk(text: str = "", finish: str | None = None, **more: Any) -> bytes:
    delta = {"content": text} if text else {}
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-test-2026"}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({**event, "choices": choices, **more}).encode() + b"\n\n"


def usage_chunk(usage: object = USAGE) -> bytes:
    return chunk("", usage=usage).replace(b'[{"index": 0, "delta": {}, "finish_reason": null}]', b"[]")


def error_event(message: str = "overloaded") -> bytes:
    return b"data: " + json.dumps({"error": {"message": message, "type": "server_error"}}).encode() + b"\n\n"


def stream(*steps: bytes | float | FaregateError, **more: Any) -> Scripted:
    return Scripted(steps, headers=SSE, **more)


HELLO = (chunk("Hel"), 0.01, chunk("lo"), 0.01)
GOOD = (0.02, *HELLO, chunk("", "stop"), 0.01, usage_chunk(), 0.01, DONE)


def budget(amount_nusd: int, on_exceed: OnExceed = OnExceed.BLOCK) -> Limit:
    scope = (("key", "*"),)
    return Limit("budget", Unit.USD, amount_nusd, Window(WindowKind.DAY), scope, on_exceed)


def requests_per_minute(number: int) -> Limit:
    return Limit("rpm", Unit.REQUESTS, number, Window(WindowKind.ROLLING, 60), (("key", "*"),))


def tokens_per_day(number: int) -> Limit:
    return Limit("tpd", Unit.TOKENS, number, Window(WindowKind.DAY), (("key", "*"),))


LIMITS = (budget(1_000_000), requests_per_minute(100), tokens_per_day(1_000_000))


@dataclass(frozen=True)
class Scene:
    """One call in one world."""

    name: str
    scripts: tuple[Scripted, ...]
    model: str = "fast"
    body: dict[str, Any] = field(default_factory=dict)
    world: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    write_s: float = 0.0

    def make(self) -> World:
        return World(self.scripts, **{"limits": LIMITS, **self.world})

    def call(self) -> dict[str, Any]:
        body = chat(self.model, **self.body)
        return {"body": [body[:9], 0.01, body[9:]], "headers": self.headers, "write_s": self.write_s}


STREAMED = {"stream": True}
SLOW = {"settings": {"first_event_wait_s": 1.0, "heartbeat_s": 1.0}}


def _of_every_model(name: str, *scripts: Scripted, **more: Any) -> list[Scene]:
    return [Scene(f"{name}, {model}", scripts, model, **more) for model in ("fast", "steady")]


SCENES = [
    *_of_every_model("whole", whole(0.02, completion()[:40], 0.02, completion()[40:])),
    *_of_every_model("whole without usage", whole(0.02, completion(None))),
    *_of_every_model("whole, power", whole(), world={"settings": {"power": True}}),
    *_of_every_model("refused with 429", refusal(429)),
    *_of_every_model("failed with 500", refusal(500)),
    *_of_every_model("lost in an error's body", Scripted((0.02, LOST), status=503)),
    *_of_every_model("not connected", Scripted(before_head=(0.02, REFUSED))),
    *_of_every_model("lost before the head", Scripted(before_head=(0.02, LOST))),
    *_of_every_model("timed out", Scripted(before_head=(1.0, TIMEOUT))),
    *_of_every_model("lost in the body", whole(completion()[:40], 0.02, LOST)),
    *_of_every_model("stream", stream(*GOOD), body=STREAMED),
    *_of_every_model("stream to a slow reader", stream(*GOOD), body=STREAMED, write_s=0.5),
    *_of_every_model("stream, power", stream(*GOOD), body=STREAMED, world={"settings": {"power": True}}),
    *_of_every_model("stream with heartbeats", stream(2.5, *GOOD), body=STREAMED, world=SLOW),
    *_of_every_model("stream that fails after heartbeats", stream(2.5, LOST), body=STREAMED, world=SLOW),
    *_of_every_model("stream begun with an error", stream(0.02, error_event()), body=STREAMED),
    *_of_every_model("stream with an error inside", stream(*HELLO, error_event()), body=STREAMED),
    *_of_every_model("stream that ends early", stream(*HELLO), body=STREAMED),
    *_of_every_model("stream that is lost", stream(*HELLO, LOST), body=STREAMED),
    *_of_every_model("long stream", stream(*HELLO, 1.2, *HELLO, 1.2, *GOOD), body=STREAMED),
    Scene("unpriced", (whole(),), "unpriced", world={"limits": ()}),
    Scene("no credential", (whole(),), "keyless"),
    Scene("failover", (refusal(500), whole()), "both"),
    Scene("failover after heartbeats", (stream(2.5, LOST), stream(*GOOD)), "both", body=STREAMED, world=SLOW),
    Scene("both fail", (Scripted(before_head=(0.02, REFUSED)), Scripted(before_head=(0.02, LOST))), "both"),
    Scene("out of money", (whole(),), world={"limits": (budget(10),)}),
    Scene("no such model", (whole(),), "nothing-like-it"),
]
