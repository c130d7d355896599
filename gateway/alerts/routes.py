"""Who is told: the channels of an alert, by whom it concerns."""

from __future__ import annotations

from gateway.core.alerts import Alert, AlertPolicy, Route


def channels_of(policy: AlertPolicy, alert: Alert) -> tuple[str, ...]:
    """The names of the channels of the narrowest route that takes it (key, then team, then org; the first of equals),
    else the default's. Names of channels that are not there are left out."""
    taking = [route for route in policy.routes if _takes(route, alert)]
    names = min(taking, key=_width).channels if taking else policy.default
    return tuple(name for name in dict.fromkeys(names) if policy.channel(name) is not None)


def _takes(route: Route, alert: Alert) -> bool:
    asked = ((route.org, alert.org), (route.team, alert.team), (route.key_id, alert.key_id))
    return all(wanted in ("", own) for wanted, own in asked) and (not route.kinds or alert.kind in route.kinds)


def _width(route: Route) -> tuple[bool, bool, bool, bool]:
    """Narrower is less: a key, a team, an org, only some kinds."""
    return not route.key_id, not route.team, not route.org, not route.kinds
