"""From a host's name to addresses that may be connected to, which is asked at each new connection.

A name is checked when it is used, not when it is configured: DNS may answer otherwise by then. Every address of an
answer is checked, and the caller connects to what was checked, never to the name again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from gateway.core.addresses import forbidden, literal_address
from gateway.core.errors import UpstreamNotStarted
from gateway.upstream.failures import shutting_down, unresolvable

DNS_CACHE_S = 10.0
DNS_NAMES_MAX = 1024

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Addresses of a host name, in the order to try them. Raises OSError when there is none."""


async def system_resolve(host: str) -> tuple[str, ...]:
    """What the system's resolver says."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def check_address(where: str, address: str, networks: tuple[str, ...]) -> None:
    """Raises UpstreamNotStarted when `address` may not be connected to; the message says what would allow it."""
    try:
        why = forbidden(address, networks)
    except ValueError as error:
        raise UpstreamNotStarted(f"{where}: {error}") from error
    if why:
        raise UpstreamNotStarted(f"{where} may not be connected to: {why}.")


class Resolving:
    """Checked addresses of hosts. Answers are kept for a few seconds; calls that ask together share one question."""

    __slots__ = ("_answers", "_asked", "_kept_s", "_resolve")

    def __init__(self, resolve: Resolve = system_resolve, kept_s: float = DNS_CACHE_S) -> None:
        self._resolve = resolve
        self._kept_s = kept_s
        self._answers: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._asked: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def addresses(self, where: str, host: str, networks: tuple[str, ...]) -> tuple[str, ...]:
        """At least one. Raises UpstreamNotStarted: not resolvable, or one of them is forbidden."""
        found = await self.unchecked(where, host)
        for address in found:
            check_address(where, address, networks)
        return found

    async def unchecked(self, where: str, host: str) -> tuple[str, ...]:
        """For what the operator named himself, a proxy. Raises UpstreamNotStarted when it cannot be resolved."""
        literal = literal_address(host)
        if literal:
            return (literal,)
        loop = asyncio.get_running_loop()
        kept = self._answers.get(host)
        if kept is not None and loop.time() < kept[0]:
            return kept[1]
        question = self._question(host)
        try:
            found = await asyncio.shield(question)
        except (OSError, UnicodeError) as error:
            raise unresolvable(where) from error
        except asyncio.CancelledError as error:
            caller = asyncio.current_task()
            if question.cancelled() and caller is not None and not caller.cancelling():
                raise shutting_down() from error
            raise
        if not found:
            raise unresolvable(where)
        return found

    def forget(self, host: str) -> None:
        """None of the host's addresses let us in: the next connection asks again."""
        self._answers.pop(host, None)

    async def close(self) -> None:
        """Ends the questions under way. The system's resolver cannot be interrupted, but nobody waits for it."""
        asked = list(self._asked.values())
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    def _question(self, host: str) -> asyncio.Task[tuple[str, ...]]:
        task = self._asked.get(host)
        if task is None:
            task = self._asked[host] = asyncio.get_running_loop().create_task(self._ask(host))
            task.add_done_callback(_seen)
        return task

    async def _ask(self, host: str) -> tuple[str, ...]:
        try:
            found = tuple(await self._resolve(host))
        finally:
            self._asked.pop(host, None)
        while len(self._answers) >= DNS_NAMES_MAX:
            self._answers.pop(next(iter(self._answers)))
        self._answers[host] = (asyncio.get_running_loop().time() + self._kept_s, found)
        return found


def _seen(task: asyncio.Task[tuple[str, ...]]) -> None:
    """All who asked may have been cancelled; an error that nobody waits for is no news."""
    if not task.cancelled():
        task.exception()
