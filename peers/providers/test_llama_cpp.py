"""A real llama.cpp behind the gateway: real tokens, a real prompt cache, and slots that a cancelled call frees."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import anthropic
import openai
import pytest
from books import attempts, balanced, recorded
from live.running import Running, running, wait_for
from proofs import by_name
from stand_ins import HANG_S, Peer, llama

PROOF = by_name("llama_cpp")
MESSAGES = [{"role": "user", "content": "Tell me about the rivers of the north, and about their bridges and ferries."}]
FREED_S = 0.25
"""Within this time of its caller's end a call has to have left its provider, on a machine that is not overloaded."""
TURNS, TURNS_BEFORE = 10, 4
_ESTABLISHED = "01"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """One of its own: its counters are compared with the books."""
    with llama(tmp_path_factory.mktemp("llama")) as peer:
        yield peer


@pytest.fixture(scope="module")
def local(model: Peer, peers: Mapping[str, Peer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    lines = ["providers:"]
    for name, url in (("chat", model.url), ("embed", peers["llama-embed"].url)):
        lines += [f"  {name}:", "    kind: llama_cpp", f"    base_url: {url}/v1", "    networks: [loopback]"]
    lines += ["models:", f"  gemma: chat/{PROOF.model}", f"  gemma-embed: embed/{PROOF.model}", ""]
    with running(tmp_path_factory.mktemp("local"), "\n".join(lines)) as server:
        server.new_key("app", "--budget", "1USD/day")  # a local model is free, so a hard budget does not refuse it
        yield server


@pytest.fixture(scope="module")
def sdk(local: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=local.url + "/v1", api_key=local.keys["app"], max_retries=0) as made:
        yield made


def counter(model: Peer, name: str) -> int:
    """One of llama.cpp's own counters."""
    with urllib.request.urlopen(model.url + "/metrics", timeout=HANG_S) as reply:
        lines = reply.read().decode().split("\n")
    return next(int(float(line.split()[1])) for line in lines if line.startswith(f"llamacpp:{name} "))


def busy(model: Peer) -> list[dict[str, Any]]:
    return [slot for slot in model.get("/slots") if slot["is_processing"]]


def test_the_second_identical_call_is_cached_and_costs_nothing(local: Running, sdk: openai.OpenAI) -> None:
    used = []
    for _ in range(2):
        raw = sdk.chat.completions.with_raw_response.create(model="gemma", messages=MESSAGES, max_tokens=4)
        answer = raw.parse()
        booked = recorded(local, raw.headers["x-request-id"])
        lines = {line["meter"]: line["quantity"] for line in booked["attempts"][0]["lines"]}
        cached = answer.usage.prompt_tokens_details.cached_tokens
        assert booked["cost"] == booked["cost"] | {"state": "priced", "nano_usd": 0}
        assert lines.get("cache_read", 0) == cached
        assert sum(lines.values()) == answer.usage.total_tokens
        used.append(cached)
    first, second = used
    assert first == 0
    assert second > 0


def test_the_books_count_what_llama_cpp_counts(local: Running, sdk: openai.OpenAI, model: Peer) -> None:
    """Its own counter of tokens made, over calls of every kind, against the ledger's."""
    before = counter(model, "tokens_predicted_total")
    ids = []
    for stream in (False, True):
        raw = sdk.chat.completions.with_raw_response.create(
            model="gemma", messages=MESSAGES, max_tokens=12, stream=stream
        )
        if stream:
            assert list(raw.parse())
        ids.append(raw.headers["x-request-id"])
        raw_text = sdk.completions.with_raw_response.create(
            model="gemma", prompt="Once upon a time", max_tokens=9, stream=stream
        )
        if stream:
            assert list(raw_text.parse())
        ids.append(raw_text.headers["x-request-id"])
    booked = sum(recorded(local, one)["usage"]["output_tokens"] for one in ids)
    assert booked == counter(model, "tokens_predicted_total") - before > 0


def test_usage_is_shown_once_to_who_asks_and_not_to_others(sdk: openai.OpenAI) -> None:
    for asked in (False, True):
        options = {"stream_options": {"include_usage": True}} if asked else {}
        chat = sdk.chat.completions.create(model="gemma", messages=MESSAGES, max_tokens=4, stream=True, **options)
        assert [bool(chunk.choices) for chunk in chat if chunk.usage] == ([False] if asked else [])
    # On its text endpoint llama.cpp puts it beside the last text, asked or not; who asked gets it as from OpenAI.
    text = sdk.completions.create(
        model="gemma", prompt="Once", max_tokens=4, stream=True, stream_options={"include_usage": True}
    )
    assert [bool(chunk.choices) for chunk in text if chunk.usage] == [False]


def test_a_json_schema_is_obeyed_so_it_was_passed_on(sdk: openai.OpenAI) -> None:
    """The grammar makes even this model answer in the shape that was asked for."""
    schema = {
        "type": "object",
        "properties": {"river": {"enum": ["Rhine", "Elbe"]}, "bridges": {"enum": [3, 5]}},
        "required": ["river", "bridges"],
        "additionalProperties": False,
    }
    answer = sdk.chat.completions.create(
        model="gemma",
        messages=MESSAGES,
        max_tokens=256,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "river", "schema": schema, "strict": True}},
    )
    made = json.loads(answer.choices[0].message.content)
    assert made["river"] in ("Rhine", "Elbe")
    assert made["bridges"] in (3, 5)


def test_messages_whole_and_streamed_say_and_book_the_same(local: Running) -> None:
    asked = {"model": "gemma", "max_tokens": 6, "messages": MESSAGES, "extra_body": {"temperature": 0}}
    with anthropic.Anthropic(base_url=local.url, api_key=local.keys["app"], max_retries=0) as claude:
        counted = claude.messages.count_tokens(model="gemma", messages=MESSAGES).input_tokens
        raw = claude.messages.with_raw_response.create(**asked)
        whole = raw.parse()
        with claude.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
            ids = (raw.headers["request-id"], stream.response.headers["request-id"])
    assert streamed.content[0].text == whole.content[0].text
    assert streamed.stop_reason == whole.stop_reason == "max_tokens"
    for message, request_id in zip((whole, streamed), ids, strict=True):
        booked = recorded(local, request_id)
        assert booked["usage"]["input_tokens"] == counted
        assert booked["usage"]["output_tokens"] == message.usage.output_tokens == 6
        assert message.usage.input_tokens + message.usage.cache_read_input_tokens == counted
        assert booked["attempts"][0]["source"] == "provider"


def test_a_message_beyond_the_context_is_the_servers_to_refuse(local: Running) -> None:
    with (
        anthropic.Anthropic(base_url=local.url, api_key=local.keys["app"], max_retries=0) as claude,
        pytest.raises(anthropic.BadRequestError, match="exceeds the available context size"),
    ):
        claude.messages.create(model="gemma", max_tokens=5, messages=[{"role": "user", "content": "word " * 9000}])


def test_embeddings_of_the_same_weights(local: Running, sdk: openai.OpenAI) -> None:
    raw = sdk.embeddings.with_raw_response.create(model="gemma-embed", input=["a river", "a bridge"])
    made = raw.parse()  # the SDK asks for base64 by itself
    assert len(made.data) == 2
    assert len(made.data[0].embedding) == 640
    booked = recorded(local, raw.headers["x-request-id"])
    assert booked["usage"] == booked["usage"] | {"input_tokens": made.usage.prompt_tokens, "output_tokens": 0}
    assert booked["cost"]["nano_usd"] == 0


def begin(server: Running, **more: Any) -> socket.socket:
    """A streamed chat on a bare connection, with enough ahead of it to run for several seconds."""
    body = {"model": "gemma", "messages": MESSAGES, "stream": True, "max_tokens": 1500, "ignore_eos": True, **more}
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {server.keys['app']}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=HANG_S)
    connection.sendall(head.encode() + content)
    return connection


def connections_to(peer: Peer) -> int:
    """TCP connections that are open to a server, by this machine's own table. Its own ends are not counted."""
    port = int(peer.url.rpartition(":")[2])
    with Path("/proc/net/tcp").open() as table:
        rows = [line.split() for line in table]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == _ESTABLISHED for row in rows)


def seconds_until(what: str, check: Callable[[], bool]) -> float:
    began = time.monotonic()
    wait_for(what, check)
    return time.monotonic() - began


def figures(waits: Sequence[float]) -> str:
    return f"{median(waits) * 1e3:.0f} ms median, {max(waits) * 1e3:.0f} ms at most"


@pytest.fixture
def quiet(local: Running, model: Peer) -> int:
    """Tokens that llama.cpp has made so far, with nothing running, all booked, and no connection left in a pool."""
    assert balanced(local)
    wait_for("idle connections to be closed", lambda: connections_to(model) == 0)
    return counter(model, "tokens_predicted_total")


def test_a_caller_that_goes_away_in_the_middle_frees_the_slot(local: Running, model: Peer, quiet: int) -> None:
    """The gateway closes, llama.cpp stops writing, its slot is free."""
    known = {one.attempt_id for one in attempts(local.data_dir)}
    waits = []
    for turn in range(TURNS):
        connection = begin(local)
        received = b""
        while received.count(b"data: ") < 3 + turn:
            received += connection.recv(65536)
        assert busy(model)
        connection.close()
        waits.append(seconds_until("an idle llama.cpp", lambda: not busy(model)))
    print(f"\n  caller gone in the middle: llama.cpp's slot is idle after {figures(waits)}")
    assert median(waits) <= FREED_S
    assert balanced(local)
    new = [one for one in attempts(local.data_dir) if one.attempt_id not in known]
    assert [one.outcome for one in new] == ["client_gone"] * TURNS
    made, booked = counter(model, "tokens_predicted_total") - quiet, sum(one.output_tokens for one in new)
    print(f"  tokens made for them: {made} by llama.cpp's count, {booked} by the gateway's estimate")
    assert made < TURNS * 100, "llama.cpp went on writing for nobody"


def test_a_caller_that_goes_away_before_the_first_byte_ends_the_call(local: Running, model: Peer, quiet: int) -> None:
    """The gateway closes at once. llama.cpp reads a prompt to its end all the same, for a direct caller too, but then
    it must not write the answer."""
    known = {one.attempt_id for one in attempts(local.data_dir)}
    waits = []
    for turn in range(TURNS_BEFORE):
        text = f"{turn} " + "The river goes to the sea. " * 100  # seconds of reading before the first token
        connection = begin(local, messages=[{"role": "user", "content": text}])
        wait_for("a busy slot", lambda: busy(model))
        assert connections_to(model) == 1
        connection.close()
        waits.append(seconds_until("a closed connection", lambda: connections_to(model) == 0))
        wait_for("an idle llama.cpp", lambda: not busy(model))
    print(f"\n  caller gone before the first byte: the gateway's connection is closed after {figures(waits)}")
    assert median(waits) <= FREED_S
    assert balanced(local)
    new = [one for one in attempts(local.data_dir) if one.attempt_id not in known]
    assert [one.outcome for one in new] == ["client_gone"] * TURNS_BEFORE
    made = counter(model, "tokens_predicted_total") - quiet
    assert made <= TURNS_BEFORE * 5, "llama.cpp went on writing for nobody"


def test_two_callers_of_which_one_goes_away(local: Running, model: Peer, sdk: openai.OpenAI) -> None:
    """The other one's answer is complete."""
    leaving = begin(local)
    received = b""
    while received.count(b"data: ") < 3:
        received += leaving.recv(65536)
    staying = sdk.chat.completions.create(
        model="gemma", messages=MESSAGES, max_tokens=40, stream=True, extra_body={"ignore_eos": True}
    )
    chunks = iter(staying)
    next(chunks)
    leaving.close()
    last = list(chunks)[-1]
    assert last.choices[0].finish_reason == "length"
    wait_for("an idle llama.cpp", lambda: not busy(model))


def test_the_local_books_are_green(local: Running) -> None:
    assert balanced(local)


def test_the_weights_are_no_part_of_the_repository() -> None:
    root = Path(__file__).resolve().parents[2]
    ignored = (root / ".gitignore").read_text().split("\n")
    assert ".venv-local/" in ignored
    assert ".peers/" in ignored
