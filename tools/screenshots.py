"""Takes the console's pictures for the documentation: `make screenshots` writes docs/*.png.

The figures are made up: `tools/made_up_month.py` invents a month of calls. The rest is real: the bookkeeper's ledger
writer loads their records, the pages are the desk's own, and a browser opens them after it has signed in through the
form. The overview shows the present calendar month, so take the pictures late in one.

Needs chromium (`make system-deps`).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from gateway.app import NoWorkers, create_desk, open_books, prepare_store
from gateway.core.admin import KeyChange
from gateway.core.ids import CALL, print_id
from gateway.settings import Settings
from gateway.system import SystemClock
from tools.made_up_month import APPS, ORG, Month, models

DOCS = Path(__file__).resolve().parent.parent / "docs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><include ignore_missing="yes">/etc/fonts/fonts.conf</include>
<match target="pattern"><test name="family"><string>sans-serif</string></test>
<edit name="family" mode="assign" binding="strong"><string>Liberation Sans</string></edit></match></fontconfig>
"""
"""A usual face for the system's own, which is sans-serif on a bare machine."""
WAIT_S = 60.0
MOST_BYTES = 300_000
BATCH = 4_000
SIGN_IN = "document.querySelector('#key').value = {key}; document.querySelector('.go').click()"
CONTENT_HEIGHT = "document.querySelector('main').scrollHeight"


@dataclass(frozen=True, slots=True)
class Picture:
    """A page as a file. Height 0: as high as what it shows."""

    name: str
    path: str
    width: int = 1400
    height: int = 900
    scheme: str = "light"
    phone: bool = False


def pictures(call_id: str) -> tuple[Picture, ...]:
    return (
        Picture("overview.png", "/ui"),
        Picture("overview-dark.png", "/ui", scheme="dark"),
        Picture("call.png", f"/ui/requests/{call_id}", height=0),
        Picture("phone.png", "/ui", 390, 844, phone=True),
    )


# ---------------------------------------------------------------- the company


async def fill(settings: Settings) -> tuple[str, str]:
    """Makes keys and loads the month. The secret of a person who may look, and the call to show."""
    settings.run_dir.mkdir(parents=True, mode=0o700)
    await prepare_store(settings)
    async with open_books(settings) as (ledger, config, _):
        keys = {}
        for app in APPS:
            change = KeyChange(name=app.key, org=ORG, team=app.team, role="data")
            keys[app.key] = (await config.create_key(change, actor="screenshots")).view.key_id
        person = await config.create_key(KeyChange(name="Ada", org=ORG, role="admin"), actor="screenshots")
        month = Month(keys, models(), SystemClock().now_ms())
        entries = list(month.entries())
        for start in range(0, len(entries), BATCH):
            batch = entries[start : start + BATCH]
            loaded = await ledger.load(batch)
            if loaded.dead_letters or loaded.stored != len(batch):
                raise RuntimeError(f"the ledger did not take the month as it is: {loaded}")
    print(f"{len(entries)} records are in the ledger")
    return person.secret, print_id(CALL, month.shown)


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[str]:
    """The desk on a free port of this machine: its address."""
    desk = create_desk(settings, NoWorkers(), watch_files=False)
    server = uvicorn.Server(uvicorn.Config(desk.app, host="127.0.0.1", port=0, log_level="warning"))
    async with desk.running():
        serving = asyncio.create_task(server.serve())
        try:
            while not server.started:
                if serving.done():
                    raise RuntimeError("the desk does not serve")
                await asyncio.sleep(0.05)
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


# ---------------------------------------------------------------- the browser


@dataclass(slots=True)
class Tab:
    """A tab of the browser, told what to do over its debugging socket."""

    socket: aiohttp.ClientWebSocketResponse
    asked: int = 0
    seen: list[str] = field(default_factory=list)

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.asked += 1
        await self.socket.send_json({"id": self.asked, "method": method, "params": parameters})
        while True:
            message = await self._next()
            if message.get("id") == self.asked:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result

    async def run(self, script: str) -> Any:
        answer = await self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def open(self, address: str) -> None:
        await self.ask("Page.navigate", url=address)
        await self.loaded()

    async def loaded(self) -> None:
        """Waits for a page that is on its way."""
        while "Page.loadEventFired" not in self.seen:
            await self._next()
        self.seen.clear()

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = await self.socket.receive_json(timeout=WAIT_S)
        if "method" in message:
            self.seen.append(message["method"])
        return message

    async def shape(self, width: int, height: int, phone: bool) -> None:
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )

    async def take(self, address: str, picture: Picture) -> bytes:
        """A page as PNG."""
        scheme = {"name": "prefers-color-scheme", "value": picture.scheme}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])
        await self.shape(picture.width, picture.height or 900, picture.phone)
        await self.open(f"{address}{picture.path}")
        if not picture.height:
            await self.shape(picture.width, int(await self.run(CONTENT_HEIGHT)), picture.phone)
        shot = await self.ask("Page.captureScreenshot", format="png")
        return base64.b64decode(shot["data"])


@asynccontextmanager
async def opened(program: str, profile: Path, fonts: Path) -> AsyncIterator[Tab]:
    """A browser with an empty profile and one tab. Ends with the block."""
    quiet = asyncio.subprocess.DEVNULL
    arguments = (*FLAGS, f"--user-data-dir={profile}", "about:blank")
    environment = {**os.environ, "FONTCONFIG_FILE": str(fonts)}
    browser = await asyncio.create_subprocess_exec(program, *arguments, stdout=quiet, stderr=quiet, env=environment)
    try:
        port = await asyncio.wait_for(_port(profile / "DevToolsActivePort"), WAIT_S)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                tabs = await reply.json(content_type=None)
            found = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            async with session.ws_connect(found, max_msg_size=0) as socket:
                tab = Tab(socket)
                await tab.ask("Page.enable")
                yield tab
    finally:
        browser.terminate()
        await browser.wait()


async def _port(file: Path) -> int:
    """The port a browser listens on: the first line of what it writes down when it is ready."""
    while True:
        lines = _lines(file)
        if lines:
            return int(lines[0])
        await asyncio.sleep(0.1)


def _lines(file: Path) -> list[str]:
    """The complete lines of a file that may not be there yet."""
    return file.read_text().split("\n")[:-1] if file.exists() else []


async def photograph(program: str, folder: Path, fonts: Path) -> dict[str, bytes]:
    """All pictures by file name."""
    settings = Settings(data_dir=folder / "data", config_dir=folder / "policies")
    secret, call_id = await fill(settings)
    async with served(settings) as address, opened(program, folder / "profile", fonts) as tab:
        await tab.open(f"{address}/ui/sign-in")
        await tab.run(SIGN_IN.format(key=json.dumps(secret)))
        await tab.loaded()
        if await tab.run("location.pathname") != "/ui":
            raise RuntimeError("signing in did not lead to the overview")
        return {picture.name: await tab.take(address, picture) for picture in pictures(call_id)}


def main() -> int:
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        print("No chromium is installed; run: make system-deps")
        return 1
    with tempfile.TemporaryDirectory(prefix="faregate-screenshots-", ignore_cleanup_errors=True) as folder:
        fonts = Path(folder) / "fonts.conf"
        fonts.write_text(FONTS)
        taken = asyncio.run(photograph(program, Path(folder), fonts))
    for name, content in taken.items():
        if len(content) > MOST_BYTES:
            print(f"{name} has {len(content)} bytes, more than {MOST_BYTES}; it was not written")
            return 1
        (DOCS / name).write_bytes(content)
        print(f"wrote docs/{name} ({len(content)} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
