"""Real receivers: an aiohttp server for webhooks and Slack, aiosmtpd for mail."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import AsyncMessage
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from live.running import free_port

from gateway.core.alerts import Alert, AlertKind, Figure, Severity

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoaXJ0eS10d28gYnl0ZXMgYXQgbGVhc3Qh"
ALERT = Alert(
    id="alr_1",
    dedupe="threshold|lim_1|k1|2026-11|80|5",
    kind=AlertKind.THRESHOLD,
    severity=Severity.WARNING,
    created_ms=1_795_000_000_000,
    title="80 % of limit users spent by <!channel> & co\nBcc: everybody@example.com",
    next_step="Raise it.",
    org="acme",
    scope=(("user", "<https://evil.example|Zoë>"),),
    period="2026-11",
    period_ends_ms=1_796_083_200_000,
    figures=(Figure("spent", 4_000_000_001, "nusd", "4.000000001"),),
    links=(("show", "https://gateway.example.com/ui"), ("pause", "https://gateway.example.com/alerts/pause?token=t")),
)


@dataclass
class Hooks:
    """What arrived, and what is answered: the next of `answers`, then 200."""

    port: int = 0
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def url(self, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}/hook"


@asynccontextmanager
async def hooks(tls: ssl.SSLContext | None = None) -> AsyncIterator[Hooks]:
    seen = Hooks()

    async def take(request: web.Request) -> web.Response:
        seen.received.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        status = seen.answers.pop(0) if seen.answers else 200
        headers = {"location": "http://169.254.169.254/"} if status == 302 else {}
        return web.Response(status=status, text=f"said {status}", headers=headers)

    app = web.Application()
    app.router.add_post("/{any:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    seen.port = runner.addresses[0][1]
    try:
        yield seen
    finally:
        await runner.cleanup()


@dataclass
class Post:
    port: int = 0
    mails: list[object] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)


class _Box(AsyncMessage):
    def __init__(self, post: Post) -> None:
        super().__init__()
        self._post = post

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody@"):
            return "550 there is nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_message(self, message: object) -> None:
        self._post.mails.append(message)


def _knows(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    assert isinstance(data, LoginPassword)
    return AuthResult(success=(data.login, data.password) == (b"faregate", b"pass word"), handled=False)


@contextmanager
def post(starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Post]:
    """A mail server in a thread; with `starttls` it wants encryption and a sign-in."""
    seen = Post(free_port())
    more = {} if starttls is None else {"require_starttls": True, "auth_required": True, "authenticator": _knows}
    controller = Controller(
        _Box(seen),
        hostname="127.0.0.1",
        port=seen.port,
        tls_context=starttls,
        ssl_context=tls,
        **more,  # type: ignore[arg-type]
    )
    controller.start()
    try:
        yield seen
    finally:
        controller.stop()
