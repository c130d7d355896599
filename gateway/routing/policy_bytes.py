"""A Policy as bytes and its hash: the same policy gives the same bytes on every machine and in every process."""

from __future__ import annotations

import hashlib

import msgspec

from gateway.core.config import Policy

_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(Policy)


def encode_policy(policy: Policy) -> bytes:
    """The compiled bytes that are stored by hash: revision 0, hash empty, dictionaries in sorted order."""
    return _ENCODER.encode(msgspec.structs.replace(policy, revision=0, hash=""))


def policy_hash(content: bytes) -> str:
    """SHA-256 of compiled bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def seal(policy: Policy) -> Policy:
    """The policy with its hash filled in."""
    return msgspec.structs.replace(policy, hash=policy_hash(encode_policy(policy)))


def decode_policy(content: bytes, revision: int) -> Policy:
    """A stored policy at a revision. Raises msgspec.DecodeError for bytes of another version."""
    return msgspec.structs.replace(_DECODER.decode(content), revision=revision, hash=policy_hash(content))
