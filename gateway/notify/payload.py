"""An alert as receivers get it: JSON for machines, text for people."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from gateway.core.alerts import Alert, Figure


def as_json(alert: Alert) -> bytes:
    """The body of a webhook: `type`, `timestamp`, `data`, as Standard Webhooks recommends. `docs/alerts.md` lists the
    members of `data`."""
    data = msgspec.to_builtins(alert)
    del data["dedupe"]
    data |= {
        "created_at": moment(alert.created_ms),
        "period_ends_at": None if alert.period_ends_ms is None else moment(alert.period_ends_ms),
        "scope": dict(alert.scope),
        "links": dict(alert.links),
    }
    return msgspec.json.encode(
        {"type": f"alert.{alert.kind.value}", "timestamp": moment(alert.created_ms), "data": data}
    )


def as_lines(alert: Alert) -> list[str]:
    """The alert for people, after its title."""
    owners = (("org", alert.org), ("team", alert.team), ("key", alert.key_id))
    whom = [(name, value) for name, value in owners if name not in dict(alert.scope)]
    lines = [f"{name}: {value}" for name, value in (*whom, *alert.scope) if value]
    if alert.period:
        ends = "" if alert.period_ends_ms is None else f" (ends {moment(alert.period_ends_ms)})"
        lines.append(f"period: {alert.period}{ends}")
    lines += [f"{figure.name.replace('_', ' ')}: {_shown(figure)}" for figure in alert.figures]
    if alert.note:
        lines.append(alert.note)
    return [plain(line) for line in lines]


def plain(text: str) -> str:
    """One line that can stand in a header: callers choose users and sessions."""
    return "".join(character if character.isprintable() else " " for character in text)[:500]


def moment(ms: int) -> str:
    """ISO 8601 in UTC, whole seconds."""
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _shown(figure: Figure) -> str:
    if figure.usd is not None:
        return f"{figure.usd} USD"
    if figure.unit == "ms" and figure.name.endswith("_at"):
        return moment(figure.amount)
    return f"{figure.amount:,} {figure.unit}"
