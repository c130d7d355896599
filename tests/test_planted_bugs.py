"""Bugs that must not survive: each is planted into a copy of the package, and the test it names has to fail there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HANG_S = 120


@dataclass(frozen=True)
class Bug:
    """`text` stands once in `file` and becomes `instead`; `caught_by` is the test that then fails."""

    name: str
    file: str
    text: str
    instead: str
    caught_by: str


BUGS = [
    Bug(
        "a dropped settle",
        "flow/settle.py",
        "services.journal.append_all((end, settled), passage.call_id)\n",
        "(services.journal.append(end, passage.call_id), 2)\n",
        "tests/flow/test_flow_upstream.py::test_each_reply_is_answered_booked_and_settled[ok-limited]",
    ),
    Bug(
        "a rollup applied twice",
        "store/ledger_straight.py",
        "    await statements.add_rollups.count(connection, sums.rows())\n",
        "    await statements.add_rollups.count(connection, sums.rows())\n" * 2,
        "tests/store/test_ledger_writer.py::test_a_call_is_in_every_table_once[sqlite]",
    ),
    Bug(
        "a sum by value applied twice",
        "store/ledger_straight.py",
        "    await statements.add_values.count_tuples(connection, sums.value_rows())\n",
        "    await statements.add_values.count_tuples(connection, sums.value_rows())\n" * 2,
        "tests/store/test_ledger_values.py::test_spend_is_grouped_by_tag_user_and_session_and_adds_up[sqlite]",
    ),
    Bug(
        "a month closed by sums that are not its last",
        "store/period_store.py",
        "            if await loaded_since(connection, org, month_ms, reached):\n",
        "            if False:\n",
        "tests/store/test_ledger_corrections.py::test_a_load_that_has_begun_is_in_the_month_that_is_closed[sqlite]",
    ),
    Bug(
        "a rollup from rows that were not inserted",
        "store/ledger_careful.py",
        "        for (call_id,) in ended:\n",
        "        for call_id in rows:\n",
        "tests/store/test_ledger_writer.py::test_rows_protect_themselves_when_the_cursor_is_lost[sqlite]",
    ),
    Bug(
        "only the last usage of a message's stream",
        "dialects/anthropic_messages/stream.py",
        'known | fields if "iterations" in fields else merge_usage(known, fields)\n',
        "fields\n",
        "tests/dialects/test_messages_stream.py::test_the_last_running_total_counts_and_what_it_leaves_out_stays",
    ),
    Bug(
        "a caller's own credential sent to whoever is asked",
        "flow/own_credential.py",
        "    return bool(passage.own_credential) and target.provider.caller_credentials\n",
        "    return bool(passage.own_credential)\n",
        "tests/flow/test_flow_own_credential.py::test_other_providers_never_see_it_and_are_paid_as_usual",
    ),
    Bug(
        "an id of a response that every organisation can use",
        "core/issued.py",
        "for part in encoded]))",
        "for part in encoded[:1]]))",
        "tests/core/test_issued.py::test_no_other_org_can_use_it",
    ),
    Bug(
        "a response in the background for the price of its prompt",
        "flow/unread.py",
        "Meter.OUTPUT: bound.output_bound}\n",
        "Meter.OUTPUT: 1}\n",
        "tests/flow/test_flow_issued.py::test_a_response_in_the_background_counts_as_all_it_may_use",
    ),
    Bug(
        "the end of a broken stream of a response numbered anew",
        "dialects/openai_responses/stream.py",
        "        return int(found[-1]) + 1 if found else self.events\n",
        "        return 0\n",
        "tests/dialects/test_responses_laws.py::test_an_ending_of_our_own_is_numbered_on_and_of_the_same_response",
    ),
    Bug(
        "an ignored limit",
        "counters/memory.py",
        "            if spent + reserved + amount <= want.limit.amount:\n",
        "            if True:\n",
        "tests/flow/test_flow_refusals.py::test_what_a_budget_allows_exactly_is_served_and_the_rest_comes_back",
    ),
    Bug(
        "an ignored reservation",
        "counters/memory.py",
        "                    reserved += counter.reserved\n                if name in ahead:\n",
        "                if name in ahead:\n",
        "tests/flow/test_flow_reserve.py::test_of_many_exactly_as_many_are_sent_as_there_is_money_for",
    ),
    Bug(
        "a skipped crc",
        "journal/format.py",
        "    if _crc32(view[offset + _CRC_FROM : end]) != crc:\n",
        "    if False:\n",
        "tests/journal/test_journal_format.py::test_no_damaged_byte_passes",
    ),
    Bug(
        "a hold not given back",
        "ledger/fold.py",
        "            if amount:\n                self._release(name, amount)\n        call =",
        "            pass\n        call =",
        "tests/flow/test_flow_upstream.py::test_each_reply_is_answered_booked_and_settled[ok-limited]",
    ),
    Bug(
        "an attempt left open when its caller goes",
        "flow/settle.py",
        "        if attempt.ended:\n            continue\n",
        "        if attempt.ended or attempt.dispatched:\n            continue\n",
        "tests/flow/test_flow_goodbye.py::test_a_provider_that_then_stops_billing_is_stopped_at_once[in the middle]",
    ),
    Bug(
        "a request sent before it was recorded",
        "flow/reserve.py",
        "services.journal.append_all((hold, dispatch), passage.call_id)\n",
        "(services.journal.append(hold, passage.call_id), 2)\n",
        "tests/flow/test_flow_streams.py::test_the_terminal_event_is_kept_back_until_everything_is_settled",
    ),
    Bug(
        "freed money lent again before it is recorded",
        "flow/shrink.py",
        "    services.journal.append(record, passage.call_id)\n    attempt.hold =",
        "    attempt.hold =",
        "tests/flow/test_flow_shrink.py::"
        "test_a_waiting_call_gets_what_was_freed_and_only_after_it_stands_in_the_journal",
    ),
    Bug(
        "a shrunk hold spent whole",
        "flow/shrink.py",
        "    attempt.hold = msgspec.structs.replace(smaller, input_estimate=prompt_tokens)\n",
        "",
        "tests/flow/test_flow_shrink.py::test_usage_that_cannot_be_priced_after_all_spends_the_shrunk_hold_and_no_more",
    ),
    Bug(
        "a cap that is not proven",
        "flow/cap.py",
        "all((bound.nusd if unit is Unit.USD else bound.tokens) <= room for unit, room in self._rooms)\n",
        "True\n",
        "tests/flow/test_flow_cap.py::test_output_is_capped_to_what_is_left_exactly[more0]",
    ),
    Bug(
        "an address that nobody checks",
        "core/addresses.py",
        "        if ip.version == network.version and ip in network:\n",
        "        if False:\n",
        "tests/core/test_addresses.py::test_only_what_the_world_can_route_is_public",
    ),
    Bug(
        "a half-close taken for a cancel",
        "api/http_exchange.py",
        "        if not self._complete:\n            self.left()\n        elif",
        "        if self._complete:\n            self.left()\n        elif",
        "tests/api/test_api_connection.py::test_a_half_closed_caller_gets_its_whole_answer[False]",
    ),
]


def run_tests(package: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Runs tests of this checkout against the `gateway` in `package`."""
    options = ("-q", "-rf", "--tb=no", "-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin")
    return run_python(package, "-m", "pytest", *options, *tests)


def run_python(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`-P` and PYTHONPATH put the copy before this checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    environment |= {"PYTHONPATH": str(package), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a copy of the package; compiled files come along, so it starts as fast as the original."""
    shutil.copytree(ROOT / "gateway", tmp_path / "gateway")
    return tmp_path


def test_the_copy_itself_is_sound(package: Path) -> None:
    where = run_python(package, "-c", "import gateway; print(gateway.__file__)")
    assert where.stdout.startswith(str(package)), "it is the copy that is tested"
    done = run_tests(package, *sorted({bug.caught_by for bug in BUGS}))
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_suite_catches(bug: Bug, package: Path) -> None:
    file = package / "gateway" / bug.file
    source = file.read_text()
    assert source.count(bug.text) == 1, f"{bug.file} has changed: plant {bug.name!r} anew"
    file.write_text(source.replace(bug.text, bug.instead))
    done = run_tests(package, bug.caught_by)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-1000:]
    assert f"FAILED {bug.caught_by}" in done.stdout
