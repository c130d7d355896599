"""TLS towards providers: verified, 1.2 or newer, one context for each pair of files."""

from __future__ import annotations

import asyncio
import os
import ssl

from gateway.core.errors import UpstreamNotStarted

ContextKey = tuple[str, str, int, int]
CONTEXTS_MAX = 64


class TlsContexts:
    """Contexts by the files they were made of. A file that has been replaced is read again at the next connection, so
    that a renewed certificate needs no restart."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[ContextKey, ssl.SSLContext] = {}

    async def context(self, ca_bundle: str, client_certificate: str) -> ssl.SSLContext:
        """Made in a thread: reading the system's trust takes some 20 ms. Raises UpstreamNotStarted."""
        key = (
            ca_bundle,
            client_certificate,
            _changed_ns("ca_bundle", ca_bundle),
            _changed_ns("client_certificate", client_certificate),
        )
        made = self._made.get(key)
        if made is None:
            made = await asyncio.to_thread(make_context, ca_bundle, client_certificate)
            while len(self._made) >= CONTEXTS_MAX:
                self._made.pop(next(iter(self._made)))
            self._made[key] = made
        return made


def make_context(ca_bundle: str, client_certificate: str) -> ssl.SSLContext:
    """The system's trust, or only the given file's. Raises UpstreamNotStarted when a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=ca_bundle or None)
    except OSError as error:
        raise _unusable("ca_bundle", ca_bundle, error) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if client_certificate:
        try:
            context.load_cert_chain(client_certificate, password="")  # never asks on a terminal
        except OSError as error:
            raise _unusable("client_certificate", client_certificate, error) from error
    return context


def tls_failure(where: str, error: ssl.SSLError) -> UpstreamNotStarted:
    """The reason of a handshake that failed. Nothing of the request was sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message or "certificate not valid for the host"
        return UpstreamNotStarted(f"{where}: TLS certificate refused: {reason}.")
    return UpstreamNotStarted(f"{where}: TLS failed: {error.reason or 'no handshake'}.")


def _changed_ns(setting: str, path: str) -> int:
    if not path:
        return 0
    try:
        return os.stat(path).st_mtime_ns
    except OSError as error:
        raise _unusable(setting, path, error) from error


def _unusable(setting: str, path: str, error: OSError) -> UpstreamNotStarted:
    return UpstreamNotStarted(f"The {setting} {path} cannot be used: {error.strerror or error}.")
