"""Raw sockets against the public port: what never becomes a request is bounded, refused in our shape, and counted."""

from __future__ import annotations

import json
import socket

import pytest
from live.running import HANG_S, Running

pytestmark = pytest.mark.xdist_group("live")
CHUNK = b"x" * 65536


def answer(connection: socket.socket) -> tuple[int, dict[str, object], bytes]:
    connection.settimeout(HANG_S)
    received = b""
    while b"\r\n\r\n" not in received or received.count(b"}") < 2:
        piece = connection.recv(65536)
        if not piece:
            break
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body), head


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"NONSENSE\r\n\r\n", id="no HTTP"),
        pytest.param(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
            id="two lengths",
        ),
        pytest.param(b"GET / HTTP/1.1\r\nbad header: x\r\n\r\n", id="blank in a name"),
        pytest.param(
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            id="CL and TE",
        ),
    ],
)
def test_what_is_no_request_is_refused_in_our_shape(server: Running, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request_bytes)
        status, body, head = answer(connection)
    assert status == 400
    assert body["error"]["code"] == "invalid_request"  # type: ignore[index]
    assert b"x-request-id: req_" in head


def test_an_endless_head_is_cut_off(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx-endless: ")
        sent = 0
        status = 0
        try:
            while sent < 64 * 1024 * 1024:
                connection.sendall(CHUNK)
                sent += len(CHUNK)
        except OSError:
            status = 431
        if not status:
            status, _, _ = answer(connection)
    assert status == 431
    assert sent < 16 * 1024 * 1024


def test_a_large_body_behind_a_usual_head_is_no_large_head(server: Running, app_key: str) -> None:
    body = {"model": "sim-small", "messages": [{"role": "user", "content": "y" * 30_000}], "max_tokens": 5}
    assert server.call("POST", "/v1/chat/completions", body, app_key).status == 200


def test_a_head_that_never_ends_is_timed_out(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n")
        status, body, _ = answer(connection)
    assert status == 408
    assert body["error"]["code"] == "request_timeout"  # type: ignore[index]
