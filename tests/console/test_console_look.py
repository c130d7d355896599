"""Rules of the look that can be computed: contrast, no inline code, nothing from elsewhere, no dead link."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from desk.asking import Asking
from desk.world import World
from fastapi import FastAPI

from gateway.settings import bundled

CSS = (bundled("dashboards/console") / "static" / "console.css").read_text()
TOKENS = dict(re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), #[0-9a-f]{6}\)", CSS))
DARK = dict(re.findall(r"--([\w-]+): light-dark\(#[0-9a-f]{6}, (#[0-9a-f]{6})\)", CSS))
TEXT = [
    *((ink, ground) for ink in ("ink", "ink-2", "ink-3", "brand-ink") for ground in ("bg", "panel", "line-2")),
    *((tone, ground) for tone in ("good", "warn", "bad") for ground in ("panel", f"{tone}-soft")),
    ("brand-ink", "brand-soft"), ("ink", "warn-soft"), ("ink", "bad-soft"), ("on-brand", "brand"),
]  # fmt: skip
SHAPES = [*((f"c{number}", "panel") for number in range(1, 7)), ("brand", "panel"), ("brand", "bg"), ("edge", "bg")]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [TOKENS, DARK], ids=["light", "dark"])
def test_text_and_shapes_have_the_contrast_of_wcag_aa(theme: dict[str, str]) -> None:
    for ink, ground in TEXT:
        assert contrast(theme[ink], theme[ground]) >= 4.5, f"{ink} on {ground}"
    for shape, ground in SHAPES:
        assert contrast(theme[shape], theme[ground]) >= 3, f"{shape} on {ground}"


def test_colours_are_tokens() -> None:
    rules = CSS[CSS.index("[data-theme=light]") :]
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsl", rules)
    assert "url(" not in CSS
    assert "@import" not in CSS


class Page(HTMLParser):
    """What a browser would load, follow or run of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.faults: list[str] = []
        self.classes: set[str] = set()
        self.ids: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.classes.update((given.get("class") or "").split())
        if given.get("id"):
            self.ids.append(given["id"] or "")
        if tag in ("script", "style", "iframe", "object", "base"):
            self.faults.append(tag)
        self.faults += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        if tag in ("a", "form"):
            self.links.add(given.get("href") or given.get("action") or "")
        if tag in ("link", "img"):
            self.loads.add(given.get("href") or given.get("src") or "")
        if tag == "input" and given.get("type") != "hidden" and not given.get("id"):
            self.faults.append("an input without a label")


async def every_page(month: World, app: FastAPI, person: Asking) -> list[Page]:
    call = month.ledger.found[0][0].call_id
    paths = ["/ui", "/ui/requests", f"/ui/requests/{call}", "/ui/requests/x", "/docs"]
    pages = [Page((await person.get(path)).text) for path in paths]
    october = await person.get("/ui", month="2026-10")
    pages.append(Page(october.text))
    return [*pages, Page((await Asking(app).get("/ui/sign-in")).text)]


async def test_pages_run_no_code_and_load_nothing_from_elsewhere(month: World, app: FastAPI, person: Asking) -> None:
    for page in await every_page(month, app, person):
        assert page.faults == []
        assert len(page.ids) == len(set(page.ids))
        for address in page.loads | page.links:
            assert address.startswith(("/", "#")), address
            assert not address.startswith("//"), address


async def test_no_link_is_dead(month: World, app: FastAPI, person: Asking) -> None:
    links = set().union(*(page.links | page.loads for page in await every_page(month, app, person)))
    assert len(links) > 30
    for link in sorted(links - {"#main"}):
        path, _, query = link.partition("?")
        answer = await person.send("GET", path, query=query)
        posted = path in ("/ui/sign-out", "/ui/theme")
        assert answer.status == 405 if posted else answer.status in (200, 303), link


async def test_every_class_a_page_uses_has_a_rule(month: World, app: FastAPI, person: Asking) -> None:
    known = set(re.findall(r"\.([a-zA-Z][\w-]*)", CSS))
    for page in await every_page(month, app, person):
        assert page.classes - known <= {"routes", "m"}, page.classes - known


async def test_assets_are_named_by_their_content_and_kept(app: FastAPI, person: Asking) -> None:
    (sheet,) = [path for path in Page((await person.get("/ui")).text).loads if path.endswith(".css")]
    answer = await person.get(sheet)
    assert answer.header("content-type") == "text/css; charset=utf-8"
    assert "immutable" in answer.header("cache-control")
    assert (await person.get("/ui/static/console.css")).status == 404
    for name in ("..%2f..%2fpyproject.toml", "..", ".", "console.000000000000.css"):
        assert (await person.get(f"/ui/static/{name}")).status == 404


async def test_an_answer_sets_at_most_one_cookie(month: World, app: FastAPI, person: Asking) -> None:
    """The worker's relay keeps one header of a name."""
    fresh = Asking(app)
    for answer in (await fresh.get("/ui/sign-in"), await fresh.get("/ui"), await person.get("/ui")):
        assert sum(name == "set-cookie" for name, _ in answer.headers) <= 1
