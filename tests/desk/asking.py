"""A client of an ASGI application that remembers its headers and cookies."""

from __future__ import annotations

import json as json_text
from typing import Any
from urllib.parse import urlencode

from gateway.cli.asgi import Answer, AsgiApp, ask

PEER = ("203.0.113.7", 40_000)


class Asking:
    """`await asking.get("/ui")`. Cookies are kept like a browser keeps them, without their paths."""

    def __init__(self, app: AsgiApp, **headers: str) -> None:
        self.app = app
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.cookies: dict[str, str] = {}
        self.peer: tuple[str, int] | None = PEER

    async def get(self, path: str, **query: str | int) -> Answer:
        return await self.send("GET", path, query=urlencode(query))

    async def post(self, path: str, json: Any = None) -> Answer:
        return await self.send("POST", path, json=json)

    async def patch(self, path: str, json: Any = None) -> Answer:
        return await self.send("PATCH", path, json=json)

    async def form(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> Answer:
        kind = {"content-type": "application/x-www-form-urlencoded"}
        return await self.send("POST", path, body=urlencode(fields).encode(), headers={**kind, **(headers or {})})

    async def send(
        self,
        method: str,
        path: str,
        query: str = "",
        json: Any = None,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        sent = [*self.headers.items(), *(headers or {}).items()]
        if json is not None:
            body = json_text.dumps(json).encode()
            sent.append(("content-type", "application/json"))
        if self.cookies:
            sent.append(("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        answer = await ask(self.app, method, path, query=query, headers=sent, body=body, client=self.peer)
        self._keep(answer)
        return answer

    def _keep(self, answer: Answer) -> None:
        for name, value in answer.headers:
            if name == "set-cookie":
                cookie, _, attributes = value.partition(";")
                key, _, content = cookie.partition("=")
                if "max-age=0" in attributes.lower():
                    self.cookies.pop(key, None)
                else:
                    self.cookies[key] = content
