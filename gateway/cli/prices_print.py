"""How prices are printed for people: tables that a finance person can check with a calculator."""

from __future__ import annotations

from typing import Any

from gateway.cli.client import Json
from gateway.cli.output import DASH, note, plain, print_facts, print_table

_NO_PRICE = "no price"


def print_book(reply: Json) -> None:
    present = reply["in_force"]
    if present is None:
        print(
            "There is no version yet: `faregate config reload` compiles the files, and a server does so at its start."
        )
    columns = {"VERSION": "r", "PUBLISHED": "l", "BY": "l", "SOURCES": "l", "SHA256": "l"}
    rows = [
        {
            "VERSION": version["number"],
            "PUBLISHED": version["published_at"],
            "BY": version["published_by"],
            "SOURCES": _sources(version),
            "SHA256": version["sha256"][:12],
        }
        for version in reply["versions"]
    ]
    if rows:
        print_table(columns, rows, "")
        note(f"Version {present['number']} is in force.")
    _print_written(reply)
    if reply["draft"] is not None:
        draft = reply["draft"]
        print(f"\nDraft of {draft['recorded_at']} by {plain(draft['recorded_by'])}: {_sources(draft)}")
        note("`faregate prices diff` shows what it changes.")
    if reply["waiting"] is not None:
        names = _names(reply["waiting"]["models"])
        print(f"\nA change of prices.yaml waits: {names} would move by more than 25 %, or be lost.")
        if not reply["problem"]:
            note("`faregate prices diff` shows it, `faregate prices publish --confirm` uses it.")
    if reply["problem"]:
        note("The policy files are not used, and nothing can be published before they are mended:")
        for line in reply["problem"].split("\n"):
            note(f"  {line}")


def _print_written(reply: Json) -> None:
    if reply["written"]:
        print(f"\nIn prices.yaml: {_names(reply['written'])}")
    for one in reply["agreements"]:
        parts = [f"{one['discount_percent']} % off"] if one["discount_percent"] != "0" else []
        parts += [f"{one['margin_percent']} % margin"] if one["margin_percent"] != "0" else []
        print(f"Agreed for {plain(one['model'])}: {', '.join(parts)}{_span(one)}")
    if reply["fallback"]:
        print(f"Fallback prices for models without one: {_names(reply['fallback'])}")
    if reply["pending"]:
        print("\nAnnounced, not in force (move them under prices: in prices.yaml once they are observed):")
        columns = {"MODEL": "l", "METER": "l", "AMOUNT": "l", "FROM": "l", "NOTE": "l", "LINE": "r"}
        rows = [
            {
                "MODEL": one["model"],
                "METER": row["meter"],
                "AMOUNT": row["amount"],
                "FROM": row["from_at"] or DASH,
                "NOTE": one["note"],
                "LINE": one["line"],
            }
            for one in reply["pending"]
            for row in one["rows"]
        ]
        print_table(columns, rows, "")
        _note_due(reply["pending"])


def print_diff(reply: Json) -> None:
    match reply["of"]:
        case "nothing":
            print(f"Nothing waits: the sources and prices.yaml say what is in force (version {reply['against']}).")
            _print_divergences(reply["divergences"])
            return
        case "draft":
            print(f"What the draft would change against version {reply['against']}:\n")
        case _:
            print(f"What prices.yaml would change against version {reply['against']}:\n")
    columns = {"MODEL": "l", "METER": "l", "TIER": "l", "OLD": "l", "NEW": "l", "%": "r", "FROM": "l", "IN USE": "l"}
    columns[""] = "l"
    rows = [
        {
            "MODEL": move["model"],
            "METER": move["meter"] + (f" above {move['above']:,}" if move["above"] else ""),
            "TIER": move["tier"] or DASH,
            "OLD": move["old"] or _NO_PRICE,
            "NEW": move["new"] or _NO_PRICE,
            "%": _signed(move["percent"]),
            "FROM": move["from_at"][:16].replace("T", " "),
            "IN USE": "yes" if move["in_use"] else "",
            "": ", ".join(_remarks(move)),
        }
        for move in reply["data"]
    ]
    print_table(columns, rows, "No rate of the routed kinds of providers changes.")
    if reply["truncated"]:
        note("More rates change; --limit shows more.")
    if reply["models_priced"] or reply["models_lost"]:
        gain, lose = _models(reply["models_priced"], "get"), _models(reply["models_lost"], "lose")
        print(f"\n{gain} a price, {lose} theirs.")
    _print_divergences(reply["divergences"])
    print(f"\nsha256 {reply['confirm']}")
    if reply["needs_confirmation"]:
        note("A rate of a model in use moves by more than 25 %, or is lost: `faregate prices publish --confirm`.")
    else:
        note("`faregate prices publish` puts it into force.")


def _remarks(move: Json) -> list[str]:
    return ["to confirm"] * move["confirm"] + ["charged inside"] * (move["charged"] == "billed")


def _print_divergences(found: list[Json]) -> None:
    if not found:
        return
    print("\nThe sources differ by more than 1 % for models in use (the first is believed):")
    columns = {"MODEL": "l", "METER": "l", "GENAI-PRICES": "l", "LITELLM MAP": "l", "%": "r"}
    rows = [
        {
            "MODEL": one["model"],
            "METER": one["meter"],
            "GENAI-PRICES": one["first"],
            "LITELLM MAP": one["second"],
            "%": _signed(one["percent"]),
        }
        for one in found
    ]
    print_table(columns, rows, "")


def print_model(reply: Json) -> None:
    print_facts(
        {
            "model": reply["model"],
            "state": reply["state"],
            "why": reply["reason"],
            "price version": reply["version"] or "",
            "in prices.yaml": f"line {reply['file_line']}" if reply["file_line"] else "",
            "context window": f"{reply['context_window']:,} tokens" if reply["context_window"] else "",
            "longest output": f"{reply['max_output_tokens']:,} tokens" if reply["max_output_tokens"] else "",
            "by place": "; ".join(reply["uplifts"]),
            "no bound because": reply["unbounded"],
        }
    )
    if reply["state"] == "zero":
        print(
            f"\nEvery meter costs nothing, says {', '.join(sorted({plain(row['source']) for row in reply['rows']}))}."
        )
    elif reply["rows"]:
        print()
        _print_rows(reply["rows"])
    for one in reply["agreements"]:
        print(f"Agreed: {one['discount_percent']} % off, {one['margin_percent']} % margin{_span(one)}")
    for one in reply["pending"]:
        for row in one["rows"]:
            print(f"Announced, not in force: {row['meter']} {row['amount']}{_span(row)} ({plain(one['note']) or DASH})")
    _note_due(reply["pending"])
    _print_divergences(reply["divergences"])


def _note_due(pending: list[Json]) -> None:
    due = sorted({one["model"] for one in pending if one["due"]})
    if due:
        note(f"The day has come of what was announced for {_names(due)}: see whether the price did.")


def _print_rows(found: list[Json]) -> None:
    columns = {"METER": "l", "TIER": "l", "AMOUNT": "l", "WHEN": "l", "SOURCE": "l", "ROW": "l"}
    rows = [
        {
            "METER": row["meter"] + (f" above {row['above']:,}" if row["above"] else ""),
            "TIER": row["tier"],
            "AMOUNT": row["amount"] + _beside(row),
            "WHEN": (_span(row).strip() or "always") + (f" {', '.join(row['hours'])} UTC" if row["hours"] else ""),
            "SOURCE": row["source"],
            "ROW": row["id"],
        }
        for row in found
    ]
    print_table(columns, rows, "")


def _beside(row: Json) -> str:
    parts = [
        f"list {row['list_amount']}" if row["list_amount"] else "",
        f"charged inside {row['billed_amount']}" if row["billed_amount"] else "",
        str(row["native_amount"] or ""),
        f"at least {row['least']}" if row["least"] else "",
    ]
    text = ", ".join(part for part in parts if part)
    return f" ({text})" if text else ""


def print_call(reply: Json) -> None:
    print_facts(
        {
            "call": reply["id"],
            "started": reply["started_at"],
            "model": f"{reply['model_asked']} (served: {reply['model_served'] or DASH})",
            "price version": reply["version"] or "from before there were versions",
            "configuration": f"revision {reply['config_revision']}",
        }
    )
    for attempt in reply["attempts"]:
        print(
            f"\nAttempt {attempt['number']} at {plain(attempt['deployment'])}: {attempt['outcome']}, {attempt['state']}"
        )
        if attempt["reason"]:
            print(f"  unpriced: {attempt['reason']}")
        if attempt["raw_usage"]:
            print(f"  usage as reported ({attempt['source']}): {plain(attempt['raw_usage'])}")
        _print_lines(attempt)
        _print_reported(attempt)
    print(f"\nTotal of the call: {_usd(reply['total'])}")
    note("Each line is quantity × rate, rounded half-even once to nine decimals of a USD; totals are sums of lines.")


def _print_lines(attempt: Json) -> None:
    columns = {"METER": "l", "QUANTITY": "r", "RATE": "l", "EXACTLY": ".", "USD": ".", "TIER": "l", "SOURCE": "l"}
    columns["ROW"] = "l"
    rows: list[dict[str, Any]] = [
        {
            "METER": line["meter"] + (f" of {line['part']}" if line["part"] else ""),
            "QUANTITY": f"{line['quantity']:,}",
            "RATE": (f"× {line['rate']}" if line["rate"] else _NO_PRICE)
            + (f" ({line['agreed']})" if line["agreed"] else ""),
            "EXACTLY": f"= {line['exact_usd']}" if line["exact_usd"] else DASH,
            "USD": ("≈ " if line["rounded"] else "") + (line["cost"]["usd"] or "unpriced"),
            "TIER": (line["tier"] or DASH) + (f", above {line['above']:,}" if line["above"] else ""),
            "SOURCE": line["source"] or DASH,
            "ROW": line["price_row"] or DASH,
        }
        for line in attempt["lines"]
    ]
    if rows:
        blank = dict.fromkeys(columns, "")
        rows.append({**blank, "METER": "total", "USD": _usd_text(attempt["total"])})
        if attempt["list"] != attempt["total"]:
            rows.append({**blank, "METER": "list price", "USD": _usd_text(attempt["list"])})
        if attempt["billed"] != attempt["total"]:
            rows.append({**blank, "METER": "charged inside", "USD": _usd_text(attempt["billed"])})
    print_table(columns, rows, "  No line: nothing was charged.")
    for one in attempt["corrections"]:
        late = ", counted then: its month was closed" if one["prior_period"] else ""
        print(f"Corrected {one['posted_at']} by {_usd(one['cost'])} ({plain(one['reason'])}){late}")


def _print_reported(attempt: Json) -> None:
    if attempt["reported"]["usd"] is None:
        return
    gap = attempt["reported_gap_percent"]
    said = "" if gap is None else f", {_signed(gap)} % of ours"
    flag = ": MORE THAN 1 % APART" if attempt["reported_differs"] else ""
    print(f"The provider itself says {attempt['reported']['usd']} USD{said}{flag}")


def print_coverage(reply: Json) -> None:
    columns = {"MODEL": "l", "DEPLOYMENT": "l", "STATE": "l", "CALLS": "r", "UNPRICED": "r", "SOURCE OR REASON": "l"}
    rows = [
        {
            "MODEL": row["model"],
            "DEPLOYMENT": row["deployment"] + ("" if row["routed"] else " (no route of its own)"),
            "STATE": row["state"],
            "CALLS": f"{row['calls']:,}",
            "UNPRICED": f"{row['unpriced_calls']:,}",
            "SOURCE OR REASON": row["reason"] or ", ".join(row["sources"]),
        }
        for row in reply["data"]
    ]
    print_table(columns, rows, "No model is routed, and none was called.")
    missing = sum(1 for row in reply["data"] if row["state"] == "unpriced")
    note(f"Calls since {reply['since_at']}. {missing} of {len(rows)} have no price.")


def print_unpriced(reply: Json) -> None:
    columns = {"MODEL": "l", "DEPLOYMENT": "l", "CALLS": "r", "FIRST": "l", "LAST": "l", "REASON": "l"}
    rows = [one for row in reply["data"] for one in _unpriced_rows(row)]
    print_table(columns, rows, f"Every call since {reply['since_at']} has a price.")
    if rows:
        note("Write a price in prices.yaml (or give the deployment priced_as), then `faregate prices rerate`.")


def _unpriced_rows(row: Json) -> list[Json]:
    """One of a model, and below it one of each reason where its attempts had several."""
    reasons: list[Json] = row["reasons"]
    whole = {
        "MODEL": row["model"],
        "DEPLOYMENT": row["deployment"] or DASH,
        "CALLS": f"{row['calls']:,}",
        "FIRST": row["first_at"],
        "LAST": row["last_at"],
        "REASON": reasons[0]["reason"] if len(reasons) == 1 else row["reason"],
    }
    if len(reasons) < 2:
        return [whole]
    blank = dict.fromkeys(whole, "")
    several = [
        {**blank, "MODEL": "  of these", "CALLS": f"{one['attempts']:,}", "REASON": one["reason"]} for one in reasons
    ]
    return [{**whole, "REASON": f"{len(reasons)} reasons"}, *several]


# ---------------------------------------------------------------- words


def _sources(reply: Json) -> str:
    return ", ".join(plain(source["name"]) for source in reply["sources"])


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(plain(name) for name in names[:10]) + more


def _models(count: int, verb: str) -> str:
    return f"1 model {verb}s" if count == 1 else f"{count:,} models {verb}"


def _span(one: Json) -> str:
    start, end = [str(one[name] or "").removesuffix("T00:00:00Z") for name in ("from_at", "to_at")]
    return (f" from {start}" if start else "") + (f" to {end}" if end else "")


def _signed(percent: str | None) -> str:
    if percent is None:
        return DASH
    return percent if percent.startswith("-") else f"+{percent}"


def _usd_text(amount: Json) -> str:
    return str(amount["usd"] or "unpriced")


def _usd(amount: Json) -> str:
    return "unpriced" if amount["usd"] is None else f"{amount['usd']} USD"
