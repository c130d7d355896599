"""The members of `routes.yaml`: one table from which both the parser and the JSON Schema are made."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.core.addresses import check_networks, forbidden, literal_address
from gateway.routing.problems import did_you_mean, show

Fault = tuple[str, str]
"""What is wrong with a value, and what to do."""


class Form(StrEnum):
    TEXT = "text"
    SECONDS = "seconds"
    COUNT = "count"
    HEADERS = "headers"
    NETWORKS = "networks"
    OPTIONS = "options"
    VARIABLES = "variables"
    FLAG = "flag"


class Field(NamedTuple):
    """One member. `check` says what is wrong with a text; `pattern` is what a schema can say of the same rule."""

    name: str
    meaning: str
    form: Form = Form.TEXT
    check: Callable[[str], Fault | None] | None = None
    pattern: str = ""
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    required: bool = False


NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
REFERENCE_PATTERN = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+)?$"
URL_PATTERN = r"^https?://[^/?#@\s]+[^?#\s]*$"
HEADER_PATTERN = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
HEADER_VALUE_PATTERN = r"^[\x20-\x7e]*$"
MODEL_PATTERN = r"^[\x21-\x7e]{1,256}$"
NETWORK_PATTERN = r"^(loopback|private|[0-9A-Fa-f.:]+(/[0-9]{1,3})?)$"
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_HEADERS = 32
MAX_NETWORKS = 32
OPTION_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
OPTION_VALUE_PATTERN = r"^[\x20-\x7e]{0,4096}$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
MAX_OPTIONS = 64
NETWORK_WORDS = ("loopback", "private")
_NAME, _REFERENCE, _HEADER = re.compile(NAME_PATTERN), re.compile(REFERENCE_PATTERN), re.compile(HEADER_PATTERN)
_HEADER_VALUE, _MODEL = re.compile(HEADER_VALUE_PATTERN), re.compile(MODEL_PATTERN)
_VERSION = re.compile(VERSION_PATTERN)

_OURS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)
_SECRET_HEADERS = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"})


def check_name(text: str) -> Fault | None:
    if _NAME.fullmatch(text):
        return None
    return (
        f"{show(text)} cannot be a provider's name",
        "Use up to 64 of a-z, 0-9, - and _, beginning with a letter or digit",
    )


def check_model(text: str) -> Fault | None:
    if _MODEL.fullmatch(text):
        return None
    return f"{show(text)} cannot be a model's name", "Use 1 to 256 printable ASCII characters without spaces"


def check_reference(text: str) -> Fault | None:
    """Never repeats the text: it may be the secret itself."""
    if _REFERENCE.fullmatch(text):
        return None
    if text.startswith(("env:", "file:")):
        return "credential is no usable reference", "Write env:NAME_OF_A_VARIABLE or file:/absolute/path"
    if text.startswith(("$", "os.environ/")):
        return "credential is written as another tool would", "Write env:NAME_OF_A_VARIABLE"
    return (
        "credential holds a secret itself (its text is not shown here)",
        "Put the secret into an environment variable, or a file only faregate may read, and write env:NAME or "
        "file:/path. A secret that was ever saved in a file like this should be replaced",
    )


def check_url(text: str) -> Fault | None:
    """http or https, a host, no user information, query or fragment. Never repeats a text that may hold a password."""
    if any(character.isspace() or not character.isprintable() for character in text) or "\\" in text:
        return "the URL holds a space, backslash or control character", "Remove it"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return f"is no URL: {error}" if "@" not in text else "is no URL", "Write it like https://api.example.com/v1"
    if "@" in parts.netloc:
        return "the URL holds a user or password", "Remove it; secrets go into credential, as a reference"
    if parts.scheme not in ("http", "https"):
        return f"the URL must begin with https:// or http://, not {show(parts.scheme)}", ""
    if not host or port == 0 or not host.isascii():
        return "the URL has no usable host", "Write it like https://api.example.com/v1"
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        return "the URL has a query or fragment", "Remove it; what a provider needs with each call goes into headers"
    return None


def check_network(text: str) -> Fault | None:
    """One entry of `networks`: a word, or a network with its prefix."""
    try:
        check_networks((text,))
    except ValueError:
        words = " or ".join(NETWORK_WORDS)
        return f"{show(text)} is no network", did_you_mean(
            text, NETWORK_WORDS, f"Write {words}, or one like 10.1.0.0/16"
        )
    return None


def check_address(url: str, networks: tuple[str, ...]) -> Fault | None:
    """A URL whose host is an address, or this host by name, that may not be connected to. Other names are checked when
    they are resolved."""
    host = urlsplit(url).hostname or ""
    address = literal_address(host) or ("127.0.0.1" if host == "localhost" or host.endswith(".localhost") else "")
    why = forbidden(address, networks) if address else ""
    if not why:
        return None
    reason, _, remedy = why.partition("; ")
    return f"base_url may not go to {host}: {reason}", remedy[:1].upper() + remedy[1:]


def check_version(text: str) -> Fault | None:
    if _VERSION.fullmatch(text):
        return None
    return f"{show(text)} is no API version", "Write it like '2024-10-21', in quotes"


def check_path(text: str) -> Fault | None:
    if text.startswith("/") and text.isprintable():
        return None
    return f"{show(text)} must be an absolute path", "Begin it with /"


def check_header_name(text: str) -> Fault | None:
    name = text.lower()
    if not _HEADER.fullmatch(text) or len(text) > 128:
        return f"{show(text)} cannot be a header's name", ""
    if name in _OURS:
        return f"the header {name} is set by faregate for each call", "Remove it"
    return None


def check_static_header(name: str, value: str) -> Fault | None:
    """A header of `headers:`. Its value is never repeated."""
    fault = check_header_name(name)
    if fault is not None:
        return fault
    if name.lower() in _SECRET_HEADERS:
        return f"the header {name.lower()} carries a secret", "Use credential, auth_header and auth_scheme instead"
    if not _HEADER_VALUE.fullmatch(value) or len(value) > 4096:
        return f"the value of header {name.lower()} must be printable ASCII on one line", ""
    return None


def check_scheme(text: str) -> Fault | None:
    if not text or (_HEADER.fullmatch(text) and len(text) <= 32):
        return None
    return f"{show(text)} is no authentication scheme", "Write Bearer, or '' for the bare credential"


_SECRET_OPTION = re.compile(r"(^|_)(api_key|key|secret|token|password|secret_access_key|session_token)$")
_ANNEX_OPTIONS = frozenset({"model", "messages", "stream", "stream_options", "logger_fn", "num_retries", "max_retries"})


def check_option(name: str, value: str) -> Fault | None:
    """One of `options:`. A value that must be a secret is a reference, and is never repeated."""
    if not re.fullmatch(OPTION_PATTERN, name) or name in _ANNEX_OPTIONS:
        return f"{show(name)} cannot be an option", "Use litellm's name of a vendor's setting, like aws_region_name"
    if not re.fullmatch(OPTION_VALUE_PATTERN, value):
        return f"the value of option {name} must be printable ASCII on one line of at most 4096 characters", ""
    if value.startswith(("env:", "file:")):
        return check_reference(value)
    if _SECRET_OPTION.search(name):
        return f"option {name} holds a secret itself (its text is not shown here)", "Write env:NAME or file:/path"
    return None


def check_variable(name: str) -> Fault | None:
    if re.fullmatch(VARIABLE_PATTERN, name):
        return None
    return f"{show(name)} cannot be the name of an environment variable", "Write it like AWS_PROFILE"


PROVIDER_FIELDS: tuple[Field, ...] = (
    Field(
        "kind",
        "The vendor whose defaults and prices apply; without it the provider's own name.",
        check=check_name,
        pattern=NAME_PATTERN,
    ),
    Field("dialect", "The wire dialect spoken upstream, when it is not the kind's own."),
    Field("base_url", "Where the API is; the endpoint's path is appended.", check=check_url, pattern=URL_PATTERN),
    Field(
        "credential",
        "Where the secret is: env:NAME or file:/absolute/path; '' sends none.",
        check=check_reference,
        pattern=REFERENCE_PATTERN,
    ),
    Field("auth_header", "The header that carries the credential.", check=check_header_name, pattern=HEADER_PATTERN),
    Field("auth_scheme", "The word before the credential, Bearer; '' for none.", check=check_scheme),
    Field(
        "ca_bundle", "A PEM file of certificate authorities, instead of the system's.", check=check_path, pattern="^/"
    ),
    Field(
        "client_certificate",
        "A PEM file with a client certificate and its key, for providers that ask for one.",
        check=check_path,
        pattern="^/",
    ),
    Field(
        "networks",
        "Addresses it may have besides public ones: loopback, private, or networks like 10.1.0.0/16.",
        Form.NETWORKS,
        check=check_network,
        pattern=NETWORK_PATTERN,
    ),
    Field(
        "api_version",
        "Azure's API version, which makes URLs with the deployment in them; its v1 API needs none.",
        check=check_version,
        pattern=VERSION_PATTERN,
    ),
    Field(
        "region",
        "Where its address computes, when that changes its prices: eu, us, fedramp, regional.",
        check=check_name,
        pattern=NAME_PATTERN,
    ),
    Field(
        "proxy",
        "An HTTP proxy for this provider; the environment's proxies are not used.",
        check=check_url,
        pattern=URL_PATTERN,
    ),
    Field(
        "on_disconnect",
        "What happens upstream when the caller goes away: cancel, or drain for its usage.",
        choices=("cancel", "drain"),
    ),
    Field(
        "keepalive_s",
        "How long an idle connection is kept; below the provider's own limit.",
        Form.SECONDS,
        low=0,
        high=3600,
    ),
    Field(
        "caller_credentials",
        "true: callers with their key in x-faregate-api-key may send a credential of their own (authorization or "
        "x-api-key), which goes up in place of ours: the provider bills them.",
        Form.FLAG,
    ),
    Field("connections_max", "How many connections it gets at a time.", Form.COUNT, low=1, high=100_000),
    Field("connect_timeout_s", "How long connecting may take.", Form.SECONDS, low=0.1, high=300),
    Field("timeout_s", "How long a whole call may take.", Form.SECONDS, low=0.1, high=86_400),
    Field("idle_timeout_s", "How long a reply may send nothing.", Form.SECONDS, low=0.1, high=86_400),
    Field("headers", "Headers sent with every call, never secrets.", Form.HEADERS),
    Field("options", "Kind annex: litellm's settings of the vendor; secrets as env:NAME or file:/path.", Form.OPTIONS),
    Field("environment", "Kind annex: variables that the vendor's own SDK reads.", Form.VARIABLES),
)

DEPLOYMENT_FIELDS: tuple[Field, ...] = (
    Field("provider", "A name from providers.", check=check_name, pattern=NAME_PATTERN, required=True),
    Field(
        "model",
        "The model as the provider calls it; in a wildcard * stands for what * matched.",
        check=check_model,
        pattern=MODEL_PATTERN,
        required=True,
    ),
    Field(
        "priced_as",
        "The model whose prices apply, when they are not those of model.",
        check=check_model,
        pattern=MODEL_PATTERN,
    ),
    Field(
        "translate_to",
        "The surface in which the provider is always spoken to; without it the caller's, where the provider serves it.",
        choices=("chat.completions", "messages", "responses"),
    ),
    Field(
        "on_unsupported",
        "What a translation does with members that the other dialect has no words for. warn: leaves them out and names "
        "them in x-faregate-dropped-params, but refuses the call where the answer would be another one; drop: leaves "
        "out all of them; reject: refuses the call.",
        choices=("warn", "drop", "reject"),
    ),
    Field(
        "max_tool_calls",
        "Written into a Responses request that names tools of the provider (web_search) and sets no limit to their "
        "calls: a hard budget can then hold the most they can cost.",
        Form.COUNT,
        low=1,
        high=1000,
    ),
)

SECTIONS: dict[str, str] = {
    "providers": "Vendors' APIs by a name of yours.",
    "models": "Public model names, or wildcards ending in *, and where each goes: provider/model, or a mapping.",
    "aliases": "Further names for models.",
}
