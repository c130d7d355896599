"""Where a command's requests go: to a remote desk, to the desk of this machine, or to the desk's code in this process.

All three take the same requests, so that a command is written once.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from gateway.cli.asgi import ask
from gateway.cli.output import note
from gateway.core.errors import ConfigInvalid, Conflict, FaregateError
from gateway.settings import Settings, read_settings

URL_VARIABLE = "FAREGATE_URL"
KEY_VARIABLE = "FAREGATE_API_KEY"
LOCAL_HEADER = "x-faregate-local"
ORG_HEADER = "x-faregate-org"
RESTART_WAIT_S = 5.0
TIMEOUT_S = 30.0
MAX_REPLY_BYTES = 64 * 1024 * 1024
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Json = dict[str, Any]
Query = Mapping[str, str | int | list[str] | None]


class Failed(Exception):
    """A command ends with this message and exit code 1; with `usage`, 2."""

    def __init__(self, message: str, usage: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.usage = usage


class Refused(Failed):
    """The desk said no. `code` is its machine-readable reason, `members` the error's."""

    def __init__(self, status: int, members: Json) -> None:
        super().__init__(str(members.get("message") or f"the server answered {status}"))
        self.status = status
        self.code = str(members.get("code") or "")
        self.members = members


class Client(Protocol):
    """One conversation with a desk."""

    def send(self, method: str, path: str, query: Query | None = None, body: Json | None = None) -> Json:
        """The reply's JSON object. Raises Refused (status 400 and up) and Failed (no usable reply)."""
        ...

    def close(self) -> None: ...


def _target(path: str, query: Query | None) -> tuple[str, str]:
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return path, urlencode(given, doseq=True)


def _read(status: int, content: bytes, where: str) -> Json:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Failed(f"{where} answered {status} with something that is not Faregate's. Is the address right?")
    if status >= 400:
        error = document.get("error")
        raise Refused(status, error if isinstance(error, dict) else {})
    return document


class HttpClient:
    """Over HTTP, to a URL or to a Unix socket. One connection per request: commands make few."""

    def __init__(self, base: str, headers: Mapping[str, str], unix_socket: Path | None = None) -> None:
        """`base` is `http(s)://host[:port][/prefix]`. Raises Failed for anything else."""
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise Failed(f"FAREGATE_URL={base!r} is not an address; write it like https://gateway.example.com", True)
        self._https = parts.scheme == "https"
        self._host = parts.hostname
        try:
            self._port = parts.port
        except ValueError as error:
            raise Failed(f"FAREGATE_URL={base!r}: {error}", True) from error
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        self._headers = dict(headers)
        self._socket = unix_socket
        self._where = str(unix_socket) if unix_socket is not None else base

    @property
    def in_clear(self) -> bool:
        """Whether what is sent crosses a network unencrypted."""
        return not self._https and self._socket is None and self._host not in _LOOPBACK

    def send(self, method: str, path: str, query: Query | None = None, body: Json | None = None) -> Json:
        path, text = _target(path, query)
        target = f"{self._prefix}{path}{'?' + text if text else ''}"
        content = b"" if body is None else json.dumps(body).encode()
        headers = {**self._headers, "accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        connection = self._connection()
        try:
            connection.request(method, target, body=content or None, headers=headers)
            reply = connection.getresponse()
            received = reply.read(MAX_REPLY_BYTES)
        except (OSError, http.client.HTTPException) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise Failed(f"Cannot reach {self._where}: {said or type(error).__name__}.") from error
        finally:
            connection.close()
        return _read(reply.status, received, self._where)

    def close(self) -> None:
        return

    def _connection(self) -> http.client.HTTPConnection:
        if self._socket is not None:
            return _UnixConnection(self._socket)
        if self._https:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("desk", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


OpenDesk = AbstractAsyncContextManager[tuple[Any, str]]
"""The desk's application and its local token, for as long as the data folder's lock is held."""


class InProcessClient:
    """The desk's own code here, under the data folder's lock: nobody serves from the folder meanwhile."""

    def __init__(self, opening: OpenDesk, headers: Mapping[str, str]) -> None:
        """Raises what opening raises: Conflict when a server has the lock, StoreUnavailable, ConfigInvalid."""
        # What the desk would log of an error, the command says itself; a handler of the process still gets it.
        logging.getLogger("faregate.desk.errors").addHandler(logging.NullHandler())
        self._runner = asyncio.Runner()
        self._opening = opening
        try:
            self._app, token = self._runner.run(opening.__aenter__())
        except BaseException:
            self._runner.close()
            raise
        self._headers = {**headers, LOCAL_HEADER: token}

    def send(self, method: str, path: str, query: Query | None = None, body: Json | None = None) -> Json:
        path, text = _target(path, query)
        headers = dict(self._headers)
        content = b""
        if body is not None:
            headers["content-type"] = "application/json"
            content = json.dumps(body).encode()
        answer = self._runner.run(
            ask(self._app, method, path, query=text, headers=headers.items(), body=content, client=None)
        )
        return _read(answer.status, answer.body, "The local desk")

    def close(self) -> None:
        try:
            self._runner.run(self._opening.__aexit__(None, None, None))
        finally:
            self._runner.close()


def answers(socket_path: Path) -> bool:
    """Whether a desk listens on its socket."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(2.0)
    try:
        probe.connect(str(socket_path))
    except OSError:
        return False
    finally:
        probe.close()
    return True


def wait_for(socket_path: Path, seconds: float) -> bool:
    """Whether a desk listens within `seconds`: while it restarts, its server still has the folder's lock."""
    deadline = time.monotonic() + seconds
    while not answers(socket_path):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def open_client(environment: Mapping[str, str], org: str = "") -> Client:
    """The desk that FAREGATE_URL and FAREGATE_API_KEY name, else this machine's. Raises Failed."""
    url, key = environment.get(URL_VARIABLE, ""), environment.get(KEY_VARIABLE, "")
    if not url:
        return local_client(_settings(environment), org)
    if not key:
        raise Failed(f"{URL_VARIABLE} is set, but {KEY_VARIABLE} is not. Set it to a key whose role may do this.", True)
    if org:
        raise Failed("--org is for this machine's own gateway; over the network a key acts in its own org.", True)
    client = HttpClient(url, {"authorization": f"Bearer {key}"})
    if client.in_clear:
        note(f"{URL_VARIABLE} is http:// to another machine: the key travels where others can read it.")
    return client


def local_client(settings: Settings, org: str = "") -> Client:
    """The desk of this data folder: over its socket when a server owns the folder, else its code here.

    Raises Failed: neither can be had, and what to do.
    """
    headers = {ORG_HEADER: org} if org else {}
    if answers(settings.desk_socket):
        return _socket_client(settings, headers)
    from gateway.app import open_local

    try:
        return InProcessClient(open_local(settings), headers)
    except Conflict as error:
        # A server owns the folder: its desk is starting or restarting.
        if wait_for(settings.desk_socket, RESTART_WAIT_S):
            return _socket_client(settings, headers)
        raise Failed(f"{error.message} Its control plane does not answer; look at the server's log.") from error
    except FaregateError as error:
        raise Failed(error.message) from error
    except OSError as error:
        raise Failed(f"The data folder {settings.data_dir} cannot be used: {error.strerror or error}") from error


def _socket_client(settings: Settings, headers: Mapping[str, str]) -> Client:
    path = settings.secrets_dir / "local.token"
    try:
        token = path.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise Failed(
            f"{path} cannot be read: {error}. Run this as the user that Faregate runs as, or set {URL_VARIABLE} and "
            f"{KEY_VARIABLE}."
        ) from error
    return HttpClient("http://desk", {**headers, LOCAL_HEADER: token}, settings.desk_socket)


def _settings(environment: Mapping[str, str]) -> Settings:
    try:
        return read_settings(environment)
    except ConfigInvalid as error:
        raise Failed(error.message, True) from error
