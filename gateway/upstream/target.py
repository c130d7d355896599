"""What an endpoint's URL means: scheme, host, port and the request target, checked once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from gateway.core.errors import UpstreamNotStarted
from gateway.core.upstream import Endpoint

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOT_IN_A_TARGET = re.compile(r"[^\x21-\x7e\x80-\xff]")
_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f]")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")


@dataclass(frozen=True, slots=True)
class Target:
    """`host` is without brackets, `authority` as the Host header has it, `path` with its query as it was given."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str
    where: str
    """Pool, host and port, for messages: never the whole URL, which may hold a secret in its query or user part."""


def target_of(endpoint: Endpoint) -> Target:
    """Raises UpstreamNotStarted when the URL or the method cannot be used; the message names what is wrong with it."""
    parts = _split(endpoint.url, endpoint.pool, "base_url")
    if parts.scheme not in _DEFAULT_PORTS:
        raise _unusable(endpoint.pool, "base_url", "it must begin with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise _unusable(endpoint.pool, "base_url", "it must not hold a user or password; use a header")
    if not _METHOD.fullmatch(endpoint.method):
        raise UpstreamNotStarted(f"{endpoint.pool}: the method is not one of HTTP.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if _NOT_IN_A_TARGET.search(path):
        raise _unusable(endpoint.pool, "base_url", "its path or query has to be percent-encoded")
    host, port = _host(parts, endpoint.pool, "base_url")
    where = endpoint.unix_socket or f"{host}:{port}"
    return Target(parts.scheme, host, port, authority(host, port, parts.scheme), path, f"{endpoint.pool} ({where})")


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    host: str
    port: int
    credentials: str
    """`user:password`, or empty."""


def proxy_of(endpoint: Endpoint) -> ProxyAddress | None:
    """Raises UpstreamNotStarted when the proxy is no http:// URL."""
    if not endpoint.proxy:
        return None
    parts = _split(endpoint.proxy, endpoint.pool, "proxy")
    if parts.scheme != "http":
        raise _unusable(endpoint.pool, "proxy", "it must begin with http://")
    host, port = _host(parts, endpoint.pool, "proxy")
    credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return ProxyAddress(host, port, "" if credentials == ":" else credentials)


def authority(host: str, port: int, scheme: str = "") -> str:
    """Host and port as HTTP writes them: IPv6 in brackets, without the scheme's own port."""
    name = f"[{host}]" if ":" in host else host
    return name if port == _DEFAULT_PORTS.get(scheme) else f"{name}:{port}"


def _split(url: str, pool: str, setting: str) -> SplitResult:
    if _NOT_IN_A_URL.search(url):
        raise _unusable(pool, setting, "it holds a space or a control character")
    try:
        return urlsplit(url)
    except ValueError as error:
        raise _unusable(pool, setting, "it is no URL") from error


def _host(parts: SplitResult, pool: str, setting: str) -> tuple[str, int]:
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _unusable(pool, setting, "its port is none") from error
    if port is None:
        port = _DEFAULT_PORTS[parts.scheme]
    try:
        host = host.encode("ascii" if host.isascii() else "idna").decode("ascii")
    except UnicodeError as error:
        raise _unusable(pool, setting, "its host is no name of the Internet") from error
    if not host or port == 0 or re.search(r"[^\w.:-]", host):
        raise _unusable(pool, setting, "it names no host and port")
    return host, port


def _unusable(pool: str, setting: str, why: str) -> UpstreamNotStarted:
    return UpstreamNotStarted(f"{pool}: its {setting} cannot be used: {why}.")
