"""core.alerts.Notifier over the kinds of channels there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.core.alerts import Alert, Channel, ChannelKind, Notified
from gateway.core.errors import ConfigInvalid
from gateway.core.ports import Clock
from gateway.core.upstream import Upstream
from gateway.notify import email, slack, webhook

ATTEMPT_S = 20.0


class ChannelNotifier:
    """`secret` reads a reference (`env:NAME`, `file:/path`; empty for none) or raises ConfigInvalid."""

    def __init__(self, upstream: Upstream, secret: Callable[[str], str], clock: Clock) -> None:
        self._upstream = upstream
        self._secret = secret
        self._clock = clock

    async def send(self, channel: Channel, alert: Alert) -> Notified:
        """See the port."""
        try:
            secret = self._secret(channel.secret)
            async with asyncio.timeout(ATTEMPT_S):
                return await self._send(channel, secret, alert)
        except ConfigInvalid as error:
            return Notified(False, error.message)
        except TimeoutError:
            return Notified(False, f"no end after {ATTEMPT_S:.0f} s")
        except Exception as error:  # noqa: BLE001 - the port never raises; the words may hold a secret, the kind does not
            return Notified(False, f"cannot be sent: {type(error).__name__}")

    async def _send(self, channel: Channel, secret: str, alert: Alert) -> Notified:
        match channel.kind:
            case ChannelKind.WEBHOOK:
                return await webhook.send(self._upstream, channel, secret, alert, self._clock.now_ms())
            case ChannelKind.SLACK:
                return await slack.send(self._upstream, channel, secret, alert)
            case ChannelKind.EMAIL:
                return await email.send(channel, secret, alert)
