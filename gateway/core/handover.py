"""What a worker says that leaves: calls it does not admit any more, and calls it cannot wait for any longer."""

from __future__ import annotations

from gateway.core.errors import ServerShuttingDown

GOODBYE = "server_shutting_down"
"""The message of the cancellation that ends a call which is left after a drain; the code it is recorded with."""


class HandedOver(ServerShuttingDown):
    """This worker has ended its admissions. A call that holds nothing yet goes to the successor, which the caller does
    not notice; only where that cannot be is this the answer."""

    def __init__(self) -> None:
        super().__init__("This server is being replaced. Try again.", headers={"retry-after": "1"})
