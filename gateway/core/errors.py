"""The one error tree. Everything a caller can be told is here, with its status, code and what to do next.

Foreign errors (aiohttp, SQL, OS) are mapped to these at the seam where they enter. A dialect renders an error into
its own wire shape; `extra` holds machine-readable members that every dialect adds beside the message.
"""

from __future__ import annotations

from collections.abc import Mapping


class FaregateError(Exception):
    """The root. `status` is HTTP, `code` is stable and machine-readable, `message` says what to do."""

    status: int = 500
    code: str = "internal_error"
    kind: str = "api_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers: dict[str, str] = dict(headers or {})
        self.extra: dict[str, object] = dict(extra or {})
        self.request_id = ""
        """The call it ends, as its answer's headers name it; empty until that is known."""


class CallRefused(FaregateError):
    """The call ends before anything was dispatched; it costs nothing."""


class BadRequest(CallRefused):
    status, code, kind = 400, "invalid_request", "invalid_request_error"


class NotAuthenticated(CallRefused):
    status, code, kind = 401, "invalid_api_key", "invalid_request_error"


class NotPermitted(CallRefused):
    status, code, kind = 403, "permission_denied", "permission_error"


class ModelNotAllowed(CallRefused):
    status, code, kind = 403, "model_not_allowed", "permission_error"


class ModelUnpriced(CallRefused):
    status, code, kind = 403, "model_unpriced", "permission_error"


class PolicyDenied(CallRefused):
    status, code, kind = 403, "policy_denied", "permission_error"


class NotServed(BadRequest):
    """No deployment of the model serves such a call."""


class TagsRequired(CallRefused):
    """The call lacks tags that its team must send."""

    status, code, kind = 400, "tags_required", "invalid_request_error"


class BudgetExceeded(CallRefused):
    status, code, kind = 402, "budget_exceeded", "budget_exceeded"


class NotFound(CallRefused):
    status, code, kind = 404, "not_found", "invalid_request_error"


class ModelNotFound(CallRefused):
    status, code, kind = 404, "model_not_found", "invalid_request_error"


class NotOffered(CallRefused):
    """An API of the vendor that is not served here, on purpose."""

    status, code, kind = 501, "not_offered", "invalid_request_error"


class UpgradeRequired(CallRefused):
    """A WebSocket where only plain requests are served: clients that can do both go on with those."""

    status, code, kind = 426, "websocket_not_offered", "invalid_request_error"


class ResponseNotFound(CallRefused):
    """No such response was issued to this organisation; one that was issued to another does not exist for it."""

    status, code, kind = 404, "response_not_found", "invalid_request_error"


class PreviousResponseNotFound(ResponseNotFound):
    code = "previous_response_not_found"


class MethodNotAllowed(CallRefused):
    status, code, kind = 405, "method_not_allowed", "invalid_request_error"


class RequestTimeout(CallRefused):
    status, code, kind = 408, "request_timeout", "invalid_request_error"


class Conflict(CallRefused):
    status, code, kind = 409, "conflict", "invalid_request_error"


class BodyTooLarge(CallRefused):
    status, code, kind = 413, "request_too_large", "invalid_request_error"


class UnsupportedMediaType(CallRefused):
    status, code, kind = 415, "unsupported_media_type", "invalid_request_error"


class HeadTooLarge(CallRefused):
    status, code, kind = 431, "request_head_too_large", "invalid_request_error"


class RateLimited(CallRefused):
    status, code, kind = 429, "rate_limit_exceeded", "rate_limit_error"


class BudgetReserved(CallRefused):
    """Only other calls' holds are in the way; they end soon, so a retry is right."""

    status, code, kind = 429, "budget_reserved", "rate_limit_error"


class KeysUnavailable(CallRefused):
    """An unknown key while configuration is stale: it may be a new one, so not 401."""

    status, code, kind = 503, "keys_unavailable", "api_error"


class UsageLogUnavailable(CallRefused):
    """The journal cannot take a new call (disk full or failing); nothing is served unrecorded."""

    status, code, kind = 503, "usage_log_unavailable", "api_error"


class BudgetStoreUnavailable(CallRefused):
    status, code, kind = 503, "budget_store_unavailable", "api_error"


class ServerShuttingDown(CallRefused):
    status, code, kind = 503, "server_shutting_down", "api_error"


class Overloaded(CallRefused):
    """The worker holds as much as it may; another one, or this one a moment later, takes the call."""

    status, code, kind = 503, "overloaded", "api_error"


class DeskUnavailable(CallRefused):
    status, code, kind = 503, "control_plane_unavailable", "api_error"


_NOT_AGAIN = {"x-should-retry": "false"}
"""An SDK would send the call again, with the same credential of ours."""


class AttemptFailed(FaregateError):
    """An attempt at a deployment failed. `cause` is the short word that goes into records and messages."""

    status, code, kind = 502, "upstream_error", "api_error"
    cause: str = "error"


_KEPT_STATUS = {503: 503, 504: 504, 529: 503}


class UpstreamServerError(AttemptFailed):
    """The provider answered 5xx: 502 here, except that 503 and 504 stay so, and 529 (Anthropic's word for being
    overloaded) is 503. `headers` is its retry advice."""

    def __init__(self, message: str, upstream_status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, headers=headers)
        self.status = _KEPT_STATUS.get(upstream_status, 502)
        self.cause = f"http_{upstream_status}"


class UpstreamNotStarted(AttemptFailed):
    """Provably nothing of the request reached the provider (refused, unresolvable, TLS failure): cost 0."""

    code = "upstream_unreachable"
    cause = "connect"


class CredentialMissing(UpstreamNotStarted):
    """Our own credential for the provider cannot be read: the operator's to mend, and nothing was sent."""

    code = "upstream_auth_error"
    cause = "credential"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=_NOT_AGAIN)


class UpstreamLost(AttemptFailed):
    """The connection ended after the request may have been read: whether it was billed is unknown."""

    code = "upstream_disconnected"
    cause = "disconnected"


class UpstreamTimeout(AttemptFailed):
    status, code = 504, "upstream_timeout"
    cause = "timeout"


class UpstreamInvalidReply(AttemptFailed):
    code = "upstream_invalid_reply"
    cause = "invalid_reply"


class UpstreamAuthError(AttemptFailed):
    """Our own credential was refused; the caller's key is fine, so never 401."""

    code = "upstream_auth_error"
    cause = "credential"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=_NOT_AGAIN)


class UpstreamStreamError(AttemptFailed):
    """The provider put an error into the stream."""

    code = "upstream_stream_error"
    cause = "stream_error"


class ConfigInvalid(FaregateError):
    """A configuration file cannot be used. The message holds file, line and a suggestion."""

    status, code, kind = 400, "config_invalid", "invalid_request_error"


class JournalUnreadable(FaregateError):
    """A journal holds something this version cannot read; it stops rather than skip money."""

    code = "journal_unreadable"


class StoreUnavailable(FaregateError):
    """SQL did not answer. Never on the request path."""

    status, code = 503, "store_unavailable"
