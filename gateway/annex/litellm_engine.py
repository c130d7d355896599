"""The engine on the litellm SDK: the only file that imports it.

litellm is used for one thing, the translation of a chat call into a vendor's API and back. What it offers besides is
switched off: retries, fallbacks, caching, callbacks, logging, budgets, its token counter, fetching things from the web.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import litellm

from gateway.annex.engine import Whole
from gateway.annex.environment import wanted_names
from gateway.annex.failures import Progress, Redactor, Refusal, judged
from gateway.annex.spec import REFERENCES, AnnexSpec, ServedProvider
from gateway.annex.usage import Fields
from gateway.core.errors import ConfigInvalid
from gateway.vault.credentials import Credentials

LOG = logging.getLogger("faregate.annex")
TIMEOUT_MARGIN_S = 5.0
"""The worker's own time-outs come first: it then knows that a call was cut by it."""


def quieten() -> None:
    """litellm's module state, once, before the first call."""
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    litellm.disable_streaming_logging = True
    litellm.drop_params = False
    litellm.modify_params = False
    litellm.num_retries = 0
    litellm.cache = None
    litellm.callbacks = []
    litellm.input_callback = []
    litellm.success_callback = []
    litellm.failure_callback = []
    litellm.service_callback = []
    litellm.disable_token_counter = True
    litellm.disable_hf_tokenizer_download = True
    litellm.include_cost_in_streaming_usage = False
    litellm.user_url_validation = True


class _Call:
    """How far one call has come, as litellm tells a `logger_fn`: before it sends, and with a reply."""

    __slots__ = ("progress",)

    def __init__(self) -> None:
        self.progress = Progress.PREPARING

    def __call__(self, details: object) -> None:
        self.progress = Progress.SENT if self.progress is Progress.PREPARING else Progress.ANSWERED


class LitellmEngine:
    """gateway.annex.engine.Engine. Credentials are resolved at first use and kept until `reload`."""

    def __init__(self, spec: AnnexSpec, environment: Mapping[str, str]) -> None:
        quieten()
        self._spec = spec
        self._environment = environment
        self._credentials = Credentials(environment)
        self._redactor = self._new_redactor()
        known = {str(getattr(vendor, "value", vendor)) for vendor in litellm.provider_list}
        self._vendors = frozenset(known)
        for provider in spec.providers:
            for vendor in sorted({model.partition("/")[0] for model in provider.models} - known):
                LOG.error("provider %s: litellm %s knows no vendor %r", provider.name, _version(), vendor)

    @property
    def redactor(self) -> Redactor:
        return self._redactor

    def reload(self) -> None:
        self._credentials.reload()
        self._redactor = self._new_redactor()

    async def chat(self, provider: ServedProvider, model: str, fields: Fields) -> Whole:
        return await self._whole(litellm.acompletion, provider, model, fields)

    async def embeddings(self, provider: ServedProvider, model: str, fields: Fields) -> Whole:
        return await self._whole(litellm.aembedding, provider, model, fields)

    async def rerank(self, provider: ServedProvider, model: str, fields: Fields) -> Whole:
        return await self._whole(litellm.arerank, provider, model, fields)

    async def chat_stream(self, provider: ServedProvider, model: str, fields: Fields) -> AsyncGenerator[Fields, None]:
        arguments = self._arguments(provider, model, fields)
        call = _Call()
        stream: Any = None
        try:
            stream = await litellm.acompletion(
                **arguments, logger_fn=call, stream=True, stream_options={"include_usage": True}
            )
            async for chunk in stream:
                yield _fields(chunk)
        except Exception as error:
            raise judged(error, self._redactor, call.progress) from error
        finally:
            # litellm leaves the vendor's connection open when its reader is cancelled.
            if stream is not None and hasattr(stream, "aclose"):
                await stream.aclose()

    async def _whole(self, function: Callable[..., Any], provider: ServedProvider, model: str, fields: Fields) -> Whole:
        arguments = self._arguments(provider, model, fields)
        call = _Call()
        try:
            reply = await function(**arguments, logger_fn=call)
            return Whole(_fields(reply), getattr(reply, "_hidden_params", {}).get("response_cost"))
        except Exception as error:
            raise judged(error, self._redactor, call.progress) from error

    def _arguments(self, provider: ServedProvider, model: str, fields: Fields) -> dict[str, Any]:
        """The operator's options come last: no member of a request replaces one."""
        if model.partition("/")[0] not in self._vendors:
            raise Refusal(502, f"litellm {_version()} knows no vendor of {model[:200]}.", code="annex_vendor_unknown")
        return {
            **fields,
            "timeout": provider.timeout_s + TIMEOUT_MARGIN_S,
            "num_retries": 0,
            "max_retries": 0,
            **self._options(provider),
            "model": model,
        }

    def _options(self, provider: ServedProvider) -> dict[str, str]:
        try:
            return {
                name: self._credentials.resolve(value).reveal() if value.startswith(REFERENCES) else value
                for name, value in provider.options
            }
        except ConfigInvalid as error:
            LOG.error("provider %s: %s", provider.name, error.message)
            message = f"The annex has no usable credential for the provider {provider.name}."
            raise Refusal(401, message, code="annex_credential_missing") from error

    def _new_redactor(self) -> Redactor:
        """Everything that may be a secret: what the references hold, and the variables that SDKs read."""
        secrets = [self._environment.get(name, "") for name in wanted_names(self._spec)]
        for provider in self._spec.providers:
            for _, value in provider.options:
                if value.startswith("file:"):
                    try:
                        secrets.append(self._credentials.resolve(value).reveal())
                    except ConfigInvalid as error:
                        LOG.error("provider %s: %s", provider.name, error.message)
        return Redactor(secrets)


def _fields(reply: Any) -> Fields:
    fields: Fields = reply.model_dump(mode="json", exclude_none=True)
    return fields


def _version() -> str:
    from importlib.metadata import version

    return version("litellm")
