"""The bytes of a checkpoint: `Books` as one versioned msgpack value. Only `fold.py` uses it.

A checkpoint is a shortcut, never the truth: one of another version is refused, and its reader folds the journals.
"""

from __future__ import annotations

import msgspec

from gateway.core.errors import JournalUnreadable
from gateway.core.records import AttemptEnd, Hold, Void
from gateway.ledger.standing import Anomaly, OpenCall, OpenHold

CHECKPOINT_VERSION = 1


class CounterImage(msgspec.Struct, array_like=True):
    name: str
    spent: int
    reserved: int
    expires_ms: int


class HoldImage(msgspec.Struct, array_like=True):
    call_id: bytes
    hold: Hold
    remaining: dict[str, int]
    bound_nusd: int | None
    dispatched: bool
    input_tokens: int
    output_tokens: int


class EndImage(msgspec.Struct, array_like=True):
    """One of the two ends, in order: records carry no tag of their own, so a union of them could not be read back."""

    ended: AttemptEnd | None
    voided_ms: int = 0
    voided_attempt: bytes = b""
    voided_cause: str = ""
    voided_detail: str = ""


class CallImage(msgspec.Struct, array_like=True):
    call_id: bytes
    hold: Hold
    attempts: int
    running: int
    ends: list[EndImage]


class Image(msgspec.Struct, array_like=True):
    version: int
    forget: bool
    newest_ms: int
    counters: list[CounterImage]
    holds: list[HoldImage]
    calls: list[CallImage]
    recent: list[bytes]
    older: list[bytes]
    corrected: list[bytes]
    anomalies: list[Anomaly]
    anomaly_count: int


class _Version(msgspec.Struct, array_like=True):
    version: int


_ENCODER = msgspec.msgpack.Encoder()


def encode_image(image: Image) -> bytes:
    return _ENCODER.encode(image)


def decode_image(dumped: bytes) -> Image:
    """Raises JournalUnreadable for another version, or for bytes that are no checkpoint."""
    try:
        version = msgspec.msgpack.decode(dumped, type=_Version).version
        if version != CHECKPOINT_VERSION:
            raise JournalUnreadable(
                f"the checkpoint has version {version}, this Faregate reads {CHECKPOINT_VERSION}: fold the journals"
            )
        return msgspec.msgpack.decode(dumped, type=Image)
    except msgspec.MsgspecError as error:
        raise JournalUnreadable(f"not a checkpoint ({error}): fold the journals") from error


def hold_image(hold: OpenHold) -> HoldImage:
    return HoldImage(
        hold.call_id,
        hold.hold,
        hold.remaining,
        hold.bound_nusd,
        hold.dispatched,
        hold.input_tokens,
        hold.output_tokens,
    )


def open_hold(image: HoldImage) -> OpenHold:
    hold = OpenHold(image.call_id, image.hold)
    hold.remaining = image.remaining
    hold.bound_nusd = image.bound_nusd
    hold.dispatched = image.dispatched
    hold.input_tokens = image.input_tokens
    hold.output_tokens = image.output_tokens
    return hold


def call_image(call_id: bytes, call: OpenCall) -> CallImage:
    return CallImage(call_id, call.hold, call.attempts, call.running, [_end_image(end) for end in call.ends])


def open_call(image: CallImage) -> OpenCall:
    call = OpenCall(image.hold)
    call.attempts = image.attempts
    call.running = image.running
    call.ends = [
        end.ended
        if end.ended is not None
        else Void(end.voided_ms, end.voided_attempt, end.voided_cause, end.voided_detail)
        for end in image.ends
    ]
    return call


def _end_image(end: AttemptEnd | Void) -> EndImage:
    if isinstance(end, AttemptEnd):
        return EndImage(end)
    return EndImage(None, end.ts_ms, end.attempt_id, end.cause, end.detail)
