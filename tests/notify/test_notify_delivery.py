"""Alerts delivered to real receivers: signatures by Standard Webhooks' own library, mail by aiosmtpd."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from upstream.certificates import Authority

from gateway.core.alerts import Channel, ChannelKind, Encryption, Notified
from gateway.core.errors import ConfigInvalid
from gateway.notify.channels import ChannelNotifier
from gateway.notify.payload import as_lines
from gateway.system import SystemClock
from gateway.upstream.httptools_client import HttptoolsUpstream
from notify.receivers import ALERT, SECRET, hooks, post

LOCAL = ("loopback",)
SECRETS = {"env:HOOK": SECRET, "env:PASSWORD": "pass word", "": ""}


def hook(url: str, networks: tuple[str, ...] = LOCAL, ca_bundle: str = "", secret: str = "env:HOOK") -> Channel:
    return Channel("ops", ChannelKind.WEBHOOK, url, secret, networks, ca_bundle)


def mailbox(port: int, encryption: Encryption = Encryption.NONE, **more: object) -> Channel:
    channel = Channel(
        "mail",
        ChannelKind.EMAIL,
        f"localhost:{port}",
        networks=LOCAL,
        recipients=("ops@example.com",),
        sender="faregate@example.com",
        encryption=encryption,
    )
    return msgspec.structs.replace(channel, **more)


@pytest.fixture
async def notifier() -> AsyncIterator[ChannelNotifier]:
    upstream = HttptoolsUpstream()

    def secret(reference: str) -> str:
        if reference not in SECRETS:
            raise ConfigInvalid(f"credential {reference}: the environment variable is not set")
        return SECRETS[reference]

    yield ChannelNotifier(upstream, secret, SystemClock())
    await upstream.close()


async def test_a_webhook_is_verified_by_the_standards_own_library(notifier: ChannelNotifier) -> None:
    async with hooks() as seen:
        assert await notifier.send(hook(seen.url()), ALERT) == Notified(True)
    ((headers, body),) = seen.received
    document = Webhook(SECRET).verify(body, headers)
    assert headers["webhook-id"] == ALERT.id
    assert document["type"] == "alert.threshold"
    data = document["data"]
    assert data["figures"] == [{"name": "spent", "amount": 4_000_000_001, "unit": "nusd", "usd": "4.000000001"}]
    assert data["links"]["pause"].endswith("?token=t")
    assert "dedupe" not in data
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace(b"4.0", b"9.0"), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1)})


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (204, Notified(True)),
        (500, Notified(False, "answered 500: said 500")),
        (404, Notified(False, "answered 404: said 404")),
        (410, Notified(False, "answered 410: said 410", over=True)),
        (302, Notified(False, "answered 302: a redirect, which is not followed; configure where it leads")),
    ],
)
async def test_what_an_answer_means(notifier: ChannelNotifier, status: int, expected: Notified) -> None:
    async with hooks() as seen:
        seen.answers.append(status)
        found = await notifier.send(hook(seen.url()), ALERT)
    assert found == (expected if status != 204 else Notified(True))
    assert len(seen.received) == 1, "nothing was followed"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}/x", "http://localhost:{port}/x", "http://[::ffff:7f00:1]:{port}/"]
)
async def test_no_private_address_without_leave(notifier: ChannelNotifier, url: str) -> None:
    async with hooks() as seen:
        found = await notifier.send(hook(url.format(port=seen.port), networks=()), ALERT)
    assert not found.ok
    assert "may not be connected to" in found.detail
    assert seen.received == []


async def test_metadata_of_clouds_is_not_private_but_forbidden(notifier: ChannelNotifier) -> None:
    found = await notifier.send(hook("http://169.254.169.254/latest", networks=("loopback", "private")), ALERT)
    assert "may not be connected to: 169.254.169.254 is link-local" in found.detail


@pytest.mark.parametrize(
    ("secret", "said"),
    [("", "under 32 bytes"), ("whsec_c2hvcnQ=", "under 32 bytes"), ("hunter2 hunter2", "not whsec_ and base64")],
)
async def test_nothing_is_sent_with_a_poor_secret(notifier: ChannelNotifier, secret: str, said: str) -> None:
    async with hooks() as seen:
        SECRETS["env:POOR"] = secret
        found = await notifier.send(hook(seen.url(), secret="env:POOR"), ALERT)
        missing = await notifier.send(hook(seen.url(), secret="env:MISSING"), ALERT)
    assert said in found.detail
    assert "hunter2" not in found.detail
    assert "is not set" in missing.detail
    assert seen.received == []


async def test_certificates_are_verified(notifier: ChannelNotifier, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with hooks(authority.server("localhost")) as seen:
        url = seen.url("localhost", "https")
        unknown = await notifier.send(hook(url), ALERT)
        known = await notifier.send(hook(url, ca_bundle=str(authority.ca_bundle)), ALERT)
    assert not unknown.ok
    assert "certificate" in unknown.detail.lower()
    assert known == Notified(True)
    assert len(seen.received) == 1


async def test_slack_gets_text_that_mentions_nobody(notifier: ChannelNotifier) -> None:
    async with hooks() as seen:
        SECRETS["env:SLACK"] = seen.url()
        found = await notifier.send(Channel("s", ChannelKind.SLACK, "", "env:SLACK", LOCAL), ALERT)
    assert found == Notified(True)
    document = json.loads(seen.received[0][1])
    texts = [block["text"]["text"] for block in document["blocks"]]
    told = document["text"] + "".join(texts[:3])
    assert "<!channel>" not in told
    assert "<https://evil" not in told
    assert "&lt;!channel&gt; &amp; co" in document["text"]
    assert texts[3] == (
        "<https://gateway.example.com/ui|show>  <https://gateway.example.com/alerts/pause?token=t|pause>"
    )


async def test_slacks_url_is_in_no_message(notifier: ChannelNotifier) -> None:
    async with hooks() as seen:
        SECRETS["env:SLACK"] = seen.url()
        found = await notifier.send(Channel("s", ChannelKind.SLACK, "", "env:SLACK"), ALERT)
    assert not found.ok
    assert "/hook" not in found.detail


async def test_mail_in_the_clear_where_that_is_asked_for(notifier: ChannelNotifier) -> None:
    with post() as seen:
        assert await notifier.send(mailbox(seen.port), ALERT) == Notified(True)
    (mail,) = seen.mails
    assert mail["message-id"] == "<alr_1@example.com>"  # type: ignore[index]
    assert mail["bcc"] is None, "a caller's line break is none of ours"  # type: ignore[index]
    assert mail["subject"].startswith("[warning] 80 % of limit users spent")  # type: ignore[index]
    text = mail.get_payload(decode=True).decode()  # type: ignore[attr-defined]
    assert "spent: 4.000000001 USD" in text
    assert "pause: https://gateway.example.com/alerts/pause?token=t" in text


async def test_mail_with_starttls_and_a_sign_in(notifier: ChannelNotifier, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    channel = {"user": "faregate", "secret": "env:PASSWORD"}
    with post(starttls=authority.server("localhost")) as seen:
        trusted = mailbox(seen.port, Encryption.STARTTLS, ca_bundle=str(authority.ca_bundle), **channel)
        assert await notifier.send(trusted, ALERT) == Notified(True)
        unknown = await notifier.send(mailbox(seen.port, Encryption.STARTTLS, **channel), ALERT)
        SECRETS["env:WRONG"] = "hunter2"
        refused = await notifier.send(msgspec.structs.replace(trusted, secret="env:WRONG"), ALERT)
        plain = await notifier.send(mailbox(seen.port), ALERT)
    assert "certificate verify failed" in unknown.detail.lower()
    assert "535" in refused.detail
    assert "hunter2" not in refused.detail
    assert not plain.ok, "this server wants encryption"
    assert len(seen.mails) == 1


async def test_mail_over_tls_from_the_first_byte(notifier: ChannelNotifier, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with post(tls=authority.server("localhost")) as seen:
        channel = mailbox(seen.port, Encryption.TLS, ca_bundle=str(authority.ca_bundle))
        assert await notifier.send(channel, ALERT) == Notified(True)
        other = await notifier.send(msgspec.structs.replace(channel, address=f"127.0.0.1:{seen.port}"), ALERT)
    assert not other.ok, "the certificate names another host"
    assert len(seen.mails) == 1


async def test_mail_that_one_recipient_does_not_get_is_not_delivered(notifier: ChannelNotifier) -> None:
    with post() as seen:
        found = await notifier.send(mailbox(seen.port, recipients=("nobody@example.com", "ops@example.com")), ALERT)
    assert "550" in found.detail


async def test_no_mail_server_in_a_private_network_without_leave(notifier: ChannelNotifier) -> None:
    with post() as seen:
        found = await notifier.send(mailbox(seen.port, networks=()), ALERT)
    assert "put loopback into the networks of the channel" in found.detail
    assert seen.mails == []


@pytest.mark.parametrize("sender", ["ops@example..com", "ops@[example"])
async def test_what_no_library_can_send_is_an_answer_and_no_error(notifier: ChannelNotifier, sender: str) -> None:
    answer = await notifier.send(mailbox(1, sender=sender), ALERT)
    assert not answer.ok
    assert answer.detail


async def test_a_mail_server_that_hangs_holds_no_thread_that_others_wait_for(notifier: ChannelNotifier) -> None:
    """The books are written by the event loop's own threads, which are few."""
    connected: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.put_nowait(writer)
        await reader.read()

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    async with await asyncio.start_server(say_nothing, "localhost", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sending = [asyncio.create_task(notifier.send(mailbox(port), ALERT)) for _ in range(4)]
        async with asyncio.timeout(6):
            held = [await connected.get() for _ in sending]
            assert await asyncio.to_thread(lambda: "written") == "written"
        assert not any(one.done() for one in sending)
        for writer in held:
            writer.close()
            await writer.wait_closed()
        assert [answer.ok for answer in await asyncio.gather(*sending)] == [False] * 4


def test_people_are_told_whose_it_is() -> None:
    """A limit of a key names the key only; at night nobody knows whose that is."""
    alert = msgspec.structs.replace(
        ALERT, org="acme", team="growth", key_id="k1", scope=(("key", "k1"), ("user", "ann"))
    )
    assert as_lines(alert)[:4] == ["org: acme", "team: growth", "key: k1", "user: ann"]
