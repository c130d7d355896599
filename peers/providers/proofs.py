"""Which server proves which provider row, and the routes of a gateway that uses them all.

A row of `gateway/providers/` without an entry here fails the run. A server that mocks the vendor by name comes first;
where nobody does, the row is proven at an OpenAI-shaped server under the vendor's own path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stand_ins import Peer


@dataclass(frozen=True, slots=True)
class Proof:
    """One row at one server. `server` names the peer, `path` follows its address in `base_url`, `model` is what the
    vendor calls it. `embed_model` is empty where the vendor has no embeddings; `settings` are more lines of
    routes.yaml. `reports_cost`: the vendor says itself what a call has cost. `priced`: whether
    we have a price of our own for the model, where that is not plain from the row."""

    kind: str
    server: str
    path: str
    model: str
    embed_model: str = ""
    embed_server: str = ""
    variant: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    sent_path: str = ""
    reports_cost: bool = False
    priced: bool | None = None

    @property
    def name(self) -> str:
        """Of the provider in routes.yaml, and of the test."""
        return f"{self.kind}-{self.variant}" if self.variant else self.kind

    @property
    def chat_model(self) -> str:
        return f"{self.name}/chat"

    @property
    def embedding_model(self) -> str:
        return f"{self.name}/embed"

    @property
    def checks_key(self) -> bool:
        """LiteLLM's proxy does too, but without its database it calls a wrong key a 400 and not a 401."""
        return self.server == "aimock"


def _aimock(kind: str, path: str, model: str, embed_model: str = "", **more: object) -> Proof:
    return Proof(kind, "aimock", path, model, embed_model, **more)  # type: ignore[arg-type]


def _llmock(kind: str, path: str, model: str, embed_model: str = "", **more: object) -> Proof:
    return Proof(kind, "llmock", path, model, embed_model, **more)  # type: ignore[arg-type]


_SMALL = "text-embedding-3-small"

PROOFS: tuple[Proof, ...] = (
    _aimock("openai", "/v1", "gpt-4o-mini", _SMALL),
    _llmock("openai", "/v1", "gpt-4o-mini", _SMALL, variant="llmock"),
    _aimock(
        "azure_openai",
        "",
        "gpt-4o-mini",
        _SMALL,
        settings={"api_version": "'2024-10-21'"},
        sent_path="/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21",
    ),
    _aimock("azure_openai", "/openai/v1", "gpt-4o-mini", _SMALL, variant="v1"),
    _aimock("cerebras", "/v1", "gpt-oss-120b"),
    _aimock("deepseek", "/deepseek", "deepseek-v3.2"),
    _aimock("fireworks", "/inference/v1", "accounts/fireworks/models/deepseek-v3p1", "nomic-ai/nomic-embed-text-v1.5"),
    _llmock("groq", "/groq/openai/v1", "llama-3.3-70b-versatile"),
    _aimock("hf_endpoint", "/v1", "tgi", "tei"),
    _aimock("huggingface", "/router/v1", "meta-llama/Llama-3.1-8B-Instruct"),
    _llmock("mistral", "/mistral/v1", "mistral-small-latest", "mistral-embed", embed_server="aimock"),
    Proof("mistral", "litellm", "/v1", "mistral-small-latest", variant="unasked"),
    _aimock("nvidia", "/v1", "meta/llama-3.1-8b-instruct", "nvidia/nv-embed-v1"),
    _aimock("openrouter", "/api/v1", "openai/gpt-4o-mini", "openai/text-embedding-3-small", reports_cost=True),
    _llmock("perplexity", "/perplexity/v1", "sonar", "pplx-embed-v1-4b", embed_server="aimock", priced=True),
    _llmock("together", "/together/v1", "openai/gpt-oss-20b", "BAAI/bge-base-en-v1.5", embed_server="aimock"),
    _llmock("xai", "/xai/v1", "grok-4-fast"),
    # on one's own machines
    Proof("llama_cpp", "llama", "/v1", "gemma-3-270m", "gemma-3-270m", "llama-embed"),
    Proof("litellm", "litellm", "/v1", "openai/gpt-4o-mini", f"openai/{_SMALL}", reports_cost=True, priced=True),
    _aimock("lm_studio", "/v1", "qwen3-4b", "nomic-embed-text-v1.5"),
    _aimock("nim", "/v1", "meta/llama-3.1-8b-instruct", "nvidia/nv-embedqa-e5-v5"),
    _aimock("ollama", "/v1", "llama3.2", "all-minilm"),
    _aimock("sglang", "/v1", "Qwen/Qwen3-8B", "intfloat/e5-small"),
    _aimock("tgi", "/v1", "tgi"),
    _aimock("vllm", "/v1", "Qwen/Qwen3-8B", "intfloat/e5-small"),
    _llmock("openai_compatible", "/v1", "gpt-4o-mini", _SMALL),
    Proof("simulated", "simulator", "/v1", "sim-small", "sim-embed", priced=True),
)

PROVEN_ELSEWHERE = {"annex": "peers/annex", "anthropic": "peers/providers"}
"""Kinds whose server is a process of our own with vendors behind it; the folder holds their live proofs."""


def sends_usage(proof: Proof, asks: bool) -> bool:
    """Whether a stream has usage. Most servers want to be asked (`stream_options`); of these LiteLLM's proxy alone is
    set up to send it in any case, as Mistral does."""
    return asks or proof.server == "litellm"


def by_name(name: str) -> Proof:
    return next(proof for proof in PROOFS if proof.name == name)


def routes(peers: Mapping[str, Peer]) -> str:
    """The routes.yaml of a gateway whose providers are `peers`; each also once with a credential that is wrong."""
    lines = ["providers:"]
    for proof in PROOFS:
        lines += _provider(proof, proof.name, peers[proof.server], proof.path, "PEER_CREDENTIAL")
        if proof.embed_server:
            lines += _provider(proof, f"{proof.name}-embed", peers[proof.embed_server], proof.path, "PEER_CREDENTIAL")
        if proof.checks_key:
            lines += _provider(proof, f"{proof.name}-wrong", peers[proof.server], proof.path, "PEER_WRONG")
    lines.append("models:")
    for proof in PROOFS:
        lines.append(f"  {proof.chat_model}: {proof.name}/{proof.model}")
        if proof.embed_model:
            provider = f"{proof.name}-embed" if proof.embed_server else proof.name
            lines.append(f"  {proof.embedding_model}: {provider}/{proof.embed_model}")
        if proof.checks_key:
            lines.append(f"  {proof.name}/wrong: {proof.name}-wrong/{proof.model}")
    return "\n".join(lines) + "\n"


def _provider(proof: Proof, name: str, peer: Peer, path: str, variable: str) -> list[str]:
    credential = f"env:{variable}_{peer.name.upper()}" if peer.secret else "''"
    # Node's and uvicorn's servers close an idle connection after 5 s, the vendors' own later.
    settings = {"networks": "[loopback]", "keepalive_s": "2", "credential": credential, **proof.settings}
    lines = [f"  {name}:", f"    kind: {proof.kind}", f"    base_url: {peer.url}{path}"]
    return lines + [f"    {key}: {value}" for key, value in settings.items()]
