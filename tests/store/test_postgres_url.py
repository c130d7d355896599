"""What may stand in FAREGATE_DATABASE_URL, and what becomes of it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from sqlalchemy import make_url

from gateway.core.errors import ConfigInvalid
from gateway.store.engine import open_engine
from gateway.store.postgres_url import driver_arguments

BASE = "postgresql://faregate:secret-word@db.example/faregate"


def arguments_of(query: str) -> dict[str, object]:
    return driver_arguments(make_url(f"{BASE}?{query}"))[1]


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("", {}),
        ("sslmode=require", {"ssl": "require"}),
        ("connect_timeout=2.5&pgbouncer=1", {"timeout": 2.5}),
        ("application_name=gateway", {"server_settings": {"application_name": "gateway"}}),
        ("host=/run/postgresql&port=5433&target_session_attrs=read-write", {}),
    ],
)
def test_libpqs_parameters_are_understood(query: str, arguments: dict[str, object]) -> None:
    plain, found = driver_arguments(make_url(f"{BASE}?{query}"))
    assert found == arguments
    assert set(plain.query) <= {"host", "port", "target_session_attrs"}


@pytest.mark.parametrize(
    ("query", "checks_name", "verifies"),
    [
        ("sslmode=verify-full", True, ssl.CERT_REQUIRED),
        ("sslmode=verify-ca", False, ssl.CERT_REQUIRED),
        ("sslmode=verify-full&sslrootcert=system", True, ssl.CERT_REQUIRED),
    ],
)
def test_verification_is_what_it_says(query: str, checks_name: bool, verifies: ssl.VerifyMode) -> None:
    context = arguments_of(query)["ssl"]
    assert isinstance(context, ssl.SSLContext)
    assert (context.check_hostname, context.verify_mode) == (checks_name, verifies)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("sslmod=verify-full", "did you mean sslmode"),
        ("ssl=true", "did you mean sslmode"),
        ("colour=blue", "known are"),
        ("sslmode=maybe", "sslmode='maybe'"),
        ("sslmode=require&sslmode=disable", "more than once"),
        ("sslmode=prefer&sslrootcert=/etc/ssl/ca.pem", "use verify-full"),
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "cannot be read"),
        ("sslrootcert=/nowhere/ca.pem", "cannot be read"),
        ("connect_timeout=soon", "not a number"),
    ],
)
def test_what_cannot_be_meant_is_refused_without_the_password(tmp_path: Path, query: str, says: str) -> None:
    with pytest.raises(ConfigInvalid, match=says) as caught:
        open_engine(f"{BASE}?{query}", tmp_path, "ledger")
    assert "secret-word" not in caught.value.message
    assert caught.value.message.startswith("FAREGATE_DATABASE_URL")
