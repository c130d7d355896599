"""`prices.yaml` as the desk reads it: what it may say, mistakes with their lines, and the file that is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.charge import PriceRow, PriceSheet
from gateway.core.errors import ConfigInvalid
from gateway.core.usage import Meter
from gateway.desk.prices.file import Written, read_prices
from gateway.desk.prices.gate import load_written
from gateway.pricing.agreements import Agreement
from gateway.pricing.book import PriceBook
from gateway.pricing.versions import encode_written
from gateway.routing.problems import Problems

KINDS = ("openai", "openai_compatible", "simulated", "vllm")
HEAD = "prices:\n  openai/m:\n"


EMPTY = PriceSheet("", ())


def read(folder: Path, text: str, kinds: tuple[str, ...] = KINDS) -> Written:
    (folder / "prices.yaml").write_text(text)
    return load_written(folder, kinds)[0]


EVERYTHING = """\
currencies: {EUR: 1.085}
prices:
  openai/m:
    contract: true
    context_window: 128k
    max_output_tokens: 16384
    rates:
      - {input: 2.50 USD / 1M tokens, output: 8 EUR / 1M tokens}
      - {tier: batch, input: 1.25 USD / 1M tokens, output: 5 USD / 1M tokens}
      - {above: 200_000, input: 5 USD / 1M tokens, output: 15 USD / 1M tokens}
      - {hours: Sat-Sun 00:00-24:00, input: 1 USD / 1M tokens}
      - {from: 2026-12-01, to: 2027-01-01, input: 2 USD / 1M tokens}
      - {least: 10, audio_seconds: 0.36 USD / hour}
  openai_compatible/mine: {free: true}
agreements:
  - {for: openai/*, meters: tokens, discount: 15 %, from: 2026-01-01}
  - {for: openai/m, meters: [web_search], margin: 5}
fallback:
  openai: {context_window: 8k, rates: {input: 30 USD / 1M tokens, output: 60 USD / 1M tokens}}
pending:
  - {for: openai/m, note: announced, rates: {input: 3 USD / 1M tokens, from: 2027-02-01}}
"""


def test_everything_that_a_file_may_say(tmp_path: Path) -> None:
    found = read(tmp_path, EVERYTHING)
    model, mine = found.prices.overrides
    assert (model.kind, model.model, model.contract, model.context_window, model.max_output_tokens) == (
        "openai", "m", True, 128_000, 16_384,
    )  # fmt: skip
    rows = {(row.meter, row.tier, row.min_input, bool(row.week), row.from_ms): row for row in model.rows}
    assert rows["input", "standard", 0, False, 0] == PriceRow(
        "", Meter.INPUT, 2_500_000, 1, source="contract:prices.yaml"
    )
    euro = rows["output", "standard", 0, False, 0]
    assert euro.terms is not None
    assert (euro.rate_pico, euro.per, euro.terms.currency, euro.terms.fx) == (8_680_000, 1, "EUR", "1.085")
    assert rows["output", "batch", 0, False, 0].rate_pico == 5_000_000
    assert rows["input", "standard", 200_000, False, 0].rate_pico == 5_000_000
    assert rows["input", "standard", 0, True, 0].week == ((7200, 10080),)
    assert rows["input", "standard", 0, False, 1_796_083_200_000].to_ms == 1_798_761_600_000
    assert rows["audio_seconds", "standard", 0, False, 0].terms.min_quantity == 10  # type: ignore[union-attr]
    assert {row.rate_pico for row in mine.rows} == {0}
    assert {row.meter for row in mine.rows} >= {"input", "output", "cache_write_1h", "images"}
    first, second = found.prices.agreements
    assert (first.kind, first.model, first.discount_pct, first.margin_pct) == ("openai", "*", "15", "0")
    assert "cache_read" in first.meters
    assert "web_search" not in first.meters
    assert second == Agreement("openai", "m", ("web_search",), "0", "5")
    (fallback,) = found.prices.fallbacks
    assert (fallback.kind, fallback.context_window, fallback.rows[0].source) == ("openai", 8000, "fallback:prices.yaml")
    (pending,) = found.pending
    assert (pending.model, pending.note, pending.line, pending.rows[0].rate_pico) == ("m", "announced", 21, 3_000_000)
    assert (found.lines["openai/m"], found.lines["agreements.0"], found.lines["fallback.openai"]) == (3, 16, 19)
    book = PriceBook(found.prices.overrides, agreements=found.prices.agreements, fallbacks=found.prices.fallbacks)
    assert book.sheet("openai", "m") is not None


def test_what_is_free_costs_nothing_not_even_a_request(tmp_path: Path) -> None:
    """Perplexity's sonar has a fee for each request, whatever its tokens cost."""
    assert any(row.meter == "request" for row in (PriceBook().sheet("perplexity", "sonar") or EMPTY).rows)
    written = read(tmp_path, "prices:\n  perplexity/sonar: {free: true}\n", ("perplexity",))
    sheet = PriceBook(written.prices.overrides).sheet("perplexity", "sonar")
    assert sheet is not None
    assert {row.rate_pico for row in sheet.rows} == {0}


def test_the_example_of_the_docs_is_valid(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "prices.md").read_text()
    (example,) = [part.partition("```")[0] for part in page.split("```yaml\n")[1:]]
    found = read(tmp_path, example)
    assert (len(found.prices.overrides), len(found.prices.agreements), len(found.pending)) == (3, 1, 1)


def test_rates_that_follow_one_another_are_the_rate_for_all_others(tmp_path: Path) -> None:
    blocks = "{input: 0, from: 2026-01-01, to: 2027-01-01}, {input: 0, from: 2027-01-01}"
    beside = "{input: 1 USD / 1k tokens, above: 9, from: 2026-06-01}"
    (model,) = read(tmp_path, f"{HEAD}    rates: [{beside}, {blocks}]\n").prices.overrides
    assert len(model.rows) == 3


def test_a_pending_price_is_no_price(tmp_path: Path) -> None:
    without = read(tmp_path, EVERYTHING.partition("pending:")[0])
    assert encode_written(read(tmp_path, EVERYTHING).prices) == encode_written(without.prices)
    assert all(row.rate_pico != 3_000_000 for one in without.prices.overrides for row in one.rows)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{HEAD}    rates: {{input: 2.50}}\n", "prices.yaml:3: price of openai/m: input: '2.50' is no price. Write"),
        (f"{HEAD}    rates: {{inptu: 0}}\n", "prices.yaml:3: price of openai/m: there is no meter 'inptu'. Did"),
        (f"{HEAD}    rates:\n      input: 0\n      tier: flx\n", "prices.yaml:5: price of openai/m: unknown tier"),
        (f"{HEAD}    rates: {{tier: batch}}\n", "price of openai/m has no rate. Add one like input: 2.50 USD"),
        (f"{HEAD}    rates: {{input: 2 CHF / 1M tokens}}\n", "is in CHF, whose rate of exchange is not here. Add it"),
        (f"{HEAD}    rates: {{input: 0, above: 5}}\n", "has a rate for some prompts or hours only. Add the rate"),
        (f"{HEAD}    rates: {{input: 0, hours: Mon 01:00-02:00}}\n", "for some prompts or hours only"),
        (f"{HEAD}    rates: [{{input: 0, to: 2027-01-01}}, {{input: 1 USD / 1k tokens, above: 9}}]\n", "for some"),
        (f"{HEAD}    rates: {{input: 0, hours: [Mon]}}\n", "'Mon' is no time of the week. Write it like Mon-Fri"),
        (f"{HEAD}    rates: [{{input: 0}}, {{input: 0}}]\n", "input at tier standard has two rates for the same calls"),
        (f"{HEAD}    rates: {{input: 0, from: soon}}\n", "from: 'soon' is no day. Write it like 2026-12-24"),
        (f"{HEAD}    rates: {{input: 0, from: 2026-12-02, to: 2026-12-01}}\n", "ends before it begins"),
        (f"{HEAD}    input: 0\n", "prices.yaml:3: price of openai/m has no member 'input'. Meters stand under rates:"),
        (f"{HEAD}    free: yes\n", "price of openai/m: free is neither true nor false"),
        (f"{HEAD}    free: true\n    rates: {{input: 0}}\n", "is free and has rates or a contract, too"),
        (f"{HEAD}    contract: true\n", "price of openai/m has no rates"),
        (f"{HEAD}    rates: {{input: [0]}}\n", "input must be one text"),
        (f"{HEAD}    rates: {{input: 0}}\n    context_window: big\n", "'big' is no whole number"),
        ("prices:\n  opnai/m: {free: true}\n", "prices.yaml:2: price of opnai/m: there is no kind of provider 'opnai'"),
        ("prices:\n  m: {free: true}\n", "'m' names no model. Write it like openai/gpt-4o"),
        ("prices:\n  openai/gpt*: {free: true}\n", "'openai/gpt*' is a pattern. Name the model"),
        ("prices:\n  openai/m: {free: true}\n  openai/m: {free: true}\n", "'openai/m' is there twice"),
        ("price: {}\n", "unknown section 'price'. Did you mean 'prices'?"),
        ("currencies: {EUR: one}\n", "currency EUR: 'one' is no rate of exchange"),
        ("currencies: {USD: 1}\n", "'USD' is no other currency"),
        ("agreements:\n  - {for: openai/*}\n", "prices.yaml:2: agreement 1 agrees nothing. Add discount: 15 %"),
        ("agreements:\n  - {discount: 15}\n", "agreement 1 does not say for what model it is"),
        ("agreements:\n  - {for: openai/*, discount: 150}\n", "'150' is no per cent from 0 to 100"),
        ("agreements:\n  - {for: openai/*, discount: 5, meters: [inpt]}\n", "there is no meter 'inpt'"),
        ("agreements:\n  - {for: openai/a*b, discount: 5}\n", "is a pattern. Write * once, at the end"),
        ("agreements: {}\n", "agreements must be a list"),
        ("fallback:\n  openai: {}\n", "fallback of openai has no rates"),
        ("fallback:\n  opnai: {rates: {input: 0}}\n", "there is no kind of provider 'opnai'. Did you mean 'openai'?"),
        ("pending:\n  - {for: openai/m}\n", "pending price of openai/m has no rates"),
        ("prices: [\n", "is not YAML"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_line_and_how_to_mend_it(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as found:
        read(tmp_path, text)
    assert said in found.value.message
    assert all(f"{tmp_path}/prices.yaml:" in line for line in found.value.message.split("\n"))


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as found:
        read(tmp_path, "prices:\n  openai/m: {rates: {input: x}}\n  opnai/m: {free: true}\nfallbck: {}\n")
    assert [line.split(":")[1] for line in found.value.message.split("\n")] == ["2", "3", "4"]


def test_no_file_and_an_empty_one_say_nothing(tmp_path: Path) -> None:
    nothing, text = load_written(tmp_path, KINDS)
    assert (nothing.prices.overrides, nothing.pending, text) == ((), (), "")
    for empty in ("", "prices:\nagreements:\n"):
        assert encode_written(read(tmp_path, empty).prices) == encode_written(nothing.prices)


def test_the_shipped_prices_file_and_its_schema_are_valid(tmp_path: Path) -> None:
    """`python -m gateway.pricing.schema > policies/prices.schema.json` writes the schema."""
    import jsonschema
    import yaml

    from gateway.pricing.schema import prices_schema, schema_text

    policies = Path(__file__).resolve().parents[2] / "policies"
    assert (policies / "prices.schema.json").read_text() == schema_text()
    text = (policies / "prices.yaml").read_text()
    assert read(tmp_path, text).prices.overrides == (), "everything in it is commented out"
    shown = "\n".join(line.replace("  # ", "  ", 1) if _is_yaml(line) else line for line in text.split("\n"))
    found = read(tmp_path, shown)
    assert [one.model for one in found.prices.overrides] == ["ft:gpt-4o-mini:acme::1234", "gpt-4o", "my-model"]
    assert (len(found.prices.agreements), len(found.prices.fallbacks), len(found.pending)) == (2, 1, 1)

    # Text as YAML's own reader takes it, dates and numbers included: what an editor checks.
    class Plain(yaml.SafeLoader):
        yaml_implicit_resolvers = {
            first: [one for one in found if not one[0].endswith(":timestamp")]
            for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    validator = jsonschema.Draft202012Validator(prices_schema())
    validator.validate(yaml.load(shown, Plain))
    validator.validate(yaml.load(EVERYTHING, Plain))
    for wrong in ("prices: {openai/m: {rates: {input: 2.5}}}", "prices: {m: {}}", "agreements: [{discount: 5}]"):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(yaml.load(wrong, Plain))


@pytest.mark.parametrize(
    "text",
    [
        "2_5 USD / 1M tokens",
        "1_000 USD / 1M tokens",
        "1_00_0 USD / 1M tokens",
        "_5 USD / 1M tokens",
        "5 USD / 1_0 tokens",
        "5 USD / 1_000 tokens",
        "5 USD / 1 M tokens",
        "$ 5 / tok",
        "0",
        "$0.00",
        "00 USD",
        "1234567890123 USD / 1M tokens",
        "5. USD / 1M tokens",
    ],
)
def test_an_editor_takes_the_amounts_that_the_file_takes(tmp_path: Path, text: str) -> None:
    """What the schema lets pass and the reader then refuses is a mistake that is told too late, and the other way
    round one that is none."""
    import jsonschema

    from gateway.pricing.schema import prices_schema

    rates = {"prices": {"openai/m": {"rates": {"input": text}}}}
    in_editor = jsonschema.Draft202012Validator(prices_schema()).is_valid(rates)
    problems = Problems("prices.yaml")
    read_prices(f"prices:\n  openai/m:\n    rates: {{input: '{text}'}}\n", KINDS, problems)
    assert in_editor == (not problems)


@pytest.mark.parametrize("text", ["2_5", "200_000", "1_0k", "_1", "1_", "200k"])
def test_an_editor_takes_the_sizes_that_the_file_takes(text: str) -> None:
    import jsonschema

    from gateway.pricing.schema import prices_schema

    sizes = {"prices": {"openai/m": {"context_window": text}}}
    in_editor = jsonschema.Draft202012Validator(prices_schema()).is_valid(sizes)
    problems = Problems("prices.yaml")
    read_prices(f"prices:\n  openai/m: {{context_window: '{text}'}}\n", KINDS, problems)
    assert in_editor == (not problems)


def _is_yaml(line: str) -> bool:
    """Whether a remark is an example: it begins like a member or an entry of a list."""
    content = line.strip().removeprefix("# ")
    return line.startswith("  # ") and (content.startswith("- ") or ":" in content) and not content[0].isupper()
