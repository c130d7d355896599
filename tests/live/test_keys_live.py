"""Keys over the command line and the admin API against a running server."""

from __future__ import annotations

import hashlib
import signal
import time

import pytest
from live.running import Running, wait_for

pytestmark = pytest.mark.xdist_group("live")


def test_a_revoked_key_is_refused_as_soon_as_the_api_has_answered(server: Running) -> None:
    secret = server.new_key("short-lived")
    assert server.chat(secret).status == 200
    boss = server.keys["boss"]
    keys = server.call("GET", "/admin/v1/keys", key=boss).json["data"]
    key_id = next(row["id"] for row in keys if row["name"] == "short-lived")
    reply = server.call("POST", f"/admin/v1/keys/{key_id}/revoke", {}, boss)
    assert reply.status == 200
    assert reply.json["state"] == "applied"
    assert server.chat(secret).status == 401


def test_pause_resume_update_rotate(server: Running) -> None:
    secret = server.new_key("turning")
    key_id = secret.split("_")[2]
    server.faregate("keys", "pause", key_id)
    paused = server.chat(secret)
    assert paused.status == 403
    assert "paused" in paused.json["error"]["message"]
    server.faregate("keys", "resume", key_id)
    assert server.chat(secret).status == 200
    server.faregate("keys", "update", key_id, "--model", "sim-large")
    assert server.chat(secret).status == 403
    assert server.chat(secret, "sim-large").status == 200
    second = server.faregate("keys", "rotate", key_id, "--quiet", "--overlap", "1h").stdout.strip()
    assert second != secret
    assert server.chat(second, "sim-large").status == 200
    assert server.chat(secret, "sim-large").status == 200


def test_an_imported_key_keeps_working_unchanged(server: Running) -> None:
    old = "sk-an-old-key-of-another-gateway-0123456789"
    digest = hashlib.sha256(old.encode()).hexdigest()
    server.faregate("keys", "import", "old-one", "--sha256", digest)
    assert server.chat(old).status == 200
    assert server.chat(old + "x").status == 401


def test_if_absent_makes_one_key_and_shows_its_secret_once(server: Running) -> None:
    first = server.faregate("keys", "create", "once", "--if-absent", "--quiet").stdout.strip()
    second = server.faregate("keys", "create", "once", "--if-absent", "--quiet").stdout.strip()
    assert first.startswith("fg_live_")
    assert second == ""


def test_the_command_line_works_remotely_with_an_admin_key(server: Running) -> None:
    boss = server.keys["boss"]
    listed = server.faregate("keys", "list", key=boss).stdout
    assert "app" in listed
    spent = server.faregate("spend", "--by", "team,model", "--since", "7d", key=boss).stdout
    assert "sim-small" in spent
    refused = server.faregate("keys", "list", key=server.keys["app"], check=False)
    assert refused.returncode == 1
    assert "role" in refused.stderr


def test_a_changed_file_is_used_and_a_broken_one_is_not(server: Running, app_key: str) -> None:
    routes = server.folder / "policies" / "routes.yaml"
    before = routes.read_text()
    routes.write_text(before.replace("  gpt-test: sim-small", "  gpt-test: sim-small\n  brand-new: sim-small"))
    wait_for("the new alias", lambda: server.chat(app_key, "brand-new").status == 200)
    routes.write_text("models: [")
    time.sleep(1.5)
    assert server.chat(app_key, "brand-new").status == 200
    checked = server.faregate("config", "validate", check=False)
    assert checked.returncode == 1
    assert "routes.yaml:" in checked.stderr + checked.stdout
    routes.write_text(before)
    wait_for("the old file", lambda: server.chat(app_key, "brand-new").status == 404)


def test_sighup_reads_the_files_again_and_harms_nobody(server: Running, app_key: str) -> None:
    assert server.process is not None
    before = server.call("GET", "/admin/v1/config", key=server.keys["boss"]).json["checked_at"]
    server.process.send_signal(signal.SIGHUP)

    def checked_again() -> bool:
        reply = server.call("GET", "/admin/v1/config", key=server.keys["boss"])
        return bool(reply.json["checked_at"] != before)

    wait_for("another look at the files", checked_again)
    assert server.chat(app_key).status == 200
    assert server.process.poll() is None
