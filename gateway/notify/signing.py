"""Signatures of webhooks as Standard Webhooks 1.0 has them (standardwebhooks.com): symmetric, HMAC-SHA256."""

from __future__ import annotations

import base64
import binascii
import hmac
from hashlib import sha256

PREFIX = "whsec_"
MIN_SECRET_BYTES = 32
ID_HEADER, TIME_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"


def read_secret(text: str) -> bytes:
    """The key of a `whsec_…` secret. Raises ValueError when it is none, or under 32 bytes: an empty one would sign
    anything, and so could anybody."""
    try:
        secret = base64.b64decode(text.strip().removeprefix(PREFIX).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(
            "the signing secret is not whsec_ and base64; make one with: openssl rand -base64 32"
        ) from error
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(
            f"the signing secret has under {MIN_SECRET_BYTES} bytes; make one with: openssl rand -base64 32"
        )
    return secret


def signed(secret: bytes, message_id: str, timestamp_s: int, body: bytes) -> tuple[tuple[str, str], ...]:
    """The three headers of a message: HMAC-SHA256 over `id.timestamp.body`."""
    content = f"{message_id}.{timestamp_s}.".encode() + body
    digest = base64.b64encode(hmac.new(secret, content, sha256).digest()).decode()
    return (ID_HEADER, message_id), (TIME_HEADER, str(timestamp_s)), (SIGNATURE_HEADER, f"v1,{digest}")
