"""The tokenizer and the prose: what is counted is what is written."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator.draft import PromptCache, draft_reply
from gateway.simulator.shapes import TextRequest, chat_prompt
from gateway.simulator.text import tokenize, topics_of, write_answer


@given(st.text())
def test_tokens_join_to_the_text_and_cost_at_least_a_byte(text: str) -> None:
    pieces = tokenize(text)
    assert "".join(pieces) == text
    assert len(pieces) <= len(text.encode("utf-8", "surrogatepass"))


@given(st.text(), st.integers(0, 50))
def test_a_cut_after_any_token_leaves_the_tokens_before_it(text: str, count: int) -> None:
    pieces = tokenize(text)[:count]
    assert tokenize("".join(pieces)) == pieces


@given(st.text(), st.integers(), st.none() | st.integers(0, 300))
def test_answers_are_what_their_tokens_say(question: str, seed: int, tokens: int | None) -> None:
    answer = write_answer(topics_of(question), Random(seed), tokens)
    assert tokenize("".join(answer)) == answer
    assert tokens is None or len(answer) == tokens
    if tokens is None:
        assert "imulated" in "".join(answer)
        assert "".join(answer).endswith((".", "?"))


def request(text: str, model: str = "sim-small", **more: object) -> TextRequest:
    return TextRequest(model=model, messages=[{"role": "user", "content": text}], **more)  # type: ignore[arg-type]


def test_the_same_request_and_seed_give_the_same_draft() -> None:
    asked = request("Tell me about invoices")
    first = draft_reply(asked, None, 7, PromptCache())
    assert draft_reply(asked, None, 7, PromptCache()) == first
    assert draft_reply(asked, None, 8, PromptCache()) != first
    assert "invoices" in "".join(first.choices[0].answer)


def test_limits() -> None:
    cut = draft_reply(request("x", max_tokens=3), None, 0, PromptCache()).choices[0]
    assert (cut.tokens, cut.finish_reason) == (3, "length")
    exact = draft_reply(request("x", max_tokens=30), 30, 0, PromptCache()).choices[0]
    assert (exact.tokens, exact.finish_reason) == (30, "stop")
    none = draft_reply(request("x"), 0, 0, PromptCache()).choices[0]
    assert (none.tokens, none.finish_reason) == (0, "stop")


def test_reasoning_counts_as_output() -> None:
    draft = draft_reply(request("x", model="sim-reasoning", n=2), None, 0, PromptCache())
    thoughts = sum(len(choice.thoughts) for choice in draft.choices)
    usage = draft.usage()
    assert thoughts > 0
    assert usage["completion_tokens"] == draft.tokens > thoughts
    assert usage["completion_tokens_details"]["reasoning_tokens"] == thoughts  # type: ignore[index]
    short = draft_reply(request("x", model="sim-reasoning"), 5, 0, PromptCache()).choices[0]
    assert (len(short.thoughts), len(short.answer)) == (5, 0)


def test_long_prompts_are_cached_in_steps_of_128() -> None:
    cache = PromptCache()
    long = request("word " * 1300)
    size = len(chat_prompt(long))
    assert draft_reply(long, None, 0, cache).cached_tokens == 0
    assert draft_reply(long, None, 0, cache).cached_tokens == 1024 + (size - 1024) // 128 * 128
    longer = request("word " * 1400)
    assert 1024 <= draft_reply(longer, None, 0, cache).cached_tokens <= size
    assert draft_reply(request("word " * 1300, model="sim-large"), None, 0, cache).cached_tokens == 0
    assert draft_reply(request("other " * 1300), None, 0, cache).cached_tokens == 0


def test_every_part_of_a_prompt_is_counted() -> None:
    plain = len(chat_prompt(request("hello")))
    parts = [{"type": "text", "text": "hello"}, {"type": "image_url", "image_url": {"url": "x"}}]
    with_image = TextRequest(model="sim-small", messages=[{"role": "user", "content": parts}])
    assert len(chat_prompt(with_image)) == plain + 85
    assert len(chat_prompt(request("hello", tools=[{"type": "function"}]))) > plain
