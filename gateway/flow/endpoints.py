"""The endpoint of an attempt: made once per provider and path, so that a client can prepare its connections for it."""

from __future__ import annotations

import logging

from gateway.core.config import ProviderSettings
from gateway.core.errors import ConfigInvalid, CredentialMissing
from gateway.core.ports import Configuration, Wire
from gateway.core.upstream import Endpoint

LOG = logging.getLogger("faregate.flow")
EVENT_STREAM = "text/event-stream"
REMEMBERED_ENDPOINTS = 4096


class Endpoints:
    """Endpoints with a memory: the same object until its provider's settings or its credential are others."""

    __slots__ = ("_known", "_run_dir")

    def __init__(self, run_dir: str = "") -> None:
        """`run_dir` holds the sockets of our own processes."""
        self._run_dir = run_dir
        self._known: dict[tuple[str, str, str, bool, bool], tuple[ProviderSettings, str, Endpoint]] = {}

    def of(
        self,
        configuration: Configuration,
        provider: ProviderSettings,
        wire: Wire,
        url: str,
        stream: bool,
        once: str = "",
        *,
        callers_own: bool = False,
    ) -> Endpoint:
        """With `once`, a method, an endpoint for one request; with `callers_own` one without our credential. Raises
        CredentialMissing."""
        try:
            secret = "" if callers_own else configuration.credential(provider.credential)
        except ConfigInvalid as error:
            LOG.error("no usable credential: %s", error.message)
            raise CredentialMissing(
                f"The gateway has no usable credential for the provider {provider.name}. Its operator must set one; "
                "your key is fine."
            ) from error
        if once:
            return _endpoint(provider, url, secret, stream, self._run_dir, once)
        key = (provider.name, wire.name, url, stream, callers_own)
        known = self._known.get(key)
        if known is not None and known[0] is provider and known[1] == secret:
            return known[2]
        if len(self._known) >= REMEMBERED_ENDPOINTS:
            self._known.clear()
        endpoint = _endpoint(provider, url, secret, stream, self._run_dir)
        self._known[key] = (provider, secret, endpoint)
        return endpoint


def _endpoint(
    provider: ProviderSettings, url: str, secret: str, stream: bool, run_dir: str, method: str = "POST"
) -> Endpoint:
    headers = [
        ("content-type", "application/json"),
        ("accept", EVENT_STREAM if stream else "application/json"),
        ("accept-encoding", "identity"),
        ("user-agent", "faregate"),
        *provider.headers,
    ]
    if secret:
        headers.append((provider.auth_header, f"{provider.auth_scheme} {secret}".strip()))
    return Endpoint(
        pool=provider.name,
        url=url,
        method=method,
        headers=tuple(headers),
        connect_timeout_s=provider.connect_timeout_s,
        timeout_s=provider.timeout_s,
        idle_timeout_s=provider.idle_timeout_s,
        keepalive_s=provider.keepalive_s,
        connections_max=provider.connections_max,
        ca_bundle=provider.ca_bundle,
        client_certificate=provider.client_certificate,
        proxy=provider.proxy,
        networks=provider.networks,
        unix_socket=f"{run_dir}/{provider.unix_socket}" if provider.unix_socket else "",
    )
