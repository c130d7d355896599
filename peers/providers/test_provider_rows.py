"""Every provider row, live: chat, stream, refusal, embeddings and credential, through a whole gateway."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import openai
import pytest
from books import attempts, balanced, events, recorded, timeless
from live.running import Reply, Running
from proofs import PROOFS, PROVEN_ELSEWHERE, Proof, sends_usage
from stand_ins import (
    ANSWER,
    COST_NUSD,
    QUESTION,
    RETRY_AFTER_S,
    ROOT,
    SLOW_DOWN,
    TOKENS_IN,
    TOKENS_OUT,
    TOO_OFTEN,
    VECTOR,
    Peer,
    http,
)

from gateway.providers.discover import discover

ROWS = discover()
ALL = pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.name)
EMBEDDING = pytest.mark.parametrize("proof", [one for one in PROOFS if one.embed_model], ids=lambda proof: proof.name)
WITH_KEY = pytest.mark.parametrize("proof", [one for one in PROOFS if one.checks_key], ids=lambda proof: proof.name)
FROM_AIMOCK = pytest.mark.parametrize(
    "proof", [p for p in PROOFS if p.server == "aimock"], ids=lambda proof: proof.name
)
REPEATING = pytest.mark.parametrize(
    "proof", [one for one in PROOFS if one.server in ("aimock", "llmock")], ids=lambda proof: proof.name
)
"""Servers that answer the same question in the same words."""
MESSAGES = [{"role": "user", "content": QUESTION}]
GPT_4O_MINI_NUSD = (150, 600)
"""A token in, a token out."""
LONG = "river " * 6000
"""More than a slot of the small model can hold."""


def chat_body(model: str, text: str = QUESTION, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 24, **more}


def ask(gateway: Running, body: Any, headers: dict[str, str] | None = None) -> Reply:
    return gateway.call("POST", "/v1/chat/completions", body, gateway.keys["app"], headers)


def likeness(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine: llama.cpp's figures for one text depend a little on what else is in the batch."""
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def directly(proof: Proof, peers: Mapping[str, Peer], body: Any) -> Reply:
    """The same call without a gateway in between."""
    row, peer = ROWS[proof.kind], peers[proof.server]
    headers = {row.auth_header: f"{row.auth_scheme} {peer.secret}".strip()} if peer.secret else {}
    return http(peer.url + (proof.sent_path or proof.path + "/chat/completions"), body, headers)


def expect_cost(proof: Proof, booked: Any) -> None:
    """What runs on one's own machine is free, what the price list knows costs something, the rest is unpriced."""
    row, cost = ROWS[proof.kind], booked["cost"]
    if row.free:
        assert (cost["state"], cost["nano_usd"]) == ("priced", 0)
    elif proof.priced if proof.priced is not None else row.genai_prices:
        assert cost["state"] == "priced"
        assert cost["nano_usd"] > 0
    else:
        assert (cost["state"], cost["nano_usd"]) == ("unpriced", None)


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_every_row_has_a_live_proof(kind: str) -> None:
    if kind in PROVEN_ELSEWHERE:
        found = [path for path in (ROOT / PROVEN_ELSEWHERE[kind]).rglob("test_*.py") if kind in path.read_text()]
        assert found, f"{kind} has no live proof in {PROVEN_ELSEWHERE[kind]}"
        return
    assert any(proof.kind == kind for proof in PROOFS), f"add the kind {kind} to PROOFS in peers/providers/proofs.py"


@ALL
def test_chat(proof: Proof, gateway: Running, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=proof.chat_model, messages=MESSAGES, max_tokens=24)
    answer = raw.parse()
    assert answer.choices[0].message.content
    if proof.server in ("aimock", "litellm"):
        assert answer.choices[0].message.content == ANSWER
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (TOKENS_IN, TOKENS_OUT)
    booked = recorded(gateway, raw.headers["x-request-id"])
    assert booked["outcome"] == "ok"
    assert booked["provider"] == proof.name
    assert booked["usage"]["input_tokens"] == answer.usage.prompt_tokens > 0
    assert booked["usage"]["output_tokens"] == answer.usage.completion_tokens > 0
    assert booked["finish_reason"] == answer.choices[0].finish_reason
    expect_cost(proof, booked)
    (attempt,) = booked["attempts"]
    assert attempt["source"] == "provider"
    assert sum(line["quantity"] for line in attempt["lines"]) >= answer.usage.total_tokens


@ALL
def test_stream(proof: Proof, gateway: Running, client: openai.OpenAI) -> None:
    """Usage was not asked for: the caller gets none, the books have it."""
    with client.chat.completions.with_streaming_response.create(
        model=proof.chat_model, messages=MESSAGES, max_tokens=24, stream=True
    ) as raw:
        chunks = list(raw.parse())
        request_id = raw.headers["x-request-id"]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text
    if proof.server in ("aimock", "litellm"):
        assert text == ANSWER
    if not sends_usage(proof, False):
        assert all(chunk.usage is None for chunk in chunks)
    booked = recorded(gateway, request_id)
    assert booked["outcome"] == "ok"
    assert booked["stream"] is True
    assert booked["usage"]["output_tokens"] > 0
    told = sends_usage(proof, ROWS[proof.kind].quirks.stream_usage)
    assert booked["attempts"][0]["source"] == ("provider" if told else "estimated")


@REPEATING
def test_an_answer_is_the_providers_own_member_by_member(
    proof: Proof, gateway: Running, peers: Mapping[str, Peer]
) -> None:
    ours = ask(gateway, chat_body(proof.chat_model))
    theirs = directly(proof, peers, chat_body(proof.model))
    assert ours.status == theirs.status == 200
    assert timeless([ours.body.decode()]) == timeless([theirs.body.decode()])


@REPEATING
def test_a_stream_is_the_providers_own_event_by_event(
    proof: Proof, gateway: Running, peers: Mapping[str, Peer]
) -> None:
    asked: dict[str, Any] = {"stream": True}
    if ROWS[proof.kind].quirks.stream_usage:
        asked["stream_options"] = {"include_usage": True}
    ours = ask(gateway, chat_body(proof.chat_model, **asked))
    theirs = directly(proof, peers, chat_body(proof.model, **asked))
    assert ours.status == theirs.status == 200
    assert events(ours.body)[-1] == "[DONE]"
    assert timeless(events(ours.body)) == timeless(events(theirs.body))


@ALL
def test_a_refusal_reaches_the_caller(proof: Proof, gateway: Running, peers: Mapping[str, Peer]) -> None:
    """The vendor's own status, message and waiting time; nothing is charged."""
    body = chat_body(proof.chat_model, TOO_OFTEN)
    headers: dict[str, str] = {}
    status, retry_after, said = 429, str(RETRY_AFTER_S), SLOW_DOWN
    match proof.server:
        case "llmock":
            said = "Too fast for this mock."
            fail = {"type": "fail", "status": 429, "retry_after": RETRY_AFTER_S, "message": said, "times": 1}
            peers["llmock"].post("/_llmock/scenario", {"behaviors": [{**fail, "match": {"model": proof.model}}]})
        case "llama":
            body, status, retry_after, said = chat_body(proof.chat_model, LONG), 400, "", "context"
        case "litellm":
            retry_after = ""  # it keeps the vendor's to itself
        case "simulator":
            headers, retry_after, said = {"x-sim-fault": "refuse-429"}, "1", ""
    reply = ask(gateway, body, headers)
    assert reply.status == status, reply.body
    assert reply.headers.get("retry-after", "") == retry_after
    assert said in reply.body.decode()
    if proof.server == "aimock":
        assert reply.body == directly(proof, peers, chat_body(proof.model, TOO_OFTEN)).body
    booked = recorded(gateway, reply.headers["x-request-id"])
    assert booked["outcome"] == "error"
    assert booked["status"] == status
    assert booked["cost"]["nano_usd"] in (0, None)
    assert booked["attempts"][0]["cause"] == f"http_{status}"


@EMBEDDING
def test_embeddings(proof: Proof, gateway: Running, client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(
        model=proof.embedding_model, input=[QUESTION, QUESTION], encoding_format="float"
    )
    made = raw.parse()
    assert [row.index for row in made.data] == [0, 1]
    assert likeness(made.data[0].embedding, made.data[1].embedding) == pytest.approx(1, abs=0.01)
    if proof.server in ("aimock", "litellm"):
        assert made.data[0].embedding == VECTOR
    booked = recorded(gateway, raw.headers["x-request-id"])
    assert booked["outcome"] == "ok"
    assert booked["usage"]["input_tokens"] == made.usage.prompt_tokens
    assert booked["usage"]["output_tokens"] == 0
    assert booked["attempts"][0]["source"] == "provider"


@WITH_KEY
def test_a_wrong_credential_is_the_operators_fault_not_the_callers(proof: Proof, gateway: Running) -> None:
    """Which also shows that the right one went out in the header that the vendor reads."""
    reply = ask(gateway, chat_body(f"{proof.name}/wrong"))
    assert reply.status == 502, reply.body
    assert reply.json["error"]["code"] == "upstream_auth_error"
    assert "wrong-" not in reply.body.decode()
    assert recorded(gateway, reply.headers["x-request-id"])["outcome"] == "error"


@FROM_AIMOCK
def test_what_the_server_got(proof: Proof, gateway: Running, peers: Mapping[str, Peer]) -> None:
    """From the server's own journal: the path, where the credential stood, the model, nothing else changed."""
    row = ROWS[proof.kind]
    body = chat_body(proof.chat_model, temperature=0.25, stream=True)
    body["max_completion_tokens"] = body.pop("max_tokens")
    reply = ask(gateway, body)
    upstream_id = reply.headers.get("x-upstream-request-id", "")
    booked = recorded(gateway, reply.headers["x-request-id"])
    attempt_id = booked["attempts"][0]["id"]
    seen = [entry for entry in peers["aimock"].get("/v1/_requests") if attempt_id in json.dumps(entry["headers"])]
    (entry,) = seen
    assert entry["path"].partition("?")[0] == (proof.sent_path.partition("?")[0] or proof.path + "/chat/completions")
    assert entry["headers"][row.auth_header] == "[REDACTED]"
    assert entry["headers"][row.request_id_header] == attempt_id
    assert row.auth_header == "authorization" or "authorization" not in entry["headers"]
    assert gateway.keys["app"] not in json.dumps(entry)
    assert entry["body"]["model"] == proof.model
    assert entry["body"]["temperature"] == 0.25
    assert entry["body"]["messages"] == MESSAGES
    assert entry["body"][dict(row.quirks.renamed).get("max_completion_tokens", "max_completion_tokens")] == 24
    usage_asked = entry["body"].get("stream_options", {}).get("include_usage", False)
    assert usage_asked is row.quirks.stream_usage
    assert upstream_id in ("", attempt_id)


@pytest.mark.parametrize("proof", [one for one in PROOFS if one.reports_cost], ids=lambda proof: proof.name)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_cost_that_the_provider_reports_is_kept(proof: Proof, stream: bool, gateway: Running) -> None:
    """To the nano-dollar, though both write it as a binary fraction; beside our own price, not in place of it."""
    reply = ask(gateway, chat_body(proof.chat_model, stream=stream))
    assert reply.status == 200
    booked = recorded(gateway, reply.headers["x-request-id"])
    expect_cost(proof, booked)
    (attempt,) = [one for one in attempts(gateway.data_dir) if one.attempt_id == booked["attempts"][0]["id"]]
    by_list = TOKENS_IN * GPT_4O_MINI_NUSD[0] + TOKENS_OUT * GPT_4O_MINI_NUSD[1]  # what LiteLLM's own list says
    assert attempt.reported_nusd == (COST_NUSD if proof.kind == "openrouter" else by_list)


def test_what_aimock_saw_is_what_the_books_say(gateway: Running, peers: Mapping[str, Peer]) -> None:
    """Attempt by attempt: nothing was sent that is not booked, nothing booked that was not sent."""
    assert balanced(gateway)
    seen = set()
    for entry in peers["aimock"].get("/v1/_requests"):
        seen |= {value for value in entry["headers"].values() if str(value).startswith("att_")}
    names = {proof.name for proof in PROOFS if proof.server == "aimock"}
    names |= {f"{proof.name}-embed" for proof in PROOFS if proof.embed_server == "aimock"}
    booked = {one.attempt_id for one in attempts(gateway.data_dir) if one.provider in names}
    assert booked == seen


def test_the_books_of_all_of_it_are_green(gateway: Running) -> None:
    assert balanced(gateway)
    posted = [one for one in attempts(gateway.data_dir) if one.outcome == "ok"]
    assert posted
    silent = {one.name for one in PROOFS if not sends_usage(one, ROWS[one.kind].quirks.stream_usage)}
    assert {one.source for one in posted if one.provider not in silent} == {"provider"}
