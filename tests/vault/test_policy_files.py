"""The operator's files: read within bounds, and seen to change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.core.errors import ConfigInvalid
from gateway.vault.policy_files import MAX_POLICY_FILE_BYTES, RACY_NS, changed, load_limits, load_routes


def test_routes_are_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_bytes(b"\xef\xbb\xbfmodels: {}\n")
    found = load_routes(tmp_path)
    assert found.text == "models: {}\n"
    assert found.path == tmp_path / "routes.yaml"


def test_what_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"no such file\. Copy .*policies.routes.yaml"):
        load_routes(tmp_path)
    path = tmp_path / "routes.yaml"
    path.write_bytes(b"models:\n  a: \xff\n")
    with pytest.raises(ConfigInvalid, match=r"routes\.yaml:2: is not UTF-8"):
        load_routes(tmp_path)
    path.write_bytes(b"#" * (MAX_POLICY_FILE_BYTES + 1))
    with pytest.raises(ConfigInvalid, match="is over"):
        load_routes(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        load_routes(tmp_path)


def test_changes_are_seen_and_touches_are_not(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("a")
    (tmp_path / "notes.txt").write_text("no policy")
    now = path.stat().st_mtime_ns + 2 * RACY_NS
    names, seen = changed(tmp_path, {}, now)
    assert names == {"routes.yaml"}
    names, seen = changed(tmp_path, seen, now)
    assert names == set()
    os.utime(path, ns=(now, now))
    names, seen = changed(tmp_path, seen, now + 2 * RACY_NS)
    assert names == set()
    path.write_text("b")
    names, seen = changed(tmp_path, seen, now)
    assert names == {"routes.yaml"}
    (tmp_path / "limits.yaml").write_text("x")
    path.unlink()
    names, seen = changed(tmp_path, seen, now)
    assert names == {"routes.yaml", "limits.yaml"}


def test_a_second_edit_within_one_time_stamp_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("a")
    stamp = path.stat().st_mtime_ns
    _, seen = changed(tmp_path, {}, stamp + 1)
    with path.open("r+") as file:
        file.write("b")
    os.utime(path, ns=(stamp, stamp))
    names, _ = changed(tmp_path, seen, stamp + 1)
    assert names == {"routes.yaml"}


def test_an_atomic_replacement_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("a")
    stamp = path.stat().st_mtime_ns
    _, seen = changed(tmp_path, {}, stamp + 2 * RACY_NS)
    other = tmp_path / "new"
    other.write_text("b")
    os.utime(other, ns=(stamp, stamp))
    os.replace(other, path)
    names, _ = changed(tmp_path, seen, stamp + 2 * RACY_NS)
    assert names == {"routes.yaml"}


def test_nobody_needs_a_file_of_limits(tmp_path: Path) -> None:
    assert load_limits(tmp_path) is None
    (tmp_path / "limits.yaml").write_bytes(b"\xef\xbb\xbflimits:\n")
    found = load_limits(tmp_path)
    assert found is not None
    assert (found.path.name, found.text) == ("limits.yaml", "limits:\n")
    (tmp_path / "limits.yaml").write_bytes(b"limits:\n  \xff")
    with pytest.raises(ConfigInvalid, match=r"limits\.yaml:2: is not UTF-8"):
        load_limits(tmp_path)
