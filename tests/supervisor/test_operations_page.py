"""docs/operations.md says what a running server offers to those who watch it: no more, no less."""

from __future__ import annotations

import re
from pathlib import Path

from live.running import running, wait_for

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def test_the_page_names_every_metric_that_is_served(tmp_path: Path) -> None:
    section = PAGE.read_text().partition("\n## Watch it\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(faregate_\w+)`", section))
    with running(tmp_path) as server:
        app, prometheus = server.new_key("app"), server.new_key("prometheus", "--role", "metrics")
        assert server.call("GET", "/metrics", key=app).status == 403
        for word in ("/readyz", "/livez"):
            assert f"`GET {word}`" in section
            assert server.call("GET", word).status == 200
        assert server.chat(app).status == 200
        assert server.call("POST", "/v1/chat/completions", {}, key="fg_live_nobody").status == 401
        reply = wait_for("a call in the metrics", lambda: _counted(server.call("GET", "/metrics", key=prometheus).body))
    assert set(re.findall(r"# TYPE (faregate_\w+) ", reply)) == named


def _counted(body: bytes) -> str:
    text = body.decode()
    return text if "faregate_calls_total{" in text else ""
