"""A webhook receiver in a thread of the test, and a server that is told to use it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoaXJ0eS10d28gYnl0ZXMgYXQgbGVhc3Qh"


@dataclass
class Receiver:
    """What arrived, each verified by Standard Webhooks' own library. `answer` is what is said to the next ones."""

    port: int = 0
    answer: int = 204
    told: list[dict[str, Any]] = field(default_factory=list)
    forged: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one["data"] for one in self.told if one["type"] == f"alert.{kind}"]

    def shares(self, key_id: str) -> list[tuple[int, str]]:
        """(per cent, id) of the thresholds of a key's limits, as they came."""
        found = [one for one in self.of("threshold") if one["key_id"] == key_id]
        return [(one["figures"][2]["amount"], one["id"]) for one in found if len(one["figures"]) > 2]


@contextmanager
def receiver() -> Iterator[Receiver]:
    seen = Receiver()

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                document = Webhook(SECRET).verify(body, headers)
            except Exception as error:
                seen.forged.append(str(error))
            else:
                if document["data"]["id"] != headers["webhook-id"]:
                    seen.forged.append(headers["webhook-id"])
                if seen.answer < 300:
                    seen.told.append(document)
            self.send_response(seen.answer)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    seen.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_alerts(folder: Path, port: int, rules: str = "") -> None:
    """`policies/alerts.yaml` with one signed webhook for everything, before or while the server runs."""
    secret = folder / "alert.secret"
    secret.write_text(SECRET)
    policies = folder / "policies"
    policies.mkdir(parents=True, exist_ok=True)
    (policies / "alerts.yaml").write_text(
        f"url: http://127.0.0.1\nchannels:\n  ops:\n    webhook: http://127.0.0.1:{port}/hook\n"
        f"    secret: file:{secret}\n    networks: [loopback]\ndefault: [ops]\n{rules}"
    )
