"""All roles in one process behind one FastAPI application."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway.api.exchange import Receive, Scope, Send
from gateway.api.plane import DataPlane
from gateway.app.desk import create_desk
from gateway.app.stores import open_books, prepare_store
from gateway.app.worker import create_worker
from gateway.settings import Settings
from gateway.system import SystemClock, SystemEntropy, lock_data_folder

if TYPE_CHECKING:
    from fastapi import FastAPI


def create_app(settings: Settings) -> FastAPI:
    """One FastAPI application with the data plane in front of it: for tests, embedding and small installations.

    Its lifespan owns the data folder and runs desk, bookkeeper and worker in this process. `faregate serve` runs the
    same parts in processes of their own, where a crash of one does not touch the others. Raises at start what
    `lock_data_folder` and `prepare_store` raise.
    """
    for folder in (settings.data_dir, settings.run_dir, settings.journal_dir):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    desk = create_desk(settings)
    app = desk.app
    desk_stack = app.build_middleware_stack()
    desk_lifespan = app.router.lifespan_context
    planes: list[DataPlane] = []

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and planes:
            await planes[-1](scope, receive, send)
        else:
            await desk_stack(scope, receive, send)

    @asynccontextmanager
    async def lifespan(served: FastAPI) -> AsyncIterator[None]:
        from gateway.bookkeeper.bookkeeper import Bookkeeper

        lock = lock_data_folder(settings)
        try:
            await prepare_store(settings)
            async with open_books(settings) as (ledger, config, alerts), desk.running():
                bookkeeper = Bookkeeper(settings, ledger, config, SystemClock(), SystemEntropy(), alerts)
                await bookkeeper.start()
                worker = create_worker(settings, desk_stack).worker
                await worker.start()
                await worker.may_admit()
                planes.append(worker.plane)
                try:
                    async with desk_lifespan(served):
                        yield
                finally:
                    planes.pop()
                    await worker.stop()
                    await bookkeeper.stop()
        finally:
            os.close(lock)

    app.router.lifespan_context = lifespan
    app.middleware_stack = dispatch
    return app
