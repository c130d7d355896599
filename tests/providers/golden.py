"""The golden bodies of a kind of provider: what an SDK sends, what goes upstream, what comes back, and what it means.

A folder of `tests/golden/providers/` holds for one row: `request.json` and `upstream.json` (exact bytes), `reply.json`,
`stream.sse` and `relayed.sse` (what the caller gets of it before the terminal event), `error.json`, `expected.json`;
where the vendor has a shape of its own for it `stream_error.sse`, with `stream_error_relayed.sse` if that is changed.
The texts are our own, in the shapes that the sources named in the rows document.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.core.config import ProviderSettings
from gateway.core.usage import Usage
from gateway.providers.discover import discover
from gateway.routing.compile import compile_policy

ROOT = Path(__file__).resolve().parents[1] / "golden" / "providers"
ROWS = discover()


class Golden:
    """The files of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.folder = ROOT / kind
        self.expected: dict[str, Any] = json.loads(self.bytes("expected.json"))

    def bytes(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def settings(self) -> ProviderSettings:
        """Through the compiler: as an operator's file gives them."""
        given = {"kind": self.kind, "credential": "", **self.expected["settings"]}
        text = f"providers: {json.dumps({'here': given})}\n"
        return compile_policy(text, "routes.yaml", ROWS, lambda kind, models: {}).providers["here"]


def meters(usage: Usage | None) -> dict[str, int]:
    assert usage is not None
    assert usage.fault == ""
    return {str(meter): quantity for meter, quantity in usage.meters.items()}
