"""A tunnel through an HTTP proxy: CONNECT to the provider, then TLS with the provider itself."""

from __future__ import annotations

import asyncio
import ssl

from gateway.core.errors import UpstreamNotStarted
from gateway.upstream.connection import Connection
from gateway.upstream.framing import HEAD_BYTES_MAX, NotHttp, read_head
from gateway.upstream.prepared import proxy_authorization
from gateway.upstream.target import ProxyAddress, authority


class _Answer(asyncio.Protocol):
    """Collects the proxy's answer. Anything behind it would be taken for the provider's, so there must be nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.status: asyncio.Future[int] = loop.create_future()
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n") + 4
        if self.status.done():
            return
        try:
            if end >= 4:
                status, _ = read_head(self._data[:end])
                if status == 200 and len(self._data) > end:
                    raise NotHttp("it goes on after its answer")
                self.status.set_result(status)
            elif len(self._data) > HEAD_BYTES_MAX:
                raise NotHttp("its answer is too large")
        except NotHttp as error:
            self.status.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.status.done():
            self.status.set_exception(ConnectionResetError())


async def tunnelled(
    where: str, refused: str, proxy: ProxyAddress, provider: tuple[str, int], context: ssl.SSLContext, address: str
) -> Connection:
    """A connection whose TLS ends at the provider. Raises UpstreamNotStarted beginning with `refused`, OSError,
    ssl.SSLError. Nothing stays open when it raises."""
    loop = asyncio.get_running_loop()
    host, port = provider
    transport, answer = await loop.create_connection(lambda: _Answer(loop), address, proxy.port)
    try:
        line = f"CONNECT {authority(host, port)} HTTP/1.1\r\nhost: {authority(host, port)}\r\n".encode()
        transport.write(line + proxy_authorization(proxy) + b"\r\n")
        try:
            status = await answer.status
        except NotHttp as error:
            raise UpstreamNotStarted(f"{refused}: {error}.") from error
        if status != 200:
            raise UpstreamNotStarted(f"{refused}: it answered {status}.")
        connection = Connection(loop, where)
        connection.connection_made(transport)
        inner = await loop.start_tls(transport, connection, context, server_hostname=host.rstrip("."))
        if inner is None:
            raise ConnectionResetError
        connection.connection_made(inner)
        return connection
    except BaseException:
        transport.abort()
        raise
