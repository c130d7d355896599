"""Frames on a Unix socket: a 4-byte big-endian length, then one msgpack value of that length."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

import msgspec

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""The largest message is all keys of an installation (10⁵ keys: about 40 MiB)."""
_LENGTH_BYTES = 4

Incoming = TypeVar("Incoming")


class ChannelBroken(ConnectionError):
    """The other side went away, sent what is no message of ours, or sent too much. Never leaves this host's processes:
    callers turn it into an answer of their own (`pending`, a retry)."""


class Connection(Generic[Incoming]):
    """One end of a connection. `receive` gives messages of one closed union; sending is safe from several tasks."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decoder: msgspec.msgpack.Decoder[Incoming]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = decoder
        self._encoder = msgspec.msgpack.Encoder()

    async def send(self, message: msgspec.Struct | dict[str, str]) -> None:
        """Returns when the kernel has taken it, or nearly so: a reader that does not read holds the sender up here.

        Raises ChannelBroken.
        """
        body = self._encoder.encode(message)
        if len(body) > MAX_FRAME_BYTES:
            raise ChannelBroken(f"a message of {len(body)} bytes is longer than {MAX_FRAME_BYTES}")
        try:
            # One write for both: two tasks' frames can never be mixed.
            self._writer.write(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
            await self._writer.drain()
        except (OSError, RuntimeError) as error:
            raise ChannelBroken(f"the other side went away: {error}") from error

    async def receive(self) -> Incoming:
        """The next message. Raises ChannelBroken at the end of the connection too."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            if length > MAX_FRAME_BYTES:
                raise ChannelBroken(f"a frame of {length} bytes is longer than {MAX_FRAME_BYTES}")
            body = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ChannelBroken("the other side went away") from error
        try:
            return self._decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise ChannelBroken(f"not a message of this version: {error}") from error

    def close(self) -> None:
        """Closes at once; harmless when closed already."""
        self._writer.close()

    async def wait_closed(self) -> None:
        """Returns when the socket is gone."""
        try:
            await self._writer.wait_closed()
        except OSError:
            return
