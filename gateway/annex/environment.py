"""The environment of an annex process: a short list of names, what its spec asks for, and litellm told to be quiet.

litellm and the vendors' SDKs read hundreds of variables, and find credentials in any of them. A process that runs so
much of other people's code is given only what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.annex.spec import AnnexSpec

PLAIN = ("LANG", "LC_ALL", "LC_CTYPE", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ")
"""Passed on when set. No HOME: below it lie credentials of other purposes (`~/.aws`, `~/.config/gcloud`)."""

NOWHERE = "/nonexistent"
"""HOME, unless a provider's `environment` names it. Without any, Python would ask the system for the user's."""

QUIET = {
    "LITELLM_OFFLINE_MODE": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""litellm fetches nothing by itself and reads no `.env` file (which it otherwise does, from any parent folder)."""

SECRET_CHARS_MIN = 16
"""Shorter values (`eu-central-1`) are no secrets, and words of other people's messages."""


def environment_for(spec: AnnexSpec, source: Mapping[str, str]) -> dict[str, str]:
    """The variables an annex with this spec gets, out of ours."""
    names = {*PLAIN, *wanted_names(spec)}
    found = {name: source[name] for name in sorted(names) if name in source}
    return {"HOME": NOWHERE, **found, **QUIET}


def wanted_names(spec: AnnexSpec) -> list[str]:
    """The variables that a spec's options refer to and those that its providers' SDKs read by themselves."""
    names: set[str] = set()
    for provider in spec.providers:
        names.update(provider.environment)
        names.update(value.removeprefix("env:") for _, value in provider.options if value.startswith("env:"))
    return sorted(names)
