"""The listening socket, which outlives every worker."""

from __future__ import annotations

import socket

from gateway.core.errors import Conflict

BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """The listening socket, kept open by the supervisor across every worker. Raises Conflict when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Conflict(
            f"Cannot listen on {host}:{port}: {error.strerror}. Stop what uses it, or choose another with "
            "FAREGATE_PORT (or --port)."
        ) from error
    listener.listen(BACKLOG)
    listener.set_inheritable(True)
    return listener


def free_port() -> int:
    """A port of this machine that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
