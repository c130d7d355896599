"""LLMock grades its client: the official SDK through the gateway must get the marks that it gets without one.

The gateway makes one attempt at one deployment. What it must not do is hide from the SDK what that needs to behave:
the waiting time, which errors are worth another try, that a stream was cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import openai
import pytest
from books import attempts, balanced
from live.running import Running, running
from stand_ins import QUESTION, Peer

MESSAGES = [{"role": "user", "content": QUESTION}]
IDLE_S = 1


@pytest.fixture(scope="module")
def gateway(peers: Mapping[str, Peer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    url = peers["llmock"].url
    lines = ["providers:"]
    lines += ["  fake:", "    kind: openai", f"    base_url: {url}/v1", "    credential: ''"]
    lines += ["    networks: [loopback]", "    keepalive_s: 2", f"    idle_timeout_s: {IDLE_S}"]
    lines += ["models:", "  gpt-4o-mini: fake/gpt-4o-mini", ""]
    with running(tmp_path_factory.mktemp("graded"), "\n".join(lines)) as server:
        server.new_key("app")
        yield server


@pytest.fixture
def judge(peers: Mapping[str, Peer]) -> Iterator[Peer]:
    peers["llmock"].post("/_llmock/reset")
    yield peers["llmock"]
    peers["llmock"].post("/_llmock/reset")


def sdk(base_url: str, key: str, retries: int) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url + "/v1", api_key=key, max_retries=retries)


@pytest.fixture
def patient(gateway: Running) -> Iterator[openai.OpenAI]:
    """With the retries that an application has by default."""
    with sdk(gateway.url, gateway.keys["app"], 2) as made:
        yield made


@pytest.fixture
def single(gateway: Running) -> Iterator[openai.OpenAI]:
    with sdk(gateway.url, gateway.keys["app"], 0) as made:
        yield made


def script(judge: Peer, **behavior: Any) -> None:
    queued = judge.post("/_llmock/scenario", {"behaviors": [behavior]})
    assert queued["queued"] == 1, queued


def chat(client: openai.OpenAI) -> str:
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    return answer.choices[0].message.content or ""


def stream(client: openai.OpenAI) -> str:
    chunks = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def marks(judge: Peer) -> dict[str, Any]:
    verdict = judge.get("/_llmock/verdict")
    return {"attempts": verdict["attempts"], "findings": [one["code"] for one in verdict["findings"]]}


def test_retry_after_is_passed_on_and_kept(patient: openai.OpenAI, judge: Peer) -> None:
    script(judge, type="fail", status=429, retry_after=1, times=2)
    assert chat(patient)
    assert marks(judge) == {"attempts": 3, "findings": []}


@pytest.mark.parametrize("status", [400, 404, 422])
def test_what_cannot_succeed_is_not_tried_again(status: int, patient: openai.OpenAI, judge: Peer) -> None:
    script(judge, type="fail", status=status, times=None)
    with pytest.raises(openai.APIStatusError) as refused:
        chat(patient)
    assert refused.value.status_code == status
    assert marks(judge) == {"attempts": 1, "findings": []}


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_credential_is_not_tried_again(status: int, patient: openai.OpenAI, judge: Peer) -> None:
    """The caller sees a 502, which SDKs take for worth another try; here it is not, and the answer says so."""
    script(judge, type="fail", status=status, times=None)
    with pytest.raises(openai.APIStatusError) as refused:
        chat(patient)
    assert refused.value.status_code == 502
    assert marks(judge) == {"attempts": 1, "findings": []}


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_hiccup_is_one_try_more(status: int, patient: openai.OpenAI, judge: Peer) -> None:
    script(judge, type="fail", status=status, times=1)
    assert chat(patient)
    assert marks(judge) == {"attempts": 2, "findings": []}


def test_an_outage_is_not_multiplied(patient: openai.OpenAI, judge: Peer) -> None:
    """As many attempts as the SDK makes; the gateway adds none of its own."""
    script(judge, type="fail", status=503, times=None)
    with pytest.raises(openai.InternalServerError):
        chat(patient)
    assert marks(judge) == {"attempts": 3, "findings": []}


def test_a_cut_stream_is_an_error_though_the_sdk_alone_would_take_it(single: openai.OpenAI, judge: Peer) -> None:
    script(judge, type="stream_fault", kind="truncate", after_chunks=3)
    with sdk(judge.url, "anything", 0) as alone:
        assert stream(alone)  # half an answer, and nobody says so
    assert marks(judge)["findings"] == ["truncated_stream_accepted"]
    judge.post("/_llmock/reset")
    script(judge, type="stream_fault", kind="truncate", after_chunks=3)
    with pytest.raises(openai.APIError):
        stream(single)
    assert stream(single)  # what an application does then
    assert marks(judge) == {"attempts": 2, "findings": []}


def test_a_broken_connection_is_an_error(single: openai.OpenAI, judge: Peer) -> None:
    script(judge, type="stream_fault", kind="disconnect", after_chunks=3)
    with pytest.raises(openai.APIError):
        stream(single)
    assert stream(single)
    assert marks(judge) == {"attempts": 2, "findings": []}


def test_an_event_that_is_no_json_passes_as_it_is(single: openai.OpenAI, judge: Peer) -> None:
    """The SDK's own parser says so, and has the same marks with and without a gateway."""
    found = []
    with sdk(judge.url, "anything", 0) as alone:
        for client in (alone, single):
            judge.post("/_llmock/reset")
            script(judge, type="stream_fault", kind="malformed", after_chunks=3)
            with pytest.raises(ValueError, match=r"Unterminated|Expecting|delimiter"):
                stream(client)
            found.append(marks(judge))
    without, through = found
    assert through == without


def test_a_stalled_stream_is_given_up(single: openai.OpenAI, judge: Peer) -> None:
    script(judge, type="stream_fault", kind="stall", after_chunks=3, stall_seconds=IDLE_S * 3)
    with pytest.raises(openai.APIError):
        stream(single)
    assert stream(single)
    assert "no_read_timeout" not in marks(judge)["findings"]


def test_quotas_of_a_provider_are_shown_under_names_that_are_not_the_callers(single: openai.OpenAI) -> None:
    raw = single.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=MESSAGES)
    names = [name for name in raw.headers if name.startswith("x-ratelimit-")]
    assert not names


def test_the_books_after_all_these_faults_are_green(gateway: Running) -> None:
    assert balanced(gateway)
    outcomes = {one.outcome for one in attempts(gateway.data_dir)}
    assert outcomes >= {"ok", "error", "truncated"}
