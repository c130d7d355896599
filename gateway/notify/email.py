"""E-mail by SMTP: smtplib of the standard library in a thread of its own, connected to an address that was checked.

The event loop's own threads are few, and the books are written by them: a mail server that hangs must not hold those.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any

from gateway.core.addresses import forbidden, literal_address
from gateway.core.alerts import Alert, Channel, Encryption, Notified
from gateway.notify.payload import as_lines, plain

SOCKET_TIMEOUT_S = 8.0
_SHOWN = 200


async def send(channel: Channel, password: str, alert: Alert) -> Notified:
    """One attempt: delivered when the server has taken it for every recipient."""
    host, _, port = channel.address.rpartition(":")
    host = host.strip("[]")
    try:
        mail = as_mail(alert, channel)
        await _apart(lambda: _deliver(channel, host, _checked(host, channel), int(port), password, mail))
    except (OSError, smtplib.SMTPException, ValueError) as error:
        return Notified(False, _said(error, password))
    return Notified(True)


def as_mail(alert: Alert, channel: Channel) -> EmailMessage:
    """The message; its id is the alert's, so that one that comes twice is recognised."""
    mail = EmailMessage()
    mail["Subject"] = plain(f"[{alert.severity.value}] {alert.title}")[:200]
    mail["From"] = _address(channel.sender)
    mail["To"] = [_address(one) for one in channel.recipients]
    mail["Message-ID"] = f"<{alert.id}@{channel.sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Faregate-Alert"] = alert.id
    links = [f"{name}: {url}" for name, url in alert.links]
    parts = [plain(alert.title), "\n".join(as_lines(alert)), alert.next_step, "\n".join(links)]
    mail.set_content("\n\n".join(part for part in parts if part) + "\n")
    return mail


def _address(text: str) -> Address:
    return Address("", addr_spec=text)


async def _apart(run: Callable[[], None]) -> None:
    """Runs it in a thread that nothing waits for: neither other work, nor the end of the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def end(error: Exception | None) -> None:
        if done.done():
            return  # nobody waits any more
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def work() -> None:
        found: Exception | None = None
        try:
            run()
        except Exception as error:  # noqa: BLE001 - it is the waiting side's
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(end, found)

    threading.Thread(target=work, name="alert mail", daemon=True).start()
    await done


def _checked(host: str, channel: Channel) -> list[str]:
    """The addresses to connect to. Raises ValueError when one may not be connected to, OSError when there is none."""
    literal = literal_address(host)
    if literal:
        found = [literal]
    else:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        found = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))
    for address in found:
        why = forbidden(address, channel.networks)
        if why:
            raise ValueError(f"{host} may not be connected to: {why.replace('the provider', 'the channel')}")
    return found


def _deliver(channel: Channel, host: str, addresses: list[str], port: int, password: str, mail: EmailMessage) -> None:
    context = ssl.create_default_context(cafile=channel.ca_bundle or None)
    kind = _Tls if channel.encryption is Encryption.TLS else _Plain
    with kind(host, port, addresses, context) as server:
        if channel.encryption is Encryption.STARTTLS:
            server.starttls(context=context)
        if channel.user:
            server.login(channel.user, password)
        refused = server.send_message(mail)
    if refused:
        raise smtplib.SMTPRecipientsRefused(refused)


class _Plain(smtplib.SMTP):
    """Connects to one of the addresses that were checked, and names the host in TLS."""

    def __init__(self, host: str, port: int, addresses: list[str], context: ssl.SSLContext) -> None:
        self._addresses = addresses
        self._context = context
        super().__init__(host, port, local_hostname="faregate", timeout=SOCKET_TIMEOUT_S)

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        for address in self._addresses[:-1]:
            try:
                return socket.create_connection((address, port), timeout)
            except OSError:
                continue
        return socket.create_connection((self._addresses[-1], port), timeout)


class _Tls(_Plain):
    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        raw = super()._get_socket(host, port, timeout)
        try:
            return self._context.wrap_socket(raw, server_hostname=host)
        except BaseException:
            raw.close()
            raise


def _said(error: BaseException, password: str) -> str:
    """The error on one line, without the password, whatever a server repeats."""
    text = plain(f"{type(error).__name__}: {error}")
    return (text.replace(password, "***") if password else text)[:_SHOWN]
