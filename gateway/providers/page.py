"""`docs/providers.md`, made from the rows: `python -m gateway.providers.page > docs/providers.md`."""

from __future__ import annotations

from gateway.core.quirks import PLAIN, Quirks
from gateway.providers.discover import discover
from gateway.providers.row import ProviderRow

_HEAD = """\
# Providers

Made by `python -m gateway.providers.page` from the rows in `gateway/providers/`; do not edit.

A provider in `routes.yaml` is a `kind` and what differs from it. Where the table has an address and a credential,
`groq:` alone is a whole provider: its kind is its name, and its key comes from the variable named here.

```yaml
providers:
  groq:
  azure:
    kind: azure_openai
    base_url: https://my-resource.openai.azure.com/openai/v1
    credential: env:AZURE_OPENAI_API_KEY
  gpu:
    kind: vllm
    base_url: http://10.1.0.7:8000/v1
    networks: [10.1.0.0/16]
models:
  gpt-oss: groq/openai/gpt-oss-120b
  chat: {provider: azure, model: my-deployment, priced_as: gpt-4o}
  qwen: gpu/Qwen/Qwen3-8B
```

- **Addresses.** A provider may only be at public addresses, unless its kind or its `networks` say otherwise:
  `loopback`, `private`, or networks like `10.1.0.0/16`. This holds for whatever a name resolves to.
- **Credentials** are references. A kind's own one is only ever sent to the kind's own address: with another `base_url`
  the file has to name one.
- **Azure** has two forms of URL. `base_url` ending in `/openai/v1` is its v1 API; `https://my-resource.openai.azure.com`
  with `api_version: '2024-10-21'` is the older one with the deployment in the URL.
- **When the caller goes away**, `cancel` closes the connection, which stops the billing there; `drain` reads on for the
  usage, as the call is billed to its end anyway. `on_disconnect` in the file overrides it.
- **Endpoints** a provider does not serve are refused with 400 before anything is sent.
- **Left out**: members of a request that the provider answers with an error and that are no instruction for the text.
  The answer names them in `x-faregate-dropped-params`. Everything else is sent as it came.
- **Prices.** `local` kinds have explicit prices of 0. What has no price is not free: its cost is unknown, and hard
  budgets refuse it. For a LiteLLM proxy name models like `openai/gpt-4o`, or give them `priced_as`; for Hugging Face's
  router name the provider (`openai/gpt-oss-120b:groq`).
- **Reported cost** is what the provider itself says a call cost; it is kept beside our own price, never instead of it.

| kind | what it is | address | credential | endpoints | caller gone | prices |
|---|---|---|---|---|---|---|
"""

_DIFFERENCES = """
## What differs from OpenAI's API

The modules' docstrings name the sources. Kinds that are not here behave as OpenAI does.

| kind | difference |
|---|---|
"""


def providers_page() -> str:
    """The whole page."""
    rows = discover().values()
    table = "".join(_line(row) for row in rows)
    differences = "".join(_differences(row) for row in rows if differs(row))
    return _HEAD + table + _DIFFERENCES + differences


def _line(row: ProviderRow) -> str:
    address = f"`{row.base_url}`" if row.base_url else "to be given"
    if row.networks:
        address += f" ({', '.join(row.networks)} allowed)"
    credential = f"`{row.credential}`" if row.credential else "none needed"
    if row.auth_header != "authorization":
        credential += f" as `{row.auth_header}`"
    endpoints = ", ".join(row.endpoints)
    cells = (f"`{row.kind}`", row.title or row.kind, address, credential, endpoints, row.on_disconnect, _prices(row))
    return f"| {' | '.join(cells)} |\n"


def _prices(row: ProviderRow) -> str:
    if row.free:
        return "local: 0"
    return f"genai-prices `{row.genai_prices}`" if row.genai_prices else "see `docs/prices.md`"


def _differences(row: ProviderRow) -> str:
    return f"| `{row.kind}` | {'; '.join(differs(row))} |\n"


def differs(row: ProviderRow) -> list[str]:
    """What a row says beyond OpenAI's own behaviour, in words."""
    said = [f"{surface} at `{path}`" for surface, path in row.paths]
    if row.deployment_path:
        said.append(f"with `api_version`: `{row.deployment_path}` in the URL")
    if row.cost_header:
        said.append(f"reports cost in `{row.cost_header}`")
    return said if row.quirks == PLAIN else said + _quirks(row.quirks)


def _quirks(quirks: Quirks) -> list[str]:
    said = [f"`{theirs}` becomes `{own}`" for theirs, own in quirks.renamed]
    refused = [*quirks.refused, *(f"messages.{name}" for name in quirks.refused_in_messages)]
    if refused:
        said.append("left out: " + ", ".join(f"`{name}`" for name in refused))
    if not quirks.stream_usage:
        said.append("`stream_options` is not sent, usage comes anyway")
    if quirks.tool_id_chars:
        said.append(f"ids of tool calls are made {quirks.tool_id_chars} letters and digits")
    if quirks.usage_in == "choice_event":
        said.append("a stream's usage beside a choice is moved into an event of its own")
    if quirks.tells_prompt_first:
        said.append("a stream's first usage tells the whole prompt: holds shrink on it")
    if quirks.hidden_tokens:
        said.append(f"up to {quirks.hidden_tokens} tokens of its own prompts are held for in translated calls")
    if quirks.takes_tags:
        said.append("`metadata.tags` are sent on")
    if quirks.writes_marked_only:
        said.append("its prompt cache is written only where a request marks it")
    if not quirks.done:
        said.append("a missing `[DONE]` is added")
    if quirks.error_field:
        said.append("an `error:` field in a stream becomes a data event")
    if quirks.reasoning_outside:
        said.append("reasoning is counted besides `completion_tokens`")
    if quirks.reported_cost is not None:
        said.append(f"reports cost as `usage.{'.'.join(quirks.reported_cost.path)}`")
    return said


if __name__ == "__main__":
    print(providers_page(), end="")
