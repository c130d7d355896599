"""`FAREGATE_DATABASE_URL` for PostgreSQL: libpq's spelling, turned into what asyncpg takes.

A parameter that means nothing here is an error, not a silence: a mistyped `sslrootcert` must not mean that nobody
verifies the server.
"""

from __future__ import annotations

import ssl
from difflib import get_close_matches
from typing import Any

from sqlalchemy.engine import URL

from gateway.core.errors import ConfigInvalid

VARIABLE = "FAREGATE_DATABASE_URL"
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_PASSED_ON = ("host", "port", "target_session_attrs", "passfile")
_OURS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "application_name", "pgbouncer")
_ALSO_CALLED = {"ssl": "sslmode", "timeout": "connect_timeout"}
"""What other drivers call it."""
SYSTEM_ROOTS = "system"
"""What `sslrootcert` is where the machine's own certificate authorities are meant; the default, too."""


def driver_arguments(url: URL) -> tuple[URL, dict[str, Any]]:
    """The URL without what asyncpg takes as arguments, and these. Raises ConfigInvalid naming the parameter."""
    given = {name: value for name, value in url.query.items() if name in _OURS}
    unknown = sorted(set(url.query) - set(_OURS) - set(_PASSED_ON))
    if unknown:
        near = _near(unknown[0])
        hint = f"; did you mean {near}?" if near else f": known are {', '.join(sorted((*_OURS, *_PASSED_ON)))}"
        raise ConfigInvalid(f"{VARIABLE} has the parameter {unknown[0]!r}{hint}")
    single: dict[str, str] = {}
    for name, value in given.items():
        if not isinstance(value, str):
            raise ConfigInvalid(f"{VARIABLE} has {name} more than once")
        single[name] = value
    arguments: dict[str, Any] = {}
    if any(name.startswith("ssl") for name in single):
        arguments["ssl"] = _tls(single)
    if "connect_timeout" in single:
        arguments["timeout"] = _seconds(single["connect_timeout"])
    if "application_name" in single:
        arguments["server_settings"] = {"application_name": single["application_name"]}
    # pgbouncer=1, as other drivers want it, changes nothing: what a pooler needs is always done.
    return url.difference_update_query(list(_OURS)), arguments


def _near(name: str) -> str:
    """What an unknown parameter may stand for, or nothing."""
    return _ALSO_CALLED.get(name) or "".join(get_close_matches(name, (*_OURS, *_PASSED_ON), n=1))


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigInvalid(f"{VARIABLE} has connect_timeout={text!r}, which is not a number") from error


def _tls(given: dict[str, str]) -> str | ssl.SSLContext:
    """asyncpg's `ssl`: a mode, or a context where certificates are to be checked or shown."""
    mode = given.get("sslmode", "verify-full" if "sslrootcert" in given else "prefer")
    if mode not in _SSL_MODES:
        raise ConfigInvalid(f"{VARIABLE} has sslmode={mode!r}: use {', '.join(_SSL_MODES)}")
    if mode in ("disable", "allow", "prefer", "require") and not {"sslrootcert", "sslcert", "sslkey"} & set(given):
        return mode
    if mode in ("disable", "allow", "prefer"):
        raise ConfigInvalid(f"{VARIABLE} has certificates with sslmode={mode}: use verify-full")
    roots = given.get("sslrootcert", SYSTEM_ROOTS)
    try:
        context = ssl.create_default_context(cafile=None if roots == SYSTEM_ROOTS else roots)
        if "sslcert" in given:
            context.load_cert_chain(given["sslcert"], given.get("sslkey"))
    except OSError as error:  # ssl.SSLError is one
        raise ConfigInvalid(f"{VARIABLE} names a certificate or key that cannot be read: {error}") from error
    context.check_hostname = mode == "verify-full"
    if mode == "require" and "sslrootcert" not in given:
        context.verify_mode = ssl.CERT_NONE  # as libpq: without roots, require encrypts and asks nothing
    return context
