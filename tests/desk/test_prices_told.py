"""What the desk says of a model and of a call: rows, where they are from, line by line, why there is no price."""

from __future__ import annotations

from store.stores import postgres_database, postgres_server, store

from desk.prices_world import OWN, PRICES, TOKENS, Desk, desk, small_desk
from gateway.core.charge import Line

__all__ = ["desk", "postgres_database", "postgres_server", "small_desk", "store"]

FILE = """\
prices:
  openai/gpt-4o-mini:
    contract: true
    rates: {input: 0.12 USD / 1M tokens}
agreements:
  - {for: openai/gpt-4o, discount: 10 %, margin: 5 %, from: 2026-01-01}
fallback:
  openai: {rates: {input: 30 USD / 1M tokens, output: 60 USD / 1M tokens}}
pending:
  - {for: openai/gpt-4o-mini, note: announced, rates: {input: 0.2 USD / 1M tokens, from: 2027-02-01}}
"""


async def test_a_model_is_explained_down_to_the_line_of_the_file(small_desk: Desk) -> None:
    desk = small_desk
    desk.write(FILE)
    await desk.reload()
    for name in ("mini", "openai/gpt-4o-mini"):
        found = await desk.get("/explain", model=name)
        assert (found["model"], found["state"], found["version"], found["file_line"]) == (
            "openai/gpt-4o-mini", "priced", 2, 2,
        )  # fmt: skip
        own = next(row for row in found["rows"] if (row["meter"], row["tier"]) == ("input", "standard"))
        assert (own["amount"], own["list_amount"], own["source"]) == (
            "0.12 USD / 1M tokens", "0.15 USD / 1M tokens", "contract:prices.yaml",
        )  # fmt: skip
        assert found["pending"][0]["rows"][0]["amount"] == "0.2 USD / 1M tokens"
    big = await desk.get("/explain", model="big")
    assert [(one["discount_percent"], one["margin_percent"]) for one in big["agreements"]] == [("10", "5")]
    row = next(one for one in big["rows"] if one["meter"] == "input" and one["from_at"] and one["tier"] == "standard")
    assert (row["amount"], row["list_amount"], row["billed_amount"]) == (
        "2.25 USD / 1M tokens", "2.5 USD / 1M tokens", "2.3625 USD / 1M tokens",
    )  # fmt: skip
    odd = await desk.get("/explain", model="odd")
    assert (odd["state"], odd["reason"], odd["file_line"]) == ("fallback", "no price source knows it", 8)
    missing = await desk.operator.get(f"{PRICES}/explain", model="mnii")
    assert (missing.status, "Did you mean 'mini'?" in missing.text) == (404, True)


async def test_a_call_is_explained_so_that_a_calculator_agrees(desk: Desk) -> None:
    desk.write(OWN.format("0.1234567"))
    revision = (await desk.reload())["revision"]
    row = next(
        row
        for row in (await desk.sheets())["openai/gpt-4o-mini"].rows
        if (row.meter, row.tier) == ("input", "standard")
    )
    lines = (
        Line("input", 7, row.rate_pico, row.per, 864, 864, row.id),
        Line("output", 3, 600_000, 1, 1800, 1800, "gone"),
    )
    call = await desk.called("openai/gpt-4o-mini", "mini", lines, revision, reported_nusd=2700)
    found = await desk.get(f"/calls/{call}")
    assert (found["version"], found["total"]["nano_usd"]) == (2, 2664)
    (attempt,) = found["attempts"]
    first, second = attempt["lines"]
    assert (first["quantity"], first["rate"], first["exact_usd"], first["cost"]["usd"], first["rounded"]) == (
        7, "0.1234567 USD / 1M tokens", "0.0000008641969", "0.000000864", True,
    )  # fmt: skip
    assert (first["source"], first["price_row"]) == ("file:prices.yaml", row.id)
    assert (second["source"], second["rounded"]) == ("", False), "a row that no configuration has is not made up"
    assert attempt["total"]["nano_usd"] == sum(line["cost"]["nano_usd"] for line in attempt["lines"])
    assert (attempt["reported"]["nano_usd"], attempt["reported_gap_percent"], attempt["reported_differs"]) == (
        2700, "1.35", True,
    )  # fmt: skip
    told = (await desk.operator.get(f"/v1/requests/{call}")).json()["attempts"][0]
    assert (told["reported"]["nano_usd"], told["reported_gap_percent"], told["reported_differs"]) == (
        2700,
        "1.35",
        True,
    )
    assert (await desk.operator.get(f"{PRICES}/calls/req_nothing")).status == 404


async def test_coverage_and_the_queue_of_unpriced_calls(desk: Desk) -> None:
    unpriced = (Line("input", 10, None, 1, None, None, ""),)
    for _ in range(3):
        await desk.called("openai/gpt-99", "odd", unpriced)
    await desk.called("openai/gpt-4o-mini", "mini", TOKENS)
    (queued,) = (await desk.get("/unpriced"))["data"]
    assert (queued["model"], queued["deployment"], queued["calls"], queued["reason"]) == (
        "odd", "openai/gpt-99", 3, "it has no price: no price source knows it",
    )  # fmt: skip
    assert queued["first_at"] == queued["last_at"]
    states = {row["model"]: (row["state"], row["calls"]) for row in (await desk.get("/coverage"))["data"]}
    assert states == {"odd": ("unpriced", 3), "mini": ("priced", 1), "big": ("priced", 0)}
    desk.write("prices:\n  openai/gpt-99: {free: true}\n")
    await desk.reload()
    states = {row["model"]: (row["state"], row["sources"]) for row in (await desk.get("/coverage"))["data"]}
    assert states["odd"] == ("zero", ["file:prices.yaml"])
    (queued,) = (await desk.get("/unpriced"))["data"]
    assert queued["reason"].startswith("it has a price now"), "the calls are still without one"
    assert (await desk.operator.get(f"{PRICES}/unpriced", since="soon")).status == 400
    desk.operator.headers["x-faregate-org"] = "elsewhere"
    assert (await desk.get("/unpriced"))["data"] == []


async def test_who_may_look_and_who_may_publish(small_desk: Desk) -> None:
    """409: there is nothing to publish; whoever gets that far may."""
    desk = small_desk
    roles = {"finance": 409, "admin": 409, "auditor": 403, "prompt_engineer": 403}
    for role, publishes in roles.items():
        asking = await desk.key(role)
        for path in ("", "/diff", "/coverage", "/unpriced"):
            assert (await asking.get(f"{PRICES}{path}")).status == 200, (role, path)
        assert (await asking.post(f"{PRICES}/publish", {})).status == publishes, role
        assert (await asking.send("DELETE", f"{PRICES}/draft")).status == (200 if publishes == 409 else 403)
    caller = await desk.key("data")
    assert [(await caller.get(f"{PRICES}{path}")).status for path in ("", "/diff", "/unpriced")] == [403] * 3
