"""core.corrections.Correcting over the bookkeeper's socket: the desk's side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from gateway.channel.client import request
from gateway.channel.frames import ChannelBroken
from gateway.channel.messages import AllLoaded, AppendCorrections, AskLoaded, CorrectionsAppended, Reply, Request
from gateway.core.corrections import Appended
from gateway.core.errors import Conflict, StoreUnavailable
from gateway.core.records import Correct

ANSWER_S = 10.0
"""The bookkeeper itself waits 8 s for SQL."""
TRY_S = 10.0
"""For how long it is asked again: a bookkeeper that was killed is back within 2 s, and nothing is appended twice."""
PAUSE_S = 0.5


class RemoteCorrecting:
    def __init__(self, path: Path, try_s: float = TRY_S) -> None:
        self._path = path
        self._try_s = try_s

    async def append(self, corrections: Sequence[tuple[bytes, Correct]]) -> Appended:
        """See the port. Raises StoreUnavailable when no bookkeeper answers, Conflict when it cannot now."""
        answer = await self._ask(AppendCorrections(tuple(corrections)))
        if not isinstance(answer, CorrectionsAppended):
            raise StoreUnavailable(f"The bookkeeper gave an unexpected answer: {type(answer).__name__}")
        if answer.failed:
            raise (StoreUnavailable if answer.status >= 500 else Conflict)(answer.failed)
        return Appended(answer.appended, answer.again, answer.stale)

    async def all_loaded(self, before_ms: int) -> str:
        """See the port. Raises StoreUnavailable when no bookkeeper answers."""
        answer = await self._ask(AskLoaded(before_ms))
        if not isinstance(answer, AllLoaded):
            raise StoreUnavailable(f"The bookkeeper gave an unexpected answer: {type(answer).__name__}")
        return answer.missing

    async def _ask(self, message: Request) -> Reply:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + self._try_s
        while True:
            try:
                answer = await request(self._path, message, ANSWER_S)
            except ChannelBroken as error:
                if loop.time() > end_s:
                    raise StoreUnavailable(
                        "The bookkeeper does not answer, and only it writes corrections and knows whether all is "
                        f"recorded: {error}. Start the gateway and do this again: nothing is done twice."
                    ) from error
            else:
                if not (isinstance(answer, CorrectionsAppended) and answer.failed) or loop.time() > end_s:
                    return answer
            await asyncio.sleep(PAUSE_S)
