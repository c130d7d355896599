"""What `faregate serve` says before it starts anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.cli.serve import check
from gateway.core.errors import ConfigInvalid
from gateway.settings import Settings


def test_without_routes_the_example_that_can_be_copied_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="There is no") as caught:
        check(Settings(config_dir=tmp_path))
    named = re.search(r"Copy (\S+) and", caught.value.message)
    assert named is not None
    (tmp_path / "routes.yaml").write_bytes(Path(named.group(1)).read_bytes())
    check(Settings(config_dir=tmp_path))


def test_more_workers_than_one_are_refused_for_now(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").touch()
    with pytest.raises(ConfigInvalid, match="only one worker"):
        check(Settings(config_dir=tmp_path, workers=2))
