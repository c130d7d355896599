"""Whatever is written into the file and confirmed, in whatever order: no rate in use moves far without a yes, and none
waits that need not."""

from __future__ import annotations

import dataclasses
import tempfile
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from desk.world import ROUTED, World
from gateway.core.charge import PriceSheet
from gateway.core.config import Deployment, ModelRoute, Policy, ProviderSettings
from gateway.core.errors import ConfigInvalid, Conflict, FaregateError, StoreUnavailable
from gateway.core.price_admin import MOST_LISTED, PriceDraft, PriceVersion
from gateway.desk.parts import PriceParts
from gateway.desk.policy_files import PolicyFiles
from gateway.desk.prices.file import NOTHING
from gateway.desk.prices.gate import PriceGate, load_written, reachable_keys, used_keys
from gateway.pricing.rows import rows_for
from gateway.pricing.versions import NOTHING_WRITTEN, make_version
from gateway.settings import Settings

KEY = "openai/gpt-4o-mini"
NANO = st.integers(1, 4_000).map(lambda thousandths: f"{thousandths / 1000:.3f}")
STEPS = st.lists(st.tuples(NANO, st.booleans(), st.booleans()), min_size=1, max_size=8)


class Installation:
    """What a store and its watch do with the gate's choices, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        parts = World(settings=Settings(config_dir=folder, data_dir=folder / "data")).parts()
        # The gate asks the store and the ledger nothing here: it is given what they would say.
        prices = PriceParts(None, None, None, ("openai",))  # type: ignore[arg-type]
        self.gate = PriceGate(parts, prices)
        self.policy: Policy | None = None
        self.in_force: PriceVersion | None = None
        self.now_ms = parts.clock.now_ms()

    def reload(self, confirm: str | None = None) -> None:
        choice = self.gate.choose(self.policy, self.in_force, [KEY], confirm=confirm)
        if choice.publish is not None:
            self.in_force = msgspec.structs.replace(choice.publish, number=choice.after + 1)
        sheets = {f"openai/{model}": sheet for model, sheet in choice.sheets("openai", ["gpt-4o-mini"]).items()}
        self.policy = msgspec.structs.replace(ROUTED, revision=1, sheets=sheets)

    @property
    def rate(self) -> Fraction:
        assert self.policy is not None
        row = rows_for(self.policy.sheets[KEY], "standard", 1, self.now_ms)["input"]
        return Fraction(row.rate_pico, row.per)


class Away:
    """A store that does not answer."""

    async def prices_in_force(self) -> PriceVersion | None:
        raise StoreUnavailable("SQL did not answer")


@pytest.mark.parametrize(("prices", "said"), [("prices: {openai/m: {}}\n", ConfigInvalid), ("", StoreUnavailable)])
async def test_a_mistake_is_told_whether_sql_answers_or_not(
    tmp_path: Path, prices: str, said: type[FaregateError]
) -> None:
    (tmp_path / "prices.yaml").write_text(prices)
    where = Settings(config_dir=tmp_path, data_dir=tmp_path / "data")
    parts = World(settings=where).parts()
    store = PriceParts(Away(), None, None, ("openai",))  # type: ignore[arg-type]

    def compiled() -> Policy:
        load_written(tmp_path, ("openai",))
        return ROUTED

    files = PolicyFiles(dataclasses.replace(parts, prices=store, compile_policy=compiled))
    with pytest.raises(said):
        await files.reload("ada")
    assert ("prices.yaml:1" in files.standing.problem) == bool(prices)


@given(STEPS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_rate_moves_far_without_a_yes_and_none_waits_in_vain(steps: list[tuple[str, bool, bool]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        here = Installation(Path(name))
        here.reload()
        for usd, ask, look in steps:
            (here.folder / "prices.yaml").write_text(f"prices:\n  {KEY}: {{rates: {{input: {usd} USD / 1M tokens}}}}\n")
            before, wanted = here.rate, Fraction(usd) * 10**6
            far = abs(wanted - before) * 4 > before
            here.reload()
            assert here.rate == (before if far else wanted)
            assert (here.gate.waiting is not None) == far
            if not ask:
                continue
            seen = here.gate.waiting.version.sha256 if here.gate.waiting is not None and look else ""
            if far and seen:
                here.reload(seen)
                assert (here.rate, here.gate.waiting) == (wanted, None)
            else:
                with pytest.raises(Conflict):
                    here.reload(seen)
                assert here.rate == (before if far else wanted)


def test_an_installation_from_before_there_were_versions_is_held_to_the_same(tmp_path: Path) -> None:
    here = Installation(tmp_path)
    here.reload()
    here.in_force = None
    (tmp_path / "prices.yaml").write_text(f"prices:\n  {KEY}: {{rates: {{input: 9 USD / 1M tokens}}}}\n")
    here.reload()
    assert (here.in_force, here.rate) == (None, 150_000)
    assert here.gate.waiting is not None
    here.reload(here.gate.waiting.version.sha256)
    assert here.in_force is not None
    assert (here.in_force.number, here.rate) == (1, 9_000_000)


def test_what_ships_is_renewed_with_faregate_and_what_was_imported_stays(tmp_path: Path) -> None:
    gate = Installation(tmp_path).gate
    genai, litellm = gate.bundled()
    older = msgspec.structs.replace(genai, sha256="0" * 64, name="genai-prices 0.1")
    brought = msgspec.structs.replace(older, recorded_by="ada")
    for source, wanted in ((older, genai), (brought, brought)):
        in_force = make_version(source, litellm, NOTHING_WRITTEN)
        assert gate.candidate(NOTHING, "", in_force, None).genai == wanted
    draft = PriceDraft(genai, litellm, 1, "ada")
    assert gate.candidate(NOTHING, "", make_version(brought, litellm, NOTHING_WRITTEN), draft).genai == genai


@pytest.mark.parametrize(
    ("called", "keys"),
    [
        ("azure/chat", ["azure/gpt-4o", "azure/gpt-4o-mini"]),  # two routes price the one deployment differently
        ("before/chat", ["azure/chat", "azure/gpt-4o", "azure/gpt-4o-mini", "openai/chat"]),  # it has another name now
        ("openai/o3", ["openai/o3"]),
        ("azure/gone", ["azure/gone"]),
        ("", []),
    ],
)
def test_in_use_is_every_price_that_a_call_may_have_had(called: str, keys: list[str]) -> None:
    assert used_keys(TWICE, [called]) == keys


def test_more_models_than_are_listed_hide_none_and_no_ledger_hides_none_behind_a_wildcard() -> None:
    many = [f"openai/a{number:05}" for number in range(MOST_LISTED)]
    reached = ["azure/gpt-4o", "azure/gpt-4o-mini", "openai/o3"]
    assert set(used_keys(TWICE, many)) >= set(reached)
    assert reachable_keys(TWICE) == reached


TWICE = msgspec.structs.replace(
    ROUTED,
    providers={name: ProviderSettings(name, name, "openai_chat", "https://a") for name in ("azure", "openai")},
    models={
        "cheap": ModelRoute("cheap", (Deployment("azure/chat", "azure", "chat", "gpt-4o-mini"),)),
        "good": ModelRoute("good", (Deployment("azure/chat", "azure", "chat", "gpt-4o"),)),
    },
    sheets={key: PriceSheet(key, ()) for key in ("openai/o3", "azure/gpt-4o", "openai/*")},
)
