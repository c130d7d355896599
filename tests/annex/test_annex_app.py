"""The annex as a process with a scripted vendor: its endpoints, refusals, cuts and cancelled calls."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest
from live.running import wait_for

from annex.asking import ask, chat, scripted, spec

pytestmark = pytest.mark.xdist_group("annex")


@pytest.fixture(scope="module")
def annex(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with scripted(tmp_path_factory.mktemp("annex"), spec()) as (path, _):
        yield path


def test_a_whole_reply(annex: Path) -> None:
    said = chat(annex, "script/plain")
    assert (said.status, said.headers["x-litellm-response-cost"]) == (200, "0.000015")
    assert said.json["choices"][0]["message"] == {"role": "assistant", "content": "scripted", "images": []}
    assert said.json["usage"]["prompt_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 2}
    assert "vertex_ai_safety_results" not in said.json


def test_a_stream_ends_with_usage_and_done(annex: Path) -> None:
    said = chat(annex, "script/plain", stream=True, stream_options={"include_usage": True})
    assert said.headers["content-type"].startswith("text/event-stream")
    *chunks, usage, done = said.events
    assert done == "[DONE]"
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 17)
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-0"}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "word0 word1 word2 "


def test_invented_usage_is_sent_by_no_endpoint(annex: Path) -> None:
    assert "usage" not in chat(annex, "script/no-usage").json
    events = chat(annex, "script/no-usage", stream=True, stream_options={"include_usage": True}).events
    assert not [event for event in events if "usage" in event]


def test_embeddings_and_rerank(annex: Path) -> None:
    said = ask(annex, "POST", "/p/v1/embeddings", {"model": "script/e", "input": "x"})
    assert said.json["data"][0]["embedding"] == [0.5, -1.25]
    assert said.json["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    ranked = ask(annex, "POST", "/p/v1/rerank", {"model": "script/r", "query": "x", "documents": ["y"]})
    assert ranked.json["results"] == [{"index": 0, "relevance_score": 0.9}]


def test_a_refusal_keeps_its_status_and_when_to_come_again(annex: Path) -> None:
    for more in ({}, {"stream": True}):
        said = chat(annex, "script/refuse", **more)
        assert (said.status, said.headers["retry-after"], said.json["error"]["code"]) == (429, "7", "throttled")


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "code"),
    [
        ("GET", "/p/v1/chat/completions", None, 404, "not_found"),
        ("POST", "/p/v1/images", {}, 404, "not_found"),
        ("POST", "/p/v1/chat/completions", b"{", 400, "invalid_request"),
        ("POST", "/p/v1/chat/completions", {"model": "script/x", "api_base": "http://x"}, 400, "invalid_request"),
        ("POST", "/p/v1/chat/completions", {"model": "other/x"}, 404, "model_not_found"),
        ("POST", "/q/v1/chat/completions", {"model": "script/x"}, 503, "annex_starting"),
    ],
)
def test_what_is_not_served(annex: Path, method: str, target: str, body: object, status: int, code: str) -> None:
    said = ask(annex, method, target, body)
    assert (said.status, said.json["error"]["code"]) == (status, code)


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_a_call_in_doubt_is_cut_before_any_status(annex: Path, more: dict[str, bool]) -> None:
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        chat(annex, "script/doubt", **more)


def test_a_stream_in_doubt_is_cut(annex: Path) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        chat(annex, "script/doubt-later", stream=True)


def test_a_stream_refused_later_ends_with_an_error_and_without_done(annex: Path) -> None:
    events = chat(annex, "script/refuse-later", stream=True).events
    assert events[-1]["error"]["code"] == "overloaded"
    assert "[DONE]" not in events


def test_health_tells_what_is_served(annex: Path) -> None:
    assert ask(annex, "GET", "/health").json == {"providers": ["p"], "running": 0}


def test_the_socket_is_this_users_alone(annex: Path) -> None:
    assert stat.S_IMODE(annex.stat().st_mode) == 0o600


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_a_caller_that_goes_ends_the_vendors_work(tmp_path: Path, more: dict[str, bool]) -> None:
    file = tmp_path / "witness"
    with scripted(tmp_path, spec(witness=str(file), chunks="1000", interval_ms="20")) as (path, _):
        body = json.dumps({"model": "script/slow", "messages": [], **more}).encode()
        head = f"POST /p/v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))
            client.sendall(head.encode() + body)
            wait_for("the vendor's begin", lambda: file.exists() and "begin" in file.read_text())
        wait_for("the vendor's end", lambda: file.read_text() == "begin\ncancelled\n")
        wait_for("no running call", lambda: ask(path, "GET", "/health").json["running"] == 0)


def test_credential_files_are_read_again_on_sighup(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("first\n")
    with scripted(tmp_path, spec(api_key=f"file:{key}")) as (path, process):

        def seen() -> str:
            text: str = chat(path, "script/secret").json["choices"][0]["message"]["content"]
            return text

        assert seen() == "first"
        key.write_text("second\n")
        assert seen() == "first"
        process.send_signal(signal.SIGHUP)
        wait_for("the new key", lambda: seen() == "second")


def test_sigterm_lets_a_stream_end(tmp_path: Path) -> None:
    file = tmp_path / "witness"
    with scripted(tmp_path, spec(witness=str(file), chunks="20", interval_ms="20")) as (path, process):
        asked = _in_thread(path, process, file)
        assert asked[-1] == "[DONE]"
        assert process.wait(timeout=30) == 0


def _in_thread(path: Path, process: Popen[bytes], file: Path) -> list[object]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(chat, path, "script/plain", stream=True)
        wait_for("the stream's begin", lambda: file.exists())
        process.terminate()
        return running.result(timeout=30).events


def test_a_spec_that_is_none_ends_the_process(tmp_path: Path) -> None:
    import subprocess

    from annex.asking import COMMAND

    done = subprocess.run(
        [*COMMAND, "--socket", str(tmp_path / "s")], input=b"{", capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert b"no spec" in done.stderr
