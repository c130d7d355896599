"""Settings: read once from the environment, typed, frozen, each with a meaning and a line on its page."""

from __future__ import annotations

import dataclasses
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import ConfigInvalid
from gateway.settings import Settings, bundled, read_settings, unknown_variables
from tools.settings_page import main, settings_page

ROOT = Path(__file__).resolve().parent.parent
HINTS = get_type_hints(Settings)
NAMES = [item.name for item in fields(Settings)]
GOOD: dict[Any, tuple[str, Any]] = {
    Path: ("/srv/x y", Path("/srv/x y")),
    str: (" as it is ", " as it is "),
    int: ("12345678", 12345678),
    float: ("2.5", 2.5),
}
NARROW: dict[str, tuple[str, Any]] = {"port": ("7", 7), "budget_status": ("429", 429), "key_env": ("test", "test")}


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_is_read_from_its_variable_and_no_other(name: str) -> None:
    wanted = HINTS[name]
    text, value = (get_args(wanted)[-1],) * 2 if get_args(wanted) else NARROW.get(name) or GOOD[wanted]
    settings = read_settings({f"FAREGATE_{name.upper()}": text, "PATH": "/bin", name.upper(): "x"})
    assert getattr(settings, name) == value
    assert type(getattr(settings, name)) is (str if get_args(wanted) else type(value))
    assert dataclasses.replace(settings, **{name: getattr(Settings(), name)}) == Settings()


@pytest.mark.parametrize("name", [name for name in NAMES if HINTS[name] not in (str, Path)])
@pytest.mark.parametrize("text", ["", "many", "0x10", "--", "1,5"])
def test_what_cannot_be_read_names_variable_and_value(name: str, text: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        read_settings({f"FAREGATE_{name.upper()}": text})
    assert refused.value.message.startswith(f"FAREGATE_{name.upper()}={text!r}: must be ")


def test_a_choice_names_all_it_may_be() -> None:
    with pytest.raises(ConfigInvalid, match="must be one of process, power"):
        read_settings({"FAREGATE_DURABILITY": "Power"})


def test_without_variables_everything_has_its_default() -> None:
    assert read_settings({}) == Settings()
    assert Settings().host == "127.0.0.1", "nobody is let in from outside unless asked to"


def test_settings_cannot_be_changed_once_read() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_everything_that_is_kept_lies_in_the_data_folder() -> None:
    settings = Settings(data_dir=Path("/d"))
    kept = [
        value
        for name in dir(Settings)
        if not name.startswith("_") and isinstance(value := getattr(settings, name), Path) and name != "config_dir"
    ]
    assert len(kept) >= 8
    for path in kept:
        assert path == Path("/d") or Path("/d") in path.parents
    assert len({*kept}) == len(kept), "two things share a path"


@given(st.dictionaries(st.sampled_from([f"FAREGATE_{name.upper()}" for name in NAMES]), st.text(max_size=8)))
def test_any_environment_is_read_or_refused_as_configuration(environment: dict[str, str]) -> None:
    refused = ""
    try:
        read_settings(environment)
    except ConfigInvalid as error:
        refused = error.message
    assert not refused or any(name in refused for name in environment)


@pytest.mark.parametrize("folder", ["dashboards/console", "policies", "prompts"])
def test_what_ships_with_faregate_is_found(folder: str) -> None:
    assert bundled(folder).is_dir()


def test_the_page_is_current() -> None:
    page = settings_page()
    assert main(["--check"]) == 0, "run python -m tools.settings_page"
    assert (ROOT / "docs" / "settings.md").read_text() == page
    for name in NAMES:
        assert page.count(f"`FAREGATE_{name.upper()}` |") == 1


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("PORT", "70000", "between 0 and 65535"),
        ("PORT", "-1", "between 0 and 65535"),
        ("SEGMENT_BYTES", "10", "at least"),
        ("DRAIN_TIMEOUT_S", "nan", "at least 0"),
        ("LOG_LEVEL", "verbose", "debug, info, warning, error"),
        ("KEY_ENV", "Li_ve", "a-z and 0-9"),
        ("BUDGET_STATUS", "200", "between 400 and 499"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_the_range(name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=said):
        read_settings({f"FAREGATE_{name}": text})


def test_a_misspelt_variable_is_told_with_what_it_may_have_been() -> None:
    found = unknown_variables({"FAREGATE_DURABILTY": "power", "FAREGATE_URL": "x", "FAREGATE_TEST_A": "", "HOME": "/"})
    assert found == {"FAREGATE_DURABILTY": "FAREGATE_DURABILITY"}


def test_each_database_has_a_last_good_file_of_its_own(tmp_path: Path) -> None:
    """Moved to another database, a server must not serve by the old one's revisions, nor change for a new password."""

    def file(url: str) -> str:
        return read_settings({"FAREGATE_DATA_DIR": str(tmp_path), "FAREGATE_DATABASE_URL": url}).last_good_file.name

    here = file("postgresql://app:old@db.example/faregate?sslmode=verify-full")
    assert here == file("postgresql://other:n%40w@db.example/faregate?sslmode=require")
    others = {file(""), file("postgresql://app:old@db.example/two"), file("postgresql://app:old@db2.example/faregate")}
    others.add(file("postgresql://app:old@/faregate?host=/run/postgresql"))
    others.add(file("postgresql://app:old@/faregate?host=/run/other"))
    assert len(others | {here}) == 6
