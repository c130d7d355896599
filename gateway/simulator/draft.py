"""What will be answered, decided before the first byte: every token, its count, and why it ends."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from random import Random

from gateway.simulator.shapes import (
    ANSWER_TOKENS_MAX,
    TextRequest,
    audio_tokens,
    chat_prompt,
    input_tokens,
    last_question,
    text_inputs,
)
from gateway.simulator.shapes import usage as usage_object
from gateway.simulator.text import topics_of, write_answer, write_thoughts

CACHE_TOKENS_MIN = 1024
CACHE_STEP_TOKENS = 128
CACHE_ENTRIES_MAX = 8192


@dataclass(frozen=True, slots=True)
class Choice:
    thoughts: tuple[str, ...]
    answer: tuple[str, ...]
    finish_reason: str

    @property
    def tokens(self) -> int:
        return len(self.thoughts) + len(self.answer)


@dataclass(frozen=True, slots=True)
class Draft:
    model: str
    prompt_tokens: int
    longest_prompt_tokens: int
    cached_tokens: int
    audio_tokens: int
    choices: tuple[Choice, ...]

    @property
    def tokens(self) -> int:
        return sum(choice.tokens for choice in self.choices)

    def usage(self) -> dict[str, object]:
        thoughts = sum(len(choice.thoughts) for choice in self.choices)
        return usage_object(self.prompt_tokens, self.cached_tokens, self.tokens, thoughts, self.audio_tokens)

    @staticmethod
    def nothing() -> dict[str, object]:
        """Usage of what used nothing."""
        return usage_object(0, 0, 0, 0)

    def usage_of(self, sent_tokens: int) -> dict[str, object]:
        """Usage of a reply that ended early: the prompt and what was sent."""
        return usage_object(self.prompt_tokens, self.cached_tokens, sent_tokens, 0, self.audio_tokens)


class PromptCache:
    """Prefixes of long prompts seen before, in steps of 128 tokens from 1024 on, as OpenAI counts cached tokens."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def cached_tokens(self, model: str, prompt: list[str]) -> int:
        """How many leading tokens are known; afterwards all of them are."""
        if len(prompt) < CACHE_TOKENS_MIN:
            return 0
        known = done = 0
        digest = hashlib.blake2b(model.encode(), digest_size=16)
        for end in range(CACHE_TOKENS_MIN, len(prompt) + 1, CACHE_STEP_TOKENS):
            digest.update("".join(prompt[done:end]).encode("utf-8", "replace"))
            done = end
            mark = digest.digest()
            if mark in self._seen:
                self._seen.move_to_end(mark)
                known = end
            else:
                self._seen[mark] = None
        while len(self._seen) > CACHE_ENTRIES_MAX:
            self._seen.popitem(last=False)
        return known


def draft_reply(request: TextRequest, tokens: int | None, seed: int, cache: PromptCache) -> Draft:
    """The reply to a request: the same for the same request, seed and `tokens` (None: its own length)."""
    if request.messages is not None:
        prompts = [chat_prompt(request)]
    else:
        prompts = [input_tokens(item) for item in text_inputs(request.prompt)]
    pieces = [piece for prompt in prompts for piece in prompt]
    audio = audio_tokens(pieces)
    question = last_question(request)
    topics = topics_of(question)
    choices: list[Choice] = []
    for index in range(len(prompts) * (request.n or 1)):
        key = f"{seed}/{request.model}/{index}/{question}".encode("utf-8", "replace")
        chance = Random(hashlib.blake2b(key, digest_size=8).digest())  # noqa: S311
        thoughts = write_thoughts(topics, chance) if request.model == "sim-reasoning" else []
        choices.append(_limited(thoughts, write_answer(topics, chance, tokens), tokens, _longest(request)))
    return Draft(
        model=request.model,
        prompt_tokens=len(pieces),
        longest_prompt_tokens=max(len(prompt) for prompt in prompts),
        cached_tokens=0 if audio else cache.cached_tokens(request.model, pieces),
        audio_tokens=audio,
        choices=tuple(choices),
    )


def _longest(request: TextRequest) -> int:
    return ANSWER_TOKENS_MAX if request.limit is None else min(request.limit, ANSWER_TOKENS_MAX)


def _limited(thoughts: list[str], answer: list[str], tokens: int | None, limit: int) -> Choice:
    """`tokens` counts reasoning too; a lower `max_tokens` cuts and says `length`."""
    if tokens is not None:
        thoughts = thoughts[:tokens]
        answer = answer[: tokens - len(thoughts)]
    whole = len(thoughts) + len(answer)
    if whole <= limit:
        return Choice(tuple(thoughts), tuple(answer), "stop")
    thoughts = thoughts[:limit]
    return Choice(tuple(thoughts), tuple(answer[: limit - len(thoughts)]), "length")
