"""What a worker holds: pinned policies, patched keys, the last good file, credentials by provider."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from gateway.core.config import KeyDelta, LimitChange, Policy, ProviderSettings, Snapshot, Update
from gateway.core.errors import ConfigInvalid
from gateway.core.limits import Limit, Suspension, Unit, Window, WindowKind
from gateway.limits.rules import Rules
from gateway.vault.configuration import WorkerConfiguration
from gateway.vault.credentials import Credentials
from gateway.vault.keyring import MemoryKeyRing
from gateway.vault.last_good import read_last_good, write_last_good
from vault.fakes import Chance, imported, peppers, record, ring

MINTED = peppers().mint(Chance(1), "live")
NOW = 100


def policy(revision: int, **credentials: str) -> Policy:
    rows = {
        name: ProviderSettings(name, "openai", "openai_chat", "http://a", credential)
        for name, credential in credentials.items()
    }
    return Policy(revision, f"h{revision}", rows, {}, (), {})


def worker(environment: dict[str, str] | None = None) -> tuple[WorkerConfiguration, list[str]]:
    frozen: list[str] = []
    made = WorkerConfiguration(ring(), Credentials(environment or {}), lambda: frozen.append("x"))
    return made, frozen


def test_it_is_ready_with_its_first_policy_and_freezes_once() -> None:
    configuration, frozen = worker()
    assert not configuration.ready
    assert configuration.policy.models == {}
    configuration.apply(Update(3, 50, policy(3), (KeyDelta(2, MINTED.key_id, record(MINTED)),)))
    configuration.apply(Update(4, 60, policy(4)))
    assert configuration.ready
    assert len(frozen) == 1
    assert configuration.revision == 4
    assert configuration.keys.fresh_ms == 60
    assert configuration.keys.find(MINTED.text, NOW) is not None


def test_a_call_keeps_the_policy_it_started_with() -> None:
    configuration, _ = worker()
    configuration.apply(Update(3, 0, policy(3)))
    pinned = configuration.policy
    configuration.apply(Update(4, 0, policy(4)))
    assert (pinned.revision, configuration.policy.revision) == (3, 4)


def test_repeated_and_overtaken_updates_change_nothing() -> None:
    configuration, _ = worker()
    configuration.apply(Update(5, 70, policy(5), (KeyDelta(4, MINTED.key_id, None),)))
    configuration.apply(Update(3, 20, policy(3), (KeyDelta(3, MINTED.key_id, record(MINTED)),)))
    assert (configuration.policy.revision, configuration.revision, configuration.keys.fresh_ms) == (5, 5, 70)
    assert configuration.keys.find(MINTED.text, NOW) is None


def test_it_starts_from_the_last_good_file_but_is_not_fresh(tmp_path: Path) -> None:
    path = tmp_path / "run" / "config.msgpack"
    first, _ = worker()
    assert not first.load_last_good(path)
    first.apply(Update(7, 50, policy(6), (KeyDelta(2, MINTED.key_id, record(MINTED)),)))
    write_last_good(path, first.snapshot())
    assert path.stat().st_mode & 0o777 == 0o600
    frozen: list[str] = []
    second = WorkerConfiguration(MemoryKeyRing(peppers(), b"d" * 32), Credentials({}), lambda: frozen.append("x"))
    assert second.load_last_good(path)
    assert second.keys.fresh_ms == 0
    assert second.snapshot() == first.snapshot()
    assert frozen == ["x"]
    assert second.keys.find(MINTED.text, NOW) is not None
    second.apply(Update(8, 90, None, (KeyDelta(8, MINTED.key_id, None),)))
    assert second.keys.find(MINTED.text, NOW) is None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "version"])
def test_a_damaged_last_good_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "config.msgpack"
    write_last_good(path, Snapshot(1, policy(1), (record(MINTED),)))
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-1]
    elif damage == "flip":
        content[-3] ^= 1
    elif damage == "empty":
        content = bytearray()
    else:
        content[6] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigInvalid, match="Delete it"):
        worker()[0].load_last_good(path)


def test_a_last_good_file_of_other_types_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.msgpack"
    write_last_good(path, msgspec.structs.replace(Snapshot(1, policy(1), ()), keys=("no key",)))  # type: ignore[arg-type]
    with pytest.raises(ConfigInvalid, match="another version"):
        read_last_good(path)


def test_a_restored_database_may_go_back_by_a_snapshot() -> None:
    configuration, _ = worker()
    configuration.apply(Update(9, 50, policy(9), (KeyDelta(9, MINTED.key_id, None),)))
    configuration.load(Snapshot(4, policy(4), (record(MINTED), imported("sk-a")), ()), 60)
    assert (configuration.revision, configuration.policy.revision) == (4, 4)
    assert configuration.keys.find(MINTED.text, NOW) is not None
    configuration.apply(Update(5, 70, None, (KeyDelta(5, MINTED.key_id, None),)))
    assert configuration.keys.find(MINTED.text, NOW) is None


def test_a_missing_credential_is_one_providers_trouble_and_names_it() -> None:
    configuration, _ = worker({"GOOD": "sk-1"})
    configuration.apply(Update(3, 0, policy(3, good="env:GOOD", bad="env:BAD", worse="env:BAD", local="")))
    assert configuration.credential("env:GOOD") == "sk-1"
    assert configuration.credential("") == ""
    with pytest.raises(ConfigInvalid, match=r"^provider bad, worse: credential env:BAD: the environment variable BAD"):
        configuration.credential("env:BAD")
    with pytest.raises(ConfigInvalid, match=r"^credential env:ELSE"):
        configuration.credential("env:ELSE")


def test_a_new_policy_reads_credential_files_again(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("one")
    configuration, _ = worker()
    configuration.apply(Update(3, 0, policy(3)))
    assert configuration.credential(f"file:{file}") == "one"
    file.write_text("two")
    configuration.apply(Update(4, 0, policy(4)))
    assert configuration.credential(f"file:{file}") == "two"
    file.write_text("three")
    configuration.reload_credentials()
    assert configuration.credential(f"file:{file}") == "three"


def test_a_worker_imports_no_sql_no_yaml_and_no_cryptography() -> None:
    program = (
        "import sys, gateway.vault.configuration, gateway.vault.keyring, gateway.routing.plan\n"
        "heavy = {'sqlalchemy', 'sqlmodel', 'alembic', 'cryptography', 'yaml', 'fastapi', 'pydantic', 'asyncpg'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def limit(id: str, amount: int) -> Limit:
    return Limit(id, Unit.USD, amount, Window(WindowKind.MONTH), (("org", "acme"),))


def limited(revision: int, id: str, found: Limit | None) -> KeyDelta:
    return KeyDelta(revision, id, None, LimitChange(id, found))


def test_limits_of_sql_are_patched_and_those_of_files_come_with_the_policy() -> None:
    told: list[Rules] = []
    configuration = WorkerConfiguration(ring(), Credentials({}), lambda: None, told.append)
    of_files = msgspec.structs.replace(policy(3), limits=(limit("file", 1),))
    configuration.apply(Update(3, 0, of_files, (limited(2, "lim_a", limit("lim_a", 2)),)))
    assert [one.id for one in told[-1].limits] == ["file", "lim_a"]
    configuration.apply(Update(4, 0, None, (limited(4, "lim_a", limit("lim_a", 9)),)))
    assert [one.amount for one in configuration.rules.limits] == [1, 9]
    assert configuration.rules is told[-1]
    heard = len(told)
    configuration.apply(Update(4, 10))
    configuration.apply(Update(4, 10, None, (limited(2, "lim_a", limit("lim_a", 2)),)))
    configuration.apply(Update(5, 10, None, (KeyDelta(5, MINTED.key_id, record(MINTED)),)))
    assert len(told) == heard, "nothing new of limits"
    configuration.apply(Update(6, 10, None, (limited(6, "lim_a", None),)))
    configuration.apply(Update(6, 10, None, (limited(4, "lim_a", limit("lim_a", 9)),)))
    assert [one.id for one in configuration.rules.limits] == ["file"], "what was removed does not come back"


def test_limits_are_in_the_last_good_file(tmp_path: Path) -> None:
    path = tmp_path / "config.msgpack"
    first, _ = worker()
    lifted = Suspension("sus_a", (("org", "acme"),), 99, "why", "k", 1)
    changes = (limited(4, "lim_a", limit("lim_a", 2)), KeyDelta(5, "sus_a", None, LimitChange("sus_a", None, lifted)))
    first.apply(Update(5, 50, policy(3), changes))
    write_last_good(path, first.snapshot())
    told: list[Rules] = []
    second = WorkerConfiguration(ring(), Credentials({}), lambda: None, told.append)
    assert second.load_last_good(path)
    assert [one.id for one in told[-1].limits] == ["lim_a"]
    assert [one.id for one in told[-1].suspensions] == ["sus_a"]
    second.apply(Update(5, 60, None, (limited(4, "lim_b", limit("lim_b", 2)),)))
    assert [one.id for one in second.rules.limits] == ["lim_a"], "older than the snapshot"


def test_what_a_version_without_limits_wrote_is_used_and_the_limits_are_asked_for() -> None:
    old = msgspec.msgpack.encode({"revision": 7, "policy": msgspec.to_builtins(policy(6)), "keys": []})
    snapshot = msgspec.msgpack.decode(old, type=Snapshot)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([4, "k", None]), type=KeyDelta).change is None
    configuration, _ = worker()
    configuration.load(snapshot, 0)
    assert (configuration.ready, configuration.policy.revision, configuration.revision) == (True, 6, 0)
    configuration.apply(Update(7, 60, policy(6), (limited(4, "lim_a", limit("lim_a", 2)),)))
    assert [one.id for one in configuration.rules.limits] == ["lim_a"]
    assert configuration.revision == 7
