"""A desk with its console on fakes, and a person signed in to it."""

from __future__ import annotations

import re

import pytest
from desk.asking import Asking
from desk.calls import make_month
from desk.world import World, make_world
from fastapi import FastAPI


@pytest.fixture
async def world() -> World:
    return await make_world()


@pytest.fixture
def app(world: World) -> FastAPI:
    return world.app()


@pytest.fixture
def month(world: World) -> World:
    """The same with a month of calls."""
    world.ledger.found += make_month([(world.ids["search-bot"], "search"), (world.ids["support-bot"], "support")])
    return world


def csrf_in(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None, "the page has no form token"
    return found.group(1)


async def signed_in(world: World, app: FastAPI, name: str = "admin") -> Asking:
    """Signs in as a person does: opens the form, sends it, follows to the page."""
    asking = Asking(app, sec_fetch_site="same-origin")
    form = await asking.get("/ui/sign-in")
    answer = await asking.form("/ui/sign-in", csrf=csrf_in(form.text), key=world.secrets[name], next="/ui")
    assert (answer.status, answer.header("location")) == (303, "/ui"), answer.text
    return asking


@pytest.fixture
async def person(world: World, app: FastAPI) -> Asking:
    return await signed_in(world, app)
