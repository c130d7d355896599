"""What the price book says of a model and of a call: which rows, from where, what was agreed, why there is no price."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from gateway.core.charge import Line as ChargeLine
from gateway.core.charge import PriceRow, PriceSheet
from gateway.core.config import Policy
from gateway.core.errors import NotFound
from gateway.core.money import PICO_PER_NANO
from gateway.core.price_admin import UnpricedEnds
from gateway.core.queries import AttemptRow, CallRow
from gateway.desk.moments import print_moment
from gateway.desk.prices.file import FALLBACK_SOURCE, Pending, Written
from gateway.desk.prices.shapes import (
    AgreementReply,
    ChargedAttempt,
    ChargedCall,
    ChargedLine,
    ExplainModelReply,
    OpinionReply,
    PendingReply,
    PriceState,
    RowReply,
    percent_words,
)
from gateway.desk.spend.shapes import CorrectionOfAttempt, Money, percent_of
from gateway.pricing.book import PriceBook
from gateway.pricing.moves import opinions_differ
from gateway.pricing.reported import gap_ppm, is_gap
from gateway.pricing.rows import NO_REGIONS, STANDARD_WORDS
from gateway.pricing.vendors import EVERY_MODEL
from gateway.pricing.written import print_amount
from gateway.routing.plan import sheet_key
from gateway.routing.problems import did_you_mean, show
from gateway.routing.resolve import find_route

_PLACES = 18
_PRICED_NOW = "it has a price now; `faregate prices rerate` gives calls from before it theirs"
_NO_ROW = "the tier, place or meter of the call had no row, or its usage was contradictory"


def key_of(policy: Policy | None, kinds: Iterable[str], name: str) -> str:
    """`kind/model` of what somebody calls a model: a name that routes know, or `kind/model` itself. Raises NotFound."""
    if policy is not None and (route := find_route(policy, name)) is not None and "*" not in name:
        deployment = route.deployments[0]
        return sheet_key(policy.providers[deployment.provider].kind, deployment)
    kind, slash, model = name.partition("/")
    if slash and model and kind in set(kinds):
        return name
    known = [] if policy is None else list(policy.models)
    raise NotFound(
        f"There is no model {show(name)}. Give the name of a route, or a kind of provider and a model like "
        f"openai/gpt-4o. {did_you_mean(name, known)}"
    )


def state_of(book: PriceBook, key: str, sheet: PriceSheet | None) -> tuple[PriceState, str]:
    """How a model is priced, and why it has no price of its own."""
    kind, _, model = key.partition("/")
    reason = book.why_unpriced(kind, model)
    if sheet is None:
        return "unpriced", reason or "its price waits to be published"
    if all(row.source == FALLBACK_SOURCE for row in sheet.rows):
        return "fallback", reason
    if all(not row.rate_pico for row in sheet.rows):
        return "zero", ""
    return "priced", ""


def why_of_calls(book: PriceBook, key: str, sheet: PriceSheet | None) -> str:
    """Why calls are unpriced, as far as sums tell: their model has no price, or had none, or a part of the call."""
    state, reason = state_of(book, key, sheet)
    return f"it has no price: {reason}" if state == "unpriced" else f"{_PRICED_NOW}; or {_NO_ROW}"


def why_of_ends(ends: UnpricedEnds, why: str) -> str:
    """Why attempts are unpriced, as the ledger has it. `why` is what is known of their model."""
    if ends.missing:
        return f"there was no rate for {', '.join(ends.missing)}"
    if ends.tier not in STANDARD_WORDS:
        return f"there was no row of the tier {ends.tier} that was served, or the model had none at all"
    if ends.region not in NO_REGIONS:
        return f"there was no factor for {ends.region}, where it was computed, or the model had no price at all"
    return why


def divergences(book: PriceBook, keys: Iterable[str], in_use: frozenset[str]) -> list[OpinionReply]:
    """The plain rates of which the two sources differ by more than 1 %."""
    found = []
    for key in keys:
        kind, _, model = key.partition("/")
        opinions = book.opinions(kind, model)
        for meter, percent in opinions_differ(opinions).items():
            first, second = [print_amount(rate.numerator, rate.denominator, meter) for rate in opinions[meter]]
            found.append(
                OpinionReply(
                    model=key,
                    in_use=key in in_use,
                    meter=meter,
                    first=first,
                    second=second,
                    percent=percent_words(percent) or "",
                )
            )
    return found


def pending_reply(one: Pending, now_ms: int) -> PendingReply:
    return PendingReply(
        model=f"{one.kind}/{one.model}",
        due=any(row.from_ms <= now_ms for row in one.rows),
        rows=[RowReply.of(row) for row in one.rows],
        note=one.note,
        line=one.line,
    )


def explain_model(
    key: str,
    sheet: PriceSheet | None,
    book: PriceBook,
    written: Written,
    version: int,
    in_use: frozenset[str],
    now_ms: int,
) -> ExplainModelReply:
    """`sheet` is what is in force, `book` the book that says why, `written` the file as it is now."""
    kind, _, model = key.partition("/")
    state, reason = state_of(book, key, sheet)
    rows = () if sheet is None else sheet.rows
    return ExplainModelReply(
        model=key,
        state=state,
        reason=reason,
        version=version,
        file_line=written.lines.get(key) or (written.lines.get(f"fallback.{kind}") if state == "fallback" else None),
        rows=[RowReply.of(row) for row in rows],
        uplifts=[_uplift(uplift.region, uplift.ppm, uplift.by_reply) for uplift in (sheet.uplifts if sheet else ())],
        context_window=0 if sheet is None else sheet.context_window,
        max_output_tokens=0 if sheet is None else sheet.max_output_tokens,
        unbounded="" if sheet is None else sheet.unbounded,
        agreements=[AgreementReply.of(one) for one in written.prices.agreements if one.is_for(kind, model)],
        pending=[pending_reply(one, now_ms) for one in written.pending if (one.kind, one.model) == (kind, model)],
        divergences=divergences(book, [key], in_use),
    )


def _uplift(region: str, ppm: int, by_reply: bool) -> str:
    factor = percent_words(Fraction(ppm, 10_000)) or ""
    return f"{region}: {factor} % of the rate{', where the reply says so' if by_reply else ''}"


def explain_call(
    call: CallRow, attempts: tuple[AttemptRow, ...], policies: Iterable[Policy | None], version: int
) -> ChargedCall:
    """Line by line, with the rows of the policies that may have them: the one that the call was made under (None: it is
    not there any more), and the present one for what was corrected since."""
    ids = {line.row_id for one in attempts for line in one.lines}
    rows: dict[str, PriceRow] = {}
    for policy in policies:
        if policy is not None and ids - rows.keys():
            rows = _rows(policy, ids) | rows
    charged = [_attempt(one, rows) for one in attempts]
    return ChargedCall(
        id=call.call_id,
        started_at=print_moment(call.started_ms),
        model_asked=call.model_asked,
        model_served=call.model_served,
        config_revision=call.config_revision,
        version=version,
        attempts=charged,
        total=Money.of(call.effective_nusd),
    )


def _rows(policy: Policy, ids: set[str]) -> dict[str, PriceRow]:
    return {row.id: row for sheet in policy.sheets.values() for row in sheet.rows if row.id in ids}


def _attempt(attempt: AttemptRow, rows: dict[str, PriceRow]) -> ChargedAttempt:
    return ChargedAttempt(
        id=attempt.attempt_id,
        number=attempt.number,
        deployment=attempt.deployment,
        outcome=attempt.outcome,
        state=attempt.state,
        reason=_why_attempt(attempt),
        source=attempt.source,
        raw_usage=attempt.raw_usage,
        lines=[_line(line, rows.get(line.row_id)) for line in attempt.lines],
        total=Money.of(attempt.effective_nusd),
        list=Money.of(attempt.list_nusd),
        billed=Money.of(attempt.billed_nusd),
        corrections=[CorrectionOfAttempt.of(one) for one in attempt.corrections],
        reported=Money.of(attempt.reported_nusd),
        reported_gap_percent=percent_of(gap_ppm(attempt.effective_nusd, attempt.reported_nusd)),
        reported_differs=is_gap(attempt.effective_nusd, attempt.reported_nusd),
    )


def _why_attempt(attempt: AttemptRow) -> str:
    if attempt.state != "unpriced":
        return ""
    missing = [line.meter for line in attempt.lines if line.effective_nusd is None]
    if missing and len(missing) < len(attempt.lines):
        return f"there was no rate for {', '.join(missing)}"
    return "the model, its tier or the place had no price, or the usage contradicts itself"


def _line(line: ChargeLine, row: PriceRow | None) -> ChargedLine:
    exact, rounded = None, False
    if line.rate_pico is not None:
        product = Fraction(line.quantity * line.rate_pico, line.per * PICO_PER_NANO)
        exact, rounded = _exact_usd(product), product.denominator != 1
    return ChargedLine(
        meter=line.meter,
        quantity=line.quantity,
        rate=None if line.rate_pico is None else print_amount(line.rate_pico, line.per, line.meter),
        exact_usd=exact,
        rounded=rounded,
        cost=Money.of(line.effective_nusd),
        list=Money.of(line.list_nusd),
        billed=Money.of(line.billed_nusd),
        part=line.part or None,
        price_row=line.row_id,
        source="" if row is None else row.source,
        tier="" if row is None else row.tier,
        above=0 if row is None else row.min_input,
        agreed="" if row is None else "; ".join(_agreed(line, row)),
    )


def _exact_usd(nusd: Fraction) -> str:
    """USD to 18 places, and `…` where there are more."""
    scaled = nusd * 10 ** (_PLACES - 9)
    whole, rest = divmod(scaled.numerator, scaled.denominator)
    text = f"{whole // 10**_PLACES}.{whole % 10**_PLACES:018d}".rstrip("0").rstrip(".")
    return text + ("…" if rest else "")


def _agreed(line: ChargeLine, row: PriceRow) -> Iterator[str]:
    terms = row.terms
    if terms is None:
        return
    if terms.list_pico is not None:
        yield f"list price {print_amount(terms.list_pico, row.per, row.meter)}"
    if terms.billed_pico is not None:
        yield f"charged inside at {print_amount(terms.billed_pico, row.per, row.meter)}"
    if terms.native_pico is not None:
        yield f"{print_amount(terms.native_pico, row.per, row.meter, terms.currency)} at {terms.fx} USD"
    if terms.min_quantity and line.quantity == terms.min_quantity:
        yield f"at least {terms.min_quantity} are billed"
    if line.uplift_ppm:
        yield f"times {percent_words(Fraction(line.uplift_ppm, 10_000))} % for where it was computed"


def sheet_in_force(policy: Policy | None, book: PriceBook | None, key: str) -> PriceSheet | None:
    """The prices in force: those of the workers' policy where it has the model, else the book's."""
    kind, _, model = key.partition("/")
    if policy is not None:
        found = policy.sheets.get(key) or policy.sheets.get(f"{kind}/{EVERY_MODEL}")
        if found is not None:
            return found
    return None if book is None else book.sheet(kind, model)
