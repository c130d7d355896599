"""The console's files: templates, and the few static ones, read once and served under a name that changes with them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response

from gateway.core.errors import NotFound

STATIC_PATH = "/ui/static"
_KINDS = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    name: str
    kind: str
    content: bytes


class Assets:
    """Everything below `static/` of the folder; nothing else can be asked for."""

    def __init__(self, folder: Path) -> None:
        self._by_name: dict[str, Asset] = {}
        self._paths: dict[str, str] = {}
        for path in sorted((folder / "static").iterdir()):
            kind = _KINDS.get(path.suffix)
            if kind is None:
                continue
            content = path.read_bytes()
            name = f"{path.stem}.{hashlib.sha256(content).hexdigest()[:12]}{path.suffix}"
            self._by_name[name] = Asset(name, kind, content)
            self._paths[path.name] = f"{STATIC_PATH}/{name}"

    def path(self, file: str) -> str:
        """Where the present `console.css` is found. Raises KeyError for a file that does not exist."""
        return self._paths[file]

    def answer(self, name: str) -> Response:
        """Raises NotFound."""
        asset = self._by_name.get(name)
        if asset is None:
            raise NotFound("There is no such file.")
        headers = {"cache-control": _FOREVER}
        return Response(asset.content, media_type=asset.kind, headers=headers)


def templates(folder: Path, shared: dict[str, Any]) -> Environment:
    """Templates that escape everything and refuse names that are not there."""
    environment = Environment(
        loader=FileSystemLoader(folder / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(shared)
    return environment
