"""`faregate restart`: replaces every process of the running server by the code on disk, without refusing a call."""

from __future__ import annotations

import asyncio

from gateway.channel.client import request
from gateway.channel.messages import Restart, Restarted
from gateway.core.errors import Conflict
from gateway.settings import Settings

RESTART_S = 300.0
"""The sum of what the supervisor waits for, at most."""


def restart(settings: Settings) -> None:
    """Prints what was replaced. Raises Conflict when no server owns the data folder, or it could not replace all."""
    try:
        answer = asyncio.run(request(settings.supervisor_socket, Restart(), RESTART_S))
    except ConnectionError as error:
        raise Conflict(
            f"No server of the data folder {settings.data_dir} answers ({error}). Start it with `faregate serve`, or "
            "set FAREGATE_DATA_DIR to the one that runs."
        ) from error
    if not isinstance(answer, Restarted):
        raise Conflict("The running server does not know this command. Stop it and start it again.")
    for line in answer.done:
        print(line)
    if answer.failed:
        raise Conflict(answer.failed)
