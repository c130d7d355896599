"""The seam to aiohttp: every error of the library has a place in our tree, and pools have a limit."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.core.errors import AttemptFailed, UpstreamNotStarted
from gateway.core.upstream import Endpoint, UpstreamRequest
from gateway.upstream.aiohttp_client import AiohttpUpstream, attempt_failed
from upstream.servers import Wire, ok, replying, serving

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


async def test_a_pool_has_a_limit_and_waiting_for_it_ends() -> None:
    async def held(wire: Wire) -> None:
        await wire.request()
        await wire.until_closed()

    client = AiohttpUpstream(connections_per_pool=2)
    async with serving(held) as seen:
        running = [asyncio.ensure_future(client.send(seen.ask())) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(UpstreamNotStarted, match="connect time-out"):
            await client.send(seen.ask(connect_timeout_s=0.1))
        assert seen.connections == 2
        for call in running:
            call.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    await client.close()


def certificate(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server's TLS context for 127.0.0.1 and the file that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    trusted = folder / "ca.pem"
    trusted.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context, str(trusted)


async def test_tls_is_verified_and_a_ca_bundle_is_trusted(tmp_path: Path) -> None:
    context, trusted = certificate(tmp_path)
    client = AiohttpUpstream()
    async with serving(replying(ok(b"{}")), tls=context) as seen:
        url = f"https://localhost:{seen.port}/"
        with pytest.raises(UpstreamNotStarted, match="TLS certificate refused"):
            await client.send(seen.ask(url=url))
        reply = await client.send(seen.ask(url=url, ca_bundle=trusted))
        assert await reply.read(100) == b"{}"
        with pytest.raises(UpstreamNotStarted, match="TLS certificate refused"):
            await client.send(seen.ask(url=f"https://127.0.0.1:{seen.port}/", ca_bundle=trusted))
    await client.close()


async def test_abort_over_tls_closes_at_once(tmp_path: Path) -> None:
    async def talking(wire: Wire) -> None:
        await wire.request()
        await wire.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst")
        await wire.until_closed()

    context, trusted = certificate(tmp_path)
    client = AiohttpUpstream()
    async with serving(talking, tls=context) as seen:
        reply = await client.send(seen.ask(url=f"https://localhost:{seen.port}/", ca_bundle=trusted))
        assert await anext(reply.chunks()) == b"first"
        reply.abort()
        await asyncio.wait_for(seen.closed.wait(), 0.25)
    await client.close()
