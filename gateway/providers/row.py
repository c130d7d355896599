"""What a vendor's row says, and what is done with it: URLs, the reply headers a caller may see, what it reports."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from urllib.parse import quote

import msgspec

from gateway.core.config import OnDisconnect, ProviderSettings
from gateway.core.quirks import PLAIN, Quirks, read_amount

HEADER_CHARS_MAX = 512
CHAT, COMPLETIONS, EMBEDDINGS = "chat.completions", "completions", "embeddings"
MESSAGES, COUNT_TOKENS = "messages", "messages.count_tokens"
MODERATIONS, IMAGES, SPEECH = "moderations", "images.generations", "audio.speech"
RESPONSES, INPUT_TOKENS, COMPACT = "responses", "responses.input_tokens", "responses.compact"
UPSTREAM_ID_NAME = "x-upstream-request-id"
_V1 = "/v1"

Fault = tuple[str, str]
"""What is wrong with a provider's settings, and what to do."""


class ProviderRow(msgspec.Struct, frozen=True):
    """A kind of provider: the defaults that `routes.yaml` may override, and facts about its API.

    `base_url` is empty where only the file can know it. `credential` is the default reference (`env:NAME`);
    `credential_required` says whether a provider of this kind without one is a mistake. `reply_headers` pairs a
    header of its replies with the name under which callers get it: an allow-list, everything else stays here.
    `forwarded_prefixes` are the request headers of callers that it gets, `dialect_prefixes` those that it gets only of
    callers that speak to it in its own dialect. `on_disconnect` is `cancel` where a closed
    connection stops the billing, `drain` where the call is billed to its end anyway. `genai_prices` is the vendor's id
    in that price list, empty when it has no prices there; `free` says that a call costs nothing (own hardware).
    `networks` are the addresses it may have besides public ones. `endpoints` are the surfaces it serves, `paths` where
    one of them is not at OpenAI's path, appended to the base URL. `deployment_path` is Azure's older form of URL, used
    where the settings give an `api_version`; `without_deployment` are surfaces whose URL then names none.
    `keeps_responses`: its responses can be read again, deleted, and gone on from. `responses_only` are models (with
    `*`) that serve no chat completions, `responses_for_tools` those that refuse tools and reasoning together there.
    `cost_header` is a reply header that says what the call cost, in USD. `unix_socket` names the socket in the run
    folder of the process of ours that serves this kind.
    """

    kind: str
    dialect: str
    title: str = ""
    base_url: str = ""
    credential: str = ""
    credential_required: bool = True
    auth_header: str = "authorization"
    auth_scheme: str = "Bearer"
    on_disconnect: OnDisconnect = "cancel"
    keepalive_s: float = 15.0
    request_id_header: str = "x-request-id"
    reply_headers: tuple[tuple[str, str], ...] = ()
    forwarded_prefixes: tuple[str, ...] = ()
    dialect_prefixes: tuple[str, ...] = ()
    genai_prices: str = ""
    free: bool = False
    networks: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = (CHAT, COMPLETIONS, EMBEDDINGS)
    paths: tuple[tuple[str, str], ...] = ()
    deployment_path: str = ""
    without_deployment: tuple[str, ...] = ()
    keeps_responses: bool = False
    responses_only: tuple[str, ...] = ()
    responses_for_tools: tuple[str, ...] = ()
    cost_header: str = ""
    unix_socket: str = ""
    quirks: Quirks = PLAIN

    def url(self, provider: ProviderSettings, surface_name: str, upstream_path: str, model: str) -> str:
        """Where a call of a surface goes. `model` stands in the URL only where the provider wants it there."""
        path = dict(self.paths).get(surface_name, upstream_path)
        base_url = provider.base_url
        if self.deployment_path and provider.api_version:
            if not base_url.endswith(_V1) and surface_name in self.without_deployment:
                base_url = base_url.removesuffix("/openai") + self.deployment_path.partition("/deployments")[0]
            elif not base_url.endswith(_V1):
                base_url = base_url.removesuffix("/openai") + self.deployment_path.format(model=quote(model, safe=""))
            path += f"{'&' if '?' in path else '?'}api-version={quote(provider.api_version, safe='')}"
        return base_url + path

    def needs_other_surface(self, surface_name: str, model: str) -> str:
        """The surface that a model has to be spoken to in, empty where its own will do."""
        return RESPONSES if surface_name == CHAT and _is_among(model, self.responses_only) else ""

    def other_surface_for_tools(self, surface_name: str, model: str) -> str:
        """The surface for calls with tools and reasoning, empty where the caller's own will do."""
        return RESPONSES if surface_name == CHAT and _is_among(model, self.responses_for_tools) else ""

    def settings_fault(self, base_url: str, api_version: str) -> Fault | None:
        """What is wrong with an address and API version for this kind; None when nothing is."""
        if api_version and not self.deployment_path:
            return f"{self.kind} takes no api_version", "Remove it"
        if self.deployment_path and not api_version and not base_url.endswith(_V1):
            return (
                f"{self.kind} needs an api_version, or a base_url of its v1 API",
                "Let base_url end in /openai/v1, or add api_version: '2024-10-21'",
            )
        return None

    def not_served(self, surface_name: str, provider: str) -> str:
        """Empty when a provider of this kind serves the surface; else the message of a 400 that says what it serves."""
        if surface_name in self.endpoints:
            return ""
        return f"The provider {provider} ({self.title or self.kind}) does not serve {surface_name}, only " + (
            f"{', '.join(self.endpoints)}. Use another model, or another endpoint."
        )

    def caller_headers(self, headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
        """The reply headers for the caller, renamed, from lower-case upstream ones.

        A value with a control character or of more than 512 characters is left out: it could split the answer.
        """
        found = [(ours, headers[theirs]) for theirs, ours in self.reply_headers if theirs in headers]
        return tuple(
            [
                (ours.encode(), value.encode())
                for ours, value in found
                if len(value) <= HEADER_CHARS_MAX and value.isascii() and value.isprintable()
            ]
        )

    def upstream_id(self, headers: Mapping[str, str]) -> str:
        """The provider's own id of the call, from whichever header it uses; at most 200 characters."""
        for theirs, ours in self.reply_headers:
            if ours == UPSTREAM_ID_NAME and theirs in headers:
                return headers[theirs][:200]
        return ""

    def reported_nusd(self, headers: Mapping[str, str]) -> int | None:
        """The cost that a reply's header reports, nano-USD; None without such a header or amount."""
        said = headers.get(self.cost_header, "") if self.cost_header else ""
        return read_amount(said) if said else None


def _is_among(model: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)


OPENAI_RATE_HEADERS = tuple(
    (f"x-ratelimit-{what}-{unit}", f"x-upstream-ratelimit-{what}-{unit}")
    for what in ("limit", "remaining", "reset")
    for unit in ("requests", "tokens")
)
"""They describe the gateway's own account there; the caller's key has its own figures under the plain names."""

RETRY_HEADERS = (
    ("retry-after", "retry-after"),
    ("retry-after-ms", "retry-after-ms"),
    ("x-should-retry", "x-should-retry"),
)
UPSTREAM_ID = ("x-request-id", UPSTREAM_ID_NAME)
USUAL_HEADERS = (UPSTREAM_ID, *RETRY_HEADERS, *OPENAI_RATE_HEADERS)

LOOPBACK = ("loopback",)
SHORT_KEEPALIVE_S = 4.0
"""For servers whose HTTP library closes an idle connection after 5 s (uvicorn, cpp-httplib, Node)."""

BOOKKEEPING = (
    "store",
    "metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
)
"""Members of OpenAI's requests that are no instruction for the text: rows name those their provider refuses."""

MAX_TOKENS = (("max_completion_tokens", "max_tokens"),)
"""For providers that know only the older name. Several ignore the newer one, and then write without a limit."""
