"""What can be set of a simulated reply, for the process (`POST /control`, options) and for one request (`x-sim-*`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

import msgspec

Fault = Literal[
    "",
    "refuse-429",
    "500",
    "401",
    "disconnect-before",
    "disconnect-mid",
    "stall",
    "no-usage",
    "bad-usage",
    "error-event",
    "error-first",
    "truncated",
    "html",
]
FAULTS: tuple[str, ...] = get_args(Fault)
WAIT_MS_MAX = 3_600_000
TOKENS_MAX = 1_000_000

_Wait = Annotated[float, msgspec.Meta(ge=0, le=WAIT_MS_MAX)]


class Knobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`latency_ms` passes before a reply's head, `ttft_ms` between head and first token, `token_interval_ms` between
    tokens (a whole reply takes as long as its tokens would), `done_wait_ms` between a stream's usage and its `[DONE]`.
    `tokens` None: the simulator chooses."""

    latency_ms: _Wait = 0.0
    ttft_ms: _Wait = 0.0
    tokens: Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)] | None = None
    token_interval_ms: _Wait = 0.0
    done_wait_ms: _Wait = 0.0
    fault: Fault = ""


class Control(Knobs, frozen=True):
    """A change of the process's defaults; members left out stay. `gate` closed holds every reply until it is open."""

    gate: Literal["open", "closed"] | None = None


_HEADERS = {f"x-sim-{name.replace('_', '-')}": name for name in Knobs.__struct_fields__}
_ASKED = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CONTROL = msgspec.json.Decoder(Control)


def knobs_for(headers: Mapping[str, str], defaults: Knobs) -> Knobs:
    """The defaults with a request's own headers applied. Raises ValueError saying what a header may hold."""
    asked = {name: headers[header] for header, name in _HEADERS.items() if header in headers}
    if not asked:
        return defaults
    try:
        return msgspec.convert(msgspec.structs.asdict(defaults) | asked, Knobs, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"An x-sim- header is wrong: {error}") from error


def read_control(body: bytes, defaults: Knobs) -> tuple[Knobs, str | None]:
    """(new defaults, new gate or None) of a control request. Raises ValueError."""
    try:
        names = _ASKED.decode(body).keys()
        control = _CONTROL.decode(body)
    except msgspec.DecodeError as error:
        raise ValueError(f"The control body is wrong: {error}") from error
    changes = {name: getattr(control, name) for name in names if name != "gate"}
    return msgspec.structs.replace(defaults, **changes), control.gate
