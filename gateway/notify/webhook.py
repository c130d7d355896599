"""A signed webhook."""

from __future__ import annotations

from gateway.core.alerts import Alert, Channel, Notified
from gateway.core.errors import AttemptFailed
from gateway.core.upstream import Endpoint, Upstream, UpstreamReply, UpstreamRequest
from gateway.notify.payload import as_json
from gateway.notify.signing import read_secret, signed

CONNECT_S = 5.0
TIMEOUT_S = 15.0
MAX_REPLY_BYTES = 64 * 1024
_GONE = 410
_SHOWN = 200


async def send(upstream: Upstream, channel: Channel, secret: str, alert: Alert, now_ms: int) -> Notified:
    """One attempt: any 2xx is delivered. 410 says that nobody wants these any more (Standard Webhooks)."""
    try:
        key = read_secret(secret)
    except ValueError as error:
        return Notified(False, str(error))
    body = as_json(alert)
    return await post(upstream, channel, channel.address, body, signed(key, alert.id, now_ms // 1000, body))


async def post(
    upstream: Upstream, channel: Channel, url: str, body: bytes, headers: tuple[tuple[str, str], ...] = ()
) -> Notified:
    """Posts JSON and reads what becomes of it. A redirect is not followed: it would lead past the address check."""
    endpoint = Endpoint(
        pool=f"alert channel {channel.name}",
        url=url,
        headers=(("content-type", "application/json"), ("user-agent", "faregate-alerts")),
        connect_timeout_s=CONNECT_S,
        timeout_s=TIMEOUT_S,
        idle_timeout_s=TIMEOUT_S,
        connections_max=4,
        ca_bundle=channel.ca_bundle,
        networks=channel.networks,
    )
    try:
        reply = await upstream.send(UpstreamRequest(endpoint, headers, body))
        text = await _read(reply)
    except AttemptFailed as error:
        words = error.message.replace("the networks of the provider", "the networks of the channel")
        return Notified(False, words.replace("its base_url", "its URL"))
    if 200 <= reply.status < 300:
        return Notified(True)
    why = "a redirect, which is not followed; configure where it leads" if 300 <= reply.status < 400 else text
    return Notified(False, f"answered {reply.status}: {why}"[:_SHOWN].rstrip(": "), over=reply.status == _GONE)


async def _read(reply: UpstreamReply) -> str:
    """The beginning of the answer, on one line; the status is what counts."""
    try:
        content = await reply.read(MAX_REPLY_BYTES)
    except AttemptFailed:
        return ""
    text = content[:_SHOWN].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text).strip()
