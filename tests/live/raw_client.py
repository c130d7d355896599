"""A bare asyncio HTTP client: hundreds of calls at once without an SDK's own limits and retries."""

from __future__ import annotations

import asyncio
import json
from typing import Any


async def post_chat(
    port: int, secret: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One POST on a connection of its own; (status, headers, body)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(chat_request(secret, body, headers, close=True))
        head = await reader.readuntil(b"\r\n\r\n")
        status, received = parse_head(head)
        if "content-length" in received:
            return status, received, await reader.readexactly(int(received["content-length"]))
        return status, received, await reader.read()
    finally:
        writer.close()


def chat_request(
    secret: str, body: dict[str, Any], headers: dict[str, str] | None = None, close: bool = False
) -> bytes:
    """The bytes of a POST to chat completions."""
    payload = json.dumps(body).encode()
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "host: faregate",
        f"authorization: Bearer {secret}",
        "content-type: application/json",
        f"content-length: {len(payload)}",
        *(["connection: close"] if close else []),
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1])
    pairs = (line.partition(":") for line in lines[1:] if line)
    return status, {name.strip().lower(): value.strip() for name, _, value in pairs}
