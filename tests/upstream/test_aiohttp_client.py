"""The seam to aiohttp: every error of the library has a place in our tree."""

from __future__ import annotations

import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from gateway.core.errors import AttemptFailed, UpstreamNotStarted
from gateway.core.upstream import Endpoint, UpstreamRequest
from gateway.upstream.aiohttp_client import attempt_failed

ASKED = UpstreamRequest(Endpoint("p", "https://user:sk-secret@host:1/?key=sk-secret"))
KEY = ConnectionKey("host", 1, True, True, None, None, None)


def descendants(base: type[BaseException]) -> set[type[BaseException]]:
    return {base}.union(*(descendants(cls) for cls in base.__subclasses__()))


def made(cls: type[BaseException]) -> Exception:
    """An instance without running the library's constructors, which differ; with what the mapping may read."""
    error = cls.__new__(cls)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        error._certificate_error = ssl.SSLCertVerificationError("sk-secret")
    elif isinstance(error, aiohttp.ClientConnectorError):
        error._conn_key = KEY
        error._os_error = OSError(111, "Connection refused")
    assert isinstance(error, Exception)
    return error


@pytest.mark.parametrize("cls", sorted(descendants(aiohttp.ClientError), key=str), ids=lambda cls: cls.__name__)
def test_every_error_of_the_library_is_mapped(cls: type[BaseException]) -> None:
    if cls.__module__.split(".")[0] != "aiohttp":
        return
    failed = attempt_failed(made(cls), ASKED)
    assert isinstance(failed, AttemptFailed)
    assert "sk-secret" not in failed.message
    assert issubclass(cls, aiohttp.ClientConnectorError) <= isinstance(failed, UpstreamNotStarted)
