"""The simulator's own tokenizer, and prose about what was asked. Both are pure functions of their arguments."""

from __future__ import annotations

import re
from random import Random

_TOKEN = re.compile(r" ?[^\W_]{1,10}|\s|[\W_]")
_WORD = re.compile(r"[^\W\d_]{4,20}")
_TOPIC_CHARS_MAX = 2000
_COMMON = frozenset({
    "about", "after", "also", "because", "been", "does", "from", "have", "into", "just", "like", "more", "most", "only",
    "other", "over", "please", "should", "some", "such", "tell", "than", "that", "their", "them", "then", "there",
    "these", "they", "this", "those", "what", "when", "where", "which", "while", "will", "with", "would", "your",
})  # fmt: skip
_OPENERS = (
    "This is a simulated answer; no language model was asked about {0}.",
    "Simulated reply: what follows about {0} is filler, not knowledge.",
    "You asked about {0}, and this simulated provider answers in its own plain way.",
)
_SENTENCES = (
    "A real model would say more about {0} and how it relates to {1}.",
    "Some people begin with {0}, others with {1}; both ways can be defended.",
    "The usual advice is to look at {0} first and to keep {1} for later.",
    "In practice {0} costs more than it seems, and {1} less.",
    "It helps to write down what {0} means before comparing it with {1}.",
    "Nothing here about {0} was looked up, so do not rely on it.",
    "If {0} changes, {1} usually has to change as well.",
    "Three small steps toward {0} are worth more than one large plan for {1}.",
)
_THOUGHTS = (
    "The question mentions {0}, so {1} may matter.",
    "Simulated thinking: compare {0} with {1}, then answer briefly.",
    "Is {0} the point, or is it {1}?",
)


def tokenize(text: str) -> list[str]:
    """Pieces that join to `text` again: words of up to 10 letters or digits with the blank before them, and single
    other characters. Cutting after any piece leaves the pieces before it as they are, and each covers at least a byte.
    """
    return _TOKEN.findall(text)


def topics_of(text: str) -> list[str]:
    """Up to eight words of what was asked that are worth repeating; never empty."""
    words = (word.lower() for word in _WORD.findall(text[-_TOPIC_CHARS_MAX:]))
    return [word for word in dict.fromkeys(words) if word not in _COMMON][:8] or ["your question"]


def write_answer(topics: list[str], chance: Random, tokens: int | None) -> list[str]:
    """An answer as tokens: of its own length (a few whole sentences), or of exactly `tokens`."""
    sentences = None if tokens is not None else chance.randint(2, 5)
    return _write(_OPENERS, _SENTENCES, topics, chance, tokens, sentences)


def write_thoughts(topics: list[str], chance: Random) -> list[str]:
    """Reasoning as tokens."""
    return _write(_THOUGHTS, _THOUGHTS, topics, chance, None, chance.randint(2, 6))


def _write(
    openers: tuple[str, ...],
    sentences: tuple[str, ...],
    topics: list[str],
    chance: Random,
    tokens: int | None,
    count: int | None,
) -> list[str]:
    order = chance.sample(sentences, len(sentences))
    pieces: list[str] = []
    written = 0
    while (count is None or written < count) and (tokens is None or len(pieces) < tokens):
        form = order[written % len(order)] if written else chance.choice(openers)
        first = chance.choice(topics)
        second = chance.choice([topic for topic in topics if topic != first] or topics)
        sentence = form.format(first, second)
        pieces.extend(tokenize(f" {sentence}" if written else sentence))
        written += 1
    return pieces[:tokens]
