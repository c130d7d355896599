"""A Slack incoming webhook. Its URL is the secret."""

from __future__ import annotations

import msgspec

from gateway.core.alerts import Alert, Channel, Notified, Severity
from gateway.core.upstream import Upstream
from gateway.notify.payload import as_lines, plain
from gateway.notify.webhook import post

_MARKS = {
    Severity.INFO: ":information_source:",
    Severity.WARNING: ":warning:",
    Severity.CRITICAL: ":rotating_light:",
}
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
LONGEST_SECTION = 2900
"""Slack refuses a section of over 3 000 characters."""


async def send(upstream: Upstream, channel: Channel, secret: str, alert: Alert) -> Notified:
    """One attempt. Slack answers 200 `ok`, or says what is wrong."""
    if not secret.startswith(("https://", "http://")):
        return Notified(False, f"{channel.secret} holds no URL of an incoming webhook")
    return await post(upstream, channel, secret, as_slack(alert))


def as_slack(alert: Alert) -> bytes:
    """`text` is for notifications, `blocks` for the channel. Nothing a caller chose can mention anybody or be a link:
    `&`, `<` and `>` are escaped, as Slack asks."""
    title = _escaped(plain(alert.title))
    details = "\n".join(_escaped(line) for line in as_lines(alert))
    links = "  ".join(f"<{url}|{_escaped(name)}>" for name, url in alert.links)
    parts = [f"{_MARKS[alert.severity]} *{title}*", details, _escaped(alert.next_step), links]
    sections = [
        {"type": "section", "text": {"type": "mrkdwn", "text": part[:LONGEST_SECTION], "verbatim": True}}
        for part in parts
        if part
    ]
    return msgspec.json.encode({"text": title, "blocks": sections})


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)
