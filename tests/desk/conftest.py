"""A desk on fakes, and clients of it."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from desk.asking import Asking
from desk.world import LOCAL_TOKEN, World, make_world
from gateway.desk.parts import LOCAL_HEADER


@pytest.fixture
async def world() -> World:
    return await make_world()


@pytest.fixture
def app(world: World) -> FastAPI:
    return world.app()


@pytest.fixture
def admin(world: World, app: FastAPI) -> Asking:
    return world.asking(app, "admin")


@pytest.fixture
def local(app: FastAPI) -> Asking:
    return Asking(app, **{LOCAL_HEADER: LOCAL_TOKEN})
