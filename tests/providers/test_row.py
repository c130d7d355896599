"""What is done with a row: URLs, what it does not serve, what its headers report; and the page made of all rows."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.core.config import ProviderSettings
from gateway.dialects.discover import discover as discover_surfaces
from gateway.providers.page import providers_page
from gateway.providers.row import ProviderRow
from providers.golden import ROWS

SURFACES = discover_surfaces()
DOCS = Path(__file__).resolve().parents[2] / "docs"
HERE = ProviderSettings("here", "k", "openai_chat", "https://a.example/v1")
AZURE = ROWS["azure_openai"]


def url(kind: str, surface: str, base_url: str, model: str = "m", api_version: str = "") -> str:
    settings = msgspec.structs.replace(HERE, kind=kind, base_url=base_url, api_version=api_version)
    return ROWS[kind].url(settings, surface, SURFACES[surface].upstream_path, model)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_every_endpoint_has_a_url_below_its_base(row: ProviderRow) -> None:
    settings = msgspec.structs.replace(HERE, kind=row.kind, base_url=row.base_url or HERE.base_url)
    for name in row.endpoints:
        made = row.url(settings, name, SURFACES[name].upstream_path, "vendor/model name")
        assert made.startswith(settings.base_url + "/")
        assert made.isascii()
        assert " " not in made


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_row_serves_surfaces_that_exist_and_says_which(row: ProviderRow) -> None:
    assert row.endpoints
    assert set(row.endpoints) <= SURFACES.keys()
    assert {surface for surface, _ in row.paths} <= set(row.endpoints)
    for name in SURFACES:
        refusal = row.not_served(name, "mine")
        assert (refusal == "") == (name in row.endpoints)
        assert not refusal or all(word in refusal for word in ("mine", name, *row.endpoints))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (url("openai", "embeddings", "https://a.example/v1"), "https://a.example/v1/embeddings"),
        (url("deepseek", "chat.completions", "https://d.example"), "https://d.example/chat/completions"),
        (url("deepseek", "completions", "https://d.example"), "https://d.example/beta/completions"),
        (url("perplexity", "embeddings", "https://p.example"), "https://p.example/v1/embeddings"),
        (
            url("azure_openai", "chat.completions", "https://r.openai.azure.com/openai/v1", "gpt"),
            "https://r.openai.azure.com/openai/v1/chat/completions",
        ),
        (
            url("azure_openai", "chat.completions", "https://r.openai.azure.com/openai/v1", "gpt", "preview"),
            "https://r.openai.azure.com/openai/v1/chat/completions?api-version=preview",
        ),
        (
            url("azure_openai", "embeddings", "https://r.openai.azure.com", "é ü/?&#", "2024-10-21"),
            "https://r.openai.azure.com/openai/deployments/%C3%A9%20%C3%BC%2F%3F%26%23/embeddings?api-version=2024-10-21",
        ),
        (
            url("azure_openai", "completions", "https://r.openai.azure.com/openai", "{x}", "2024-10-21"),
            "https://r.openai.azure.com/openai/deployments/%7Bx%7D/completions?api-version=2024-10-21",
        ),
        (
            url("azure_openai", "chat.completions", "https://r.openai.azure.com", "../../admin", "2024-10-21"),
            "https://r.openai.azure.com/openai/deployments/..%2F..%2Fadmin/chat/completions?api-version=2024-10-21",
        ),
    ],
)
def test_urls(made: str, expected: str) -> None:
    assert made == expected


def test_azure_needs_to_know_which_of_its_urls() -> None:
    assert AZURE.settings_fault("https://r.openai.azure.com/openai/v1", "") is None
    assert AZURE.settings_fault("https://r.openai.azure.com/openai/v1", "preview") is None
    assert AZURE.settings_fault("https://r.openai.azure.com", "2024-10-21") is None
    fault = AZURE.settings_fault("https://r.openai.azure.com", "")
    assert fault is not None
    assert "api_version" in fault[0]
    assert "/openai/v1" in fault[1]


@pytest.mark.parametrize("kind", sorted(ROWS.keys() - {"azure_openai"}))
def test_no_other_kind_takes_an_api_version(kind: str) -> None:
    assert ROWS[kind].settings_fault("https://a.example/v1", "") is None
    assert ROWS[kind].settings_fault("https://a.example/v1", "2024-10-21") == (
        f"{kind} takes no api_version",
        "Remove it",
    )


@pytest.mark.parametrize(
    ("said", "nusd"),
    [("1.85e-05", 18_500), ("0", 0), ("0.0", 0), ("None", None), ("", None), ("-1", None), ("x" * 600, None)],
)
def test_litellms_cost_header_is_read_exactly(said: str, nusd: int | None) -> None:
    assert ROWS["litellm"].reported_nusd({"x-litellm-response-cost": said}) == nusd
    assert ROWS["openai"].reported_nusd({"x-litellm-response-cost": said}) is None


def test_an_upstream_id_is_cut() -> None:
    assert ROWS["openai"].upstream_id({"x-request-id": "r" * 900}) == "r" * 200
    assert ROWS["openai"].upstream_id({}) == ""


def test_the_published_page_is_the_generated_one() -> None:
    """`python -m gateway.providers.page > docs/providers.md` writes it."""
    page = (DOCS / "providers.md").read_text()
    assert page == providers_page()
    for kind, row in ROWS.items():
        assert f"\n| `{kind}` | {row.title} |" in page
