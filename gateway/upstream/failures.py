"""Failures that several modules of this room know: each has one wording."""

from __future__ import annotations

from gateway.core.errors import UpstreamInvalidReply, UpstreamNotStarted


def shutting_down() -> UpstreamNotStarted:
    return UpstreamNotStarted("The gateway is shutting down and opens no new connections.")


def unresolvable(where: str) -> UpstreamNotStarted:
    return UpstreamNotStarted(f"{where}: the host name cannot be resolved.")


def connect_time_out(where: str, connect_timeout_s: float) -> UpstreamNotStarted:
    message = f"{where} could not be connected to within {connect_timeout_s:g} s (connect time-out)."
    return UpstreamNotStarted(message, extra={"timeout": "connect"})


def pool_time_out(where: str, pool: str, connections_max: int, connect_timeout_s: float) -> UpstreamNotStarted:
    message = (
        f"{where}: all {connections_max} connections were in use for {connect_timeout_s:g} s (connect time-out). Raise "
        f"connections_max of {pool} if the provider takes more."
    )
    return UpstreamNotStarted(message, extra={"timeout": "pool"})


def closed_at_once(where: str) -> UpstreamNotStarted:
    return UpstreamNotStarted(f"{where} closed the connection, or spoke, before it was asked anything.")


def too_large(where: str, limit_bytes: int) -> UpstreamInvalidReply:
    return UpstreamInvalidReply(f"{where} sent a reply larger than {limit_bytes} bytes.")
