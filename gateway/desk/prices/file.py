"""`prices.yaml` into prices: its nodes are read here, with their lines; what texts mean `pricing.written` says."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple, TypeVar

import msgspec
import yaml

from gateway.core.charge import PriceRow, Terms
from gateway.core.usage import TOKEN_METERS, Meter
from gateway.pricing.agreements import Agreement, in_currency
from gateway.pricing.book import Fallback, Override
from gateway.pricing.rows import STANDARD
from gateway.pricing.vendors import FREE
from gateway.pricing.versions import PriceFile
from gateway.pricing.week import Spans
from gateway.pricing.written import (
    ALL_TOKENS,
    LATEST_DAY_MS,
    MOST_TOKENS,
    OF_AGREEMENT,
    OF_FALLBACK,
    OF_MODEL,
    OF_PENDING,
    OF_RATES,
    SECTIONS,
    TIERS,
    USD,
    Mistake,
    read_amount,
    read_count,
    read_day,
    read_hours,
    read_percent,
    read_rate_of_exchange,
)
from gateway.routing.problems import Problems, did_you_mean, show
from gateway.routing.yaml_nodes import Member, compose, is_null, items, line_of, members
from gateway.vault.policy_files import PRICES_FILE

MOST_ENTRIES = 10_000
MOST_ROWS = 200
FILE_SOURCE, CONTRACT_SOURCE = f"file:{PRICES_FILE}", f"contract:{PRICES_FILE}"
FALLBACK_SOURCE, PENDING_SOURCE = f"fallback:{PRICES_FILE}", f"pending:{PRICES_FILE}"
_METERS = tuple(meter.value for meter in Meter)
_NO_DISCOUNT = "0"
T = TypeVar("T")
A = TypeVar("A")


class Pending(NamedTuple):
    """An announced price: shown, and in force only once somebody has moved it under `prices`."""

    kind: str
    model: str
    rows: tuple[PriceRow, ...]
    note: str
    line: int


class Written(NamedTuple):
    """What a file says. `lines` tell where: of `kind/model` its entry, of `agreements.N`, `fallback.KIND` theirs."""

    prices: PriceFile
    pending: tuple[Pending, ...]
    lines: dict[str, int]


NOTHING = Written(PriceFile(), (), {})


def read_prices(text: str, kinds: Collection[str], problems: Problems) -> Written:
    """The prices of a file's text. `kinds`: the kinds of providers there are. Every mistake is added to `problems`,
    and then what is returned is not to be used."""
    return _Reader(kinds, problems).file(text)


class _Reader:
    def __init__(self, kinds: Collection[str], problems: Problems) -> None:
        self._kinds = sorted(kinds)
        self._problems = problems
        self._currencies: dict[str, str] = {}
        self._lines: dict[str, int] = {}

    def file(self, text: str) -> Written:
        root = compose(text, self._problems)
        if root is None:
            return NOTHING
        sections = {section.name: section for section in members(root, "the file", self._problems)}
        for section in sections.values():
            if section.name not in SECTIONS:
                hint = did_you_mean(section.name, SECTIONS)
                self._problems.add(section.line, f"unknown section {show(section.name)}", hint)
        for entry in self._members(sections, "currencies"):
            rate = self._text(entry.value, f"currency {entry.name}", read_rate_of_exchange)
            if rate is not None and self._is_currency(entry):
                self._currencies[entry.name] = rate
        overrides = [self._override(entry) for entry in self._members(sections, "prices")]
        agreements = [self._agreement(node, at) for at, node in enumerate(self._items(sections, "agreements"))]
        fallbacks = [self._fallback(entry) for entry in self._members(sections, "fallback")]
        pending = [self._pending(node) for node in self._items(sections, "pending")]
        return Written(
            PriceFile(
                tuple(sorted((one for one in overrides if one), key=lambda one: (one.kind, one.model))),
                tuple(one for one in agreements if one),
                tuple(sorted((one for one in fallbacks if one), key=lambda one: one.kind)),
            ),
            tuple(one for one in pending if one),
            self._lines,
        )

    # ------------------------------------------------------------ sections

    def _override(self, entry: Member) -> Override | None:
        what = f"price of {entry.name}"
        target = self._target(entry.name, entry.line, what)
        given = self._given(entry.value, OF_MODEL, what)
        if target is None or given is None:
            return None
        contract, free = [self._flag(given.get(name), f"{what}: {name}") for name in ("contract", "free")]
        source = CONTRACT_SOURCE if contract else FILE_SOURCE
        if free and ("rates" in given or contract):
            self._problems.add(entry.line, f"{what} is free and has rates or a contract, too", "Leave one of them")
            return None
        rows: tuple[PriceRow, ...] = ()
        if free:
            rows = tuple(msgspec.structs.replace(row, source=source) for row in FREE.rows)
        elif "rates" in given:
            rows = self._rates(given["rates"].value, what, source)
        elif not given.keys() & {"context_window", "max_output_tokens"}:
            self._problems.add(entry.line, f"{what} has no rates", "Add rates:, or free: true")
        self._lines[f"{target[0]}/{target[1]}"] = entry.line
        window, longest = self._sizes(given, what)
        return Override(*target, rows, window, longest, bool(contract), alone=bool(free))

    def _fallback(self, entry: Member) -> Fallback | None:
        what = f"fallback of {entry.name}"
        given = self._given(entry.value, OF_FALLBACK, what)
        if given is None or not self._is_kind(entry.name, entry.line, what):
            return None
        if "rates" not in given:
            self._problems.add(entry.line, f"{what} has no rates", "Add rates:")
            return None
        self._lines[f"fallback.{entry.name}"] = entry.line
        rows = self._rates(given["rates"].value, what, FALLBACK_SOURCE)
        return Fallback(entry.name, rows, *self._sizes(given, what))

    def _agreement(self, node: yaml.Node, at: int) -> Agreement | None:
        what = f"agreement {at + 1}"
        line = line_of(node)
        given = self._given(node, OF_AGREEMENT, what)
        target = None if given is None else self._for(given, line, what, pattern=True)
        if given is None or target is None:
            return None
        if not given.keys() & {"discount", "margin"}:
            self._problems.add(line, f"{what} agrees nothing", "Add discount: 15 % or margin: 5 %")
        meters: list[str] = []
        for name, where in self._texts(given.get("meters"), f"{what}: meters"):
            if name == ALL_TOKENS:
                meters += sorted(TOKEN_METERS)
            elif name in _METERS:
                meters.append(name)
            else:
                self._problems.add(where, f"{what}: there is no meter {show(name)}", did_you_mean(name, _METERS))
        discount = self._maybe(given, "discount", what, lambda text: read_percent(text, 0, 100), _NO_DISCOUNT)
        margin = self._maybe(given, "margin", what, lambda text: read_percent(text, -100, 10_000), _NO_DISCOUNT)
        self._lines[f"agreements.{at}"] = line
        from_ms, to_ms = self._span(given, what)
        return Agreement(*target, tuple(meters), discount, margin, from_ms, to_ms)

    def _pending(self, node: yaml.Node) -> Pending | None:
        what, line = "pending price", line_of(node)
        given = self._given(node, OF_PENDING, what)
        target = None if given is None else self._for(given, line, what, pattern=False)
        if given is None or target is None:
            return None
        what = f"pending price of {target[0]}/{target[1]}"
        if "rates" not in given:
            self._problems.add(line, f"{what} has no rates", "Add rates:")
            return None
        note = self._maybe(given, "note", what, str, "")
        return Pending(*target, self._rates(given["rates"].value, what, PENDING_SOURCE, alone=False), note, line)

    # ------------------------------------------------------------ rates

    def _rates(self, node: yaml.Node, what: str, source: str, alone: bool = True) -> tuple[PriceRow, ...]:
        """`rates:` is one mapping of meters to amounts, or a list of them with conditions. `alone`: they must stand by
        themselves, without those of a source."""
        blocks = items(node, what, MOST_ROWS, "", self._problems) if isinstance(node, yaml.SequenceNode) else [node]
        rows: list[PriceRow] = []
        lines: list[int] = []
        for block in blocks:
            for row, line in self._block(block, what, source):
                rows.append(row)
                lines.append(line)
        if not rows and not self._problems:
            self._problems.add(line_of(node), f"{what} has no rate", "Add one like input: 2.50 USD / 1M tokens")
        for at, row in enumerate(rows):
            self._check_alone(rows, at, lines[at], what)
            if alone and (row.min_input or row.week) and not _has_base(row, rows):
                self._problems.add(
                    lines[at],
                    f"{what}: {row.meter} at tier {row.tier} has a rate for some prompts or hours only",
                    "Add the rate for all others, without above and hours, for all of its time",
                )
        return tuple(rows)

    def _check_alone(self, rows: list[PriceRow], at: int, line: int, what: str) -> None:
        row = rows[at]
        for other in rows[:at]:
            same = (other.tier, other.meter, other.min_input) == (row.tier, row.meter, row.min_input)
            if same and other.from_ms == row.from_ms and _overlap(other.week, row.week):
                message = f"{what}: {row.meter} at tier {row.tier} has two rates for the same calls"
                self._problems.add(line, message, "Give one of them another tier, above, from or hours")
                return

    def _block(self, node: yaml.Node, what: str, source: str) -> list[tuple[PriceRow, int]]:
        found = members(node, f"{what}: rates", self._problems)
        given = {member.name: member for member in found}
        tier = self._maybe(given, "tier", what, str, STANDARD)
        if tier not in TIERS:
            self._problems.add(given["tier"].line, f"{what}: unknown tier {show(tier)}", did_you_mean(tier, TIERS))
        above = self._maybe(given, "above", what, lambda text: read_count(text, 1, MOST_TOKENS), 0)
        least = self._maybe(given, "least", what, lambda text: read_count(text, 1, MOST_TOKENS), 0)
        texts = self._texts(given.get("hours"), f"{what}: hours")
        week: Spans = ()
        if texts:
            week = self._read(given["hours"].line, f"{what}: hours", read_hours, [text for text, _ in texts]) or ()
        from_ms, to_ms = self._span(given, what)
        rows = []
        for member in found:
            if member.name in OF_RATES:
                continue
            row = self._row(member, what)
            if row is not None:
                terms = msgspec.structs.replace(row.terms or Terms(), min_quantity=least) if least else row.terms
                row = msgspec.structs.replace(
                    row, tier=tier, min_input=above, from_ms=from_ms, to_ms=to_ms, source=source, week=week, terms=terms
                )
                rows.append((row, member.line))
        return rows

    def _row(self, member: Member, what: str) -> PriceRow | None:
        if member.name not in _METERS:
            message = f"{what}: there is no meter {show(member.name)}"
            self._problems.add(member.line, message, did_you_mean(member.name, [*_METERS, *OF_RATES]))
            return None
        meter = Meter(member.name)
        amount = self._text(member.value, f"{what}: {meter}", lambda text: read_amount(text, meter))
        if amount is None:
            return None
        row = PriceRow("", meter, amount.rate_pico, amount.per)
        if amount.currency == USD:
            return row
        fx = self._currencies.get(amount.currency)
        if fx is None:
            message = f"{what}: {meter} is in {amount.currency}, whose rate of exchange is not here"
            self._problems.add(member.line, message, f"Add it: currencies: {{{amount.currency}: 1.085}}")
            return None
        return in_currency(row, amount.currency, fx)

    # ------------------------------------------------------------ members

    def _target(self, name: str, line: int, what: str, pattern: bool = False) -> tuple[str, str] | None:
        kind, slash, model = name.partition("/")
        if not slash or not model or not name.isprintable() or len(name) > 320:
            self._problems.add(line, f"{what}: {show(name)} names no model", "Write it like openai/gpt-4o")
            return None
        if "*" in model and not (pattern and model.index("*") == len(model) - 1):
            hint = "Write * once, at the end" if pattern else "Name the model, or give its deployments priced_as"
            self._problems.add(line, f"{what}: {show(name)} is a pattern", hint)
            return None
        return (kind, model) if self._is_kind(kind, line, what) else None

    def _is_kind(self, kind: str, line: int, what: str) -> bool:
        if kind in self._kinds:
            return True
        self._problems.add(line, f"{what}: there is no kind of provider {show(kind)}", did_you_mean(kind, self._kinds))
        return False

    def _is_currency(self, entry: Member) -> bool:
        name = entry.name
        if len(name) == 3 and name.isascii() and name.isupper() and name != USD:
            return True
        hint = "Write three capital letters like EUR; USD is what everything is counted in"
        self._problems.add(entry.line, f"{show(name)} is no other currency", hint)
        return False

    def _for(self, given: dict[str, Member], line: int, what: str, *, pattern: bool) -> tuple[str, str] | None:
        if "for" not in given:
            self._problems.add(line, f"{what} does not say for what model it is", "Add for: openai/gpt-4o")
            return None
        name = self._text(given["for"].value, f"{what}: for", str)
        return None if name is None else self._target(name, given["for"].line, what, pattern)

    def _sizes(self, given: dict[str, Member], what: str) -> tuple[int, int]:
        window, longest = [
            self._maybe(given, name, what, lambda text: read_count(text, 1, MOST_TOKENS), 0)
            for name in ("context_window", "max_output_tokens")
        ]
        return window, longest

    def _span(self, given: dict[str, Member], what: str) -> tuple[int, int]:
        from_ms, to_ms = [self._maybe(given, name, what, read_day, 0) for name in ("from", "to")]
        if to_ms and to_ms <= from_ms:
            self._problems.add(given["to"].line, f"{what} ends before it begins", "to is the first day without it")
        return from_ms, to_ms

    def _given(self, node: yaml.Node, known: Collection[str], what: str) -> dict[str, Member] | None:
        found = {member.name: member for member in members(node, what, self._problems)}
        wrong = [member for member in found.values() if member.name not in known]
        for member in wrong:
            hint = did_you_mean(member.name, known)
            if member.name in _METERS:
                hint = "Meters stand under rates:"
            self._problems.add(member.line, f"{what} has no member {show(member.name)}", hint)
        return None if wrong else found

    def _members(self, sections: dict[str, Member], name: str) -> list[Member]:
        section = sections.get(name)
        if section is None:
            return []
        found = members(section.value, name, self._problems)
        if len(found) <= MOST_ENTRIES:
            return found
        self._problems.add(section.line, f"{name} has over {MOST_ENTRIES} entries", "Remove some")
        return []

    def _items(self, sections: dict[str, Member], name: str) -> list[yaml.Node]:
        section = sections.get(name)
        if section is None or is_null(section.value):
            return []
        return items(section.value, name, MOST_ENTRIES, "Begin each entry with a dash", self._problems)

    def _texts(self, member: Member | None, what: str) -> list[tuple[str, int]]:
        """A text, or a list of texts, each with its line."""
        if member is None:
            return []
        node = member.value
        nodes = items(node, what, MOST_ROWS, "", self._problems) if isinstance(node, yaml.SequenceNode) else [node]
        texts = [(self._text(one, what, str), line_of(one)) for one in nodes]
        return [(text, line) for text, line in texts if text is not None]

    def _flag(self, member: Member | None, what: str) -> bool | None:
        if member is None:
            return False
        node = member.value
        if isinstance(node, yaml.ScalarNode) and node.value in ("true", "false"):
            return bool(node.value == "true")
        self._problems.add(member.line, f"{what} is neither true nor false", "Write true, or leave it out")
        return None

    def _maybe(self, given: dict[str, Member], name: str, what: str, read: Callable[[str], T], otherwise: T) -> T:
        member = given.get(name)
        found = None if member is None else self._text(member.value, f"{what}: {name}", read)
        return otherwise if found is None else found

    def _text(self, node: yaml.Node, what: str, read: Callable[[str], T]) -> T | None:
        """What a scalar's text means, whatever YAML takes it for: 15, 2.50 and 2026-12-24 need no quotes."""
        if not isinstance(node, yaml.ScalarNode) or is_null(node) or not str(node.value).strip():
            self._problems.add(line_of(node), f"{what} must be one text", "Give it a value, or remove the line")
            return None
        return self._read(line_of(node), what, read, str(node.value))

    def _read(self, line: int, what: str, read: Callable[[A], T], given: A) -> T | None:
        try:
            return read(given)
        except Mistake as mistake:
            self._problems.add(line, f"{what}: {mistake.message}", mistake.suggestion)
            return None


def _has_base(row: PriceRow, rows: list[PriceRow]) -> bool:
    """Whether rates for all prompts and hours stand beside a row for as long as it is in effect: while it is, those of
    the sources count no more, and other calls would have no price."""
    bases = [one for one in rows if (one.tier, one.meter, one.min_input, one.week) == (row.tier, row.meter, 0, ())]
    covered_ms = row.from_ms
    for one in sorted(bases, key=lambda base: base.from_ms):
        if one.from_ms <= covered_ms and (not one.to_ms or one.to_ms > covered_ms):
            covered_ms = one.to_ms or LATEST_DAY_MS
    return covered_ms >= (row.to_ms or LATEST_DAY_MS)


def _overlap(one: tuple[tuple[int, int], ...], other: tuple[tuple[int, int], ...]) -> bool:
    """Whether two times of the week meet. One that is always gives way to one that is not."""
    if not one or not other:
        return one == other
    return any(start < stop and begin < end for start, end in one for begin, stop in other)
