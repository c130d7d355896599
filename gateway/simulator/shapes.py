"""What the simulator reads of OpenAI requests and the JSON it answers with."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from gateway.simulator.text import tokenize

FINGERPRINT = "faregate-simulator"
CHAT_MODELS = ("sim-small", "sim-large", "sim-reasoning")
EMBEDDING_MODEL = "sim-embed"
MODELS = (*CHAT_MODELS, EMBEDDING_MODEL)
CONTEXT_TOKENS = 128_000
EMBEDDING_CONTEXT_TOKENS = 8_192
ANSWER_TOKENS_MAX = 16_384
"""Sizes as `gateway.pricing.demo` has them: a provider that served more would break what a budget holds."""
IMAGE_TOKENS = 85
AUDIO_TOKENS = 50
FILE_TOKENS = 200
TIERS = {"flex": "flex", "priority": "priority", "fast": "priority", "scale": "scale"}

_ENCODER = msgspec.json.Encoder()
Texts = str | list[str | int | list[int]]
_Positive = Annotated[int, msgspec.Meta(ge=1)]


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    """vLLM's: with `include_usage`, each chunk tells the usage so far."""


class TextRequest(msgspec.Struct):
    """A chat completion or a legacy completion; the one has `messages`, the other `prompt`."""

    model: str
    messages: list[dict[str, Any]] | None = None
    prompt: Texts | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: _Positive | None = None
    max_completion_tokens: _Positive | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    tools: list[dict[str, Any]] | None = None
    service_tier: str | None = None

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def tier(self) -> str:
        return TIERS.get(self.service_tier or "", "default")


class EmbeddingRequest(msgspec.Struct):
    model: str
    input: Texts
    encoding_format: str | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None


def encode(value: object) -> bytes:
    return _ENCODER.encode(value)


def chat_prompt(request: TextRequest) -> list[str]:
    """The prompt's tokens: each message framed by its role and an end mark, tools as their JSON."""
    pieces: list[str] = []
    for tool in request.tools or ():
        pieces += tokenize(encode(tool).decode())
    for message in request.messages or ():
        pieces += ["<|", str(message.get("role", "user"))[:32] or "user", "|>"]
        pieces += _content_tokens(message.get("content"))
        for name in ("tool_calls", "name"):
            if message.get(name):
                pieces += tokenize(encode(message[name]).decode())
        pieces.append("<|end|>")
    return pieces


def _content_tokens(content: object) -> list[str]:
    if isinstance(content, str):
        return tokenize(content)
    pieces: list[str] = []
    for part in content if isinstance(content, list) else ():
        match part:
            case {"type": "image_url"}:
                pieces += ["<|image|>"] * IMAGE_TOKENS
            case {"type": "input_audio"}:
                pieces += ["<|audio|>"] * AUDIO_TOKENS
            case {"type": "file"}:
                pieces += ["<|file|>"] * FILE_TOKENS
            case {"text": str(text)}:
                pieces += tokenize(text)
    return pieces


def audio_tokens(prompt: list[str]) -> int:
    return prompt.count("<|audio|>")


def last_question(request: TextRequest) -> str:
    """The text of the last user message, or the prompt."""
    for message in reversed(request.messages or ()):
        if message.get("role") == "user":
            return "".join(_content_tokens(message.get("content")))
    return " ".join(part for part in text_inputs(request.prompt) if isinstance(part, str))


def text_inputs(value: Texts | None) -> list[str | list[int]]:
    """Each text or token array of an `input` or `prompt`."""
    if value is None or isinstance(value, str):
        return [value or ""]
    numbers = [item for item in value if isinstance(item, int)]
    return [numbers] if numbers else [item for item in value if not isinstance(item, int)]


def input_tokens(item: str | list[int]) -> list[str]:
    return tokenize(item) if isinstance(item, str) else [f"<|{number}|>" for number in item]


def usage(prompt: int, cached: int, completion: int, reasoning: int, audio: int = 0) -> dict[str, object]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": audio},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
