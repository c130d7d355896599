"""Embeddings: unit vectors that depend on text and dimensions alone."""

from __future__ import annotations

import base64
import hashlib
import math
import struct

from gateway.simulator.shapes import EmbeddingRequest, encode, input_tokens, text_inputs

DIMENSIONS = 256


def embed(pieces: list[str], dimensions: int) -> list[float]:
    """A vector of length 1, the same for the same tokens."""
    digest = hashlib.shake_256("\x1f".join(pieces).encode("utf-8", "replace")).digest(2 * dimensions)
    raw = [number + 0.5 for number in struct.unpack(f"<{dimensions}h", digest)]
    length = math.sqrt(sum(number * number for number in raw))
    return [number / length for number in raw]


def embedding_reply(request: EmbeddingRequest, items: list[list[str]]) -> bytes:
    """OpenAI's list, with float arrays or base64 of little-endian float32."""
    dimensions = request.dimensions or DIMENSIONS
    data = [
        {"object": "embedding", "index": index, "embedding": _printed(embed(pieces, dimensions), request)}
        for index, pieces in enumerate(items)
    ]
    tokens = sum(len(pieces) for pieces in items)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return encode({"object": "list", "data": data, "model": request.model, "usage": usage})


def _printed(vector: list[float], request: EmbeddingRequest) -> list[float] | str:
    if request.encoding_format == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return vector


def embedding_items(request: EmbeddingRequest) -> list[list[str]]:
    return [input_tokens(item) for item in text_inputs(request.input)]
