"""The supervisor: starts desk, bookkeeper and worker, restarts what dies, keeps the listening socket, drains, and
replaces everything by what is on disk without refusing a call."""

from gateway.supervisor.children import Child, ChildSpec
from gateway.supervisor.sockets import bind, free_port
from gateway.supervisor.supervisor import Supervisor

__all__ = ["Child", "ChildSpec", "Supervisor", "bind", "free_port"]
