"""`alerts.yaml` as people write it, member by member. Nodes and lines are the reader's; here values have places."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from gateway.core.addresses import check_networks
from gateway.core.alerts import AlertKind, AlertPolicy, AlertRules, Channel, ChannelKind, Encryption, Route
from gateway.core.money import parse_usd

Place = tuple[str | int, ...]
Value = TypeVar("Value")

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
REFERENCE_PATTERN = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+)$"
URL_PATTERN = r"^https?://[^\s/@]+(/\S*)?$"
MAIL_PATTERN = r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$"
"""RFC 5322's dot-atom: other addresses cannot be written into a header, and would fail only when it matters."""
SERVER_PATTERN = r"^[A-Za-z0-9.:\[\]-]+:[0-9]{1,5}$"
DURATION_PATTERN = r"^[0-9]{1,9} *[smhd]$"
MOST_CHANNELS = 100
MOST_ROUTES = 1_000
MOST_RECIPIENTS = 50
MOST_THRESHOLDS = 10
LONGEST_PAUSE_HOURS = 168
LONGEST_QUIET_S = 30 * 86_400

SECTIONS = {
    "url": "Where people reach this gateway: links in alerts begin with it. Without it alerts have no links.",
    "channels": "Where alerts can be sent, by name.",
    "default": "The channels of alerts that no route takes.",
    "routes": "Who is told: the narrowest route of an alert's owner (key, team, org) takes it.",
    "rules": "When there is an alert. Everything has a default.",
    "pause_link_hours": "How long a pause link works.",
}
CHANNEL_MEMBERS = {
    "webhook": "The URL that signed alerts are posted to.",
    "slack": "A reference to the URL of a Slack incoming webhook: the URL is the secret.",
    "email": "Addresses to write to.",
    "secret": "A reference to the webhook's signing secret: whsec_ and base64 of at least 32 bytes.",
    "networks": "Addresses that may be connected to besides public ones: loopback, private, or a network.",
    "ca_bundle": "A PEM file that replaces the system's trust.",
    "smtp": "The mail server, host:port.",
    "from": "The address that mail is sent from.",
    "user": "The user to sign in to the mail server with.",
    "password": "A reference to that user's password.",
    "encryption": "starttls (587), tls (465) or none.",
}
ROUTE_MEMBERS = {
    "org": "Alerts of this org.",
    "team": "Alerts of this team.",
    "key": "Alerts of the key with this id.",
    "kinds": "Only these kinds of alerts.",
    "to": "The channels that are told.",
}
RULE_MEMBERS = {
    "thresholds": "Per cent at which limits on money alert that name none themselves.",
    "forecast_from": "No forecast in the first so many per cent of a window; 0: no forecasts.",
    "rate_of_spend": "When spending is too fast.",
    "quiet": "How long the same key, user or fault is not told of again: 6h.",
    "recording_delay": "How far SQL may be behind: 5m.",
}
RATE_MEMBERS = {
    "factor": "So many times the median of the same hour in the last 14 days; 0: never.",
    "minimum": "Nothing is too fast below this in an hour: 20USD.",
    "per_hour": "More than this in an hour always is: 100USD.",
}
_OF_KIND = {
    "webhook": ("webhook", "secret", "networks", "ca_bundle"),
    "slack": ("slack", "networks", "ca_bundle"),
    "email": ("email", "smtp", "from", "user", "password", "encryption", "networks", "ca_bundle"),
}
_NONE: tuple[str, ...] = ()
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Fault(NamedTuple):
    """What is wrong at a place of the file, and what would be right."""

    place: Place
    message: str
    suggestion: str = ""


class _Wrong(ValueError):
    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.suggestion = suggestion


def read_alerts(given: object) -> tuple[AlertPolicy, list[Fault]]:
    """The policy of a file's values (mappings, lists, texts, whole numbers; None for nothing), and all that is wrong.

    With faults the policy is not to be used.
    """
    reader = _Reader()
    return reader.policy(given), reader.faults


class _Reader:
    """Collects faults on its way, so that a person mends a file once."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def policy(self, given: object) -> AlertPolicy:
        members = self._members((), given, SECTIONS)
        channels = tuple(
            channel
            for name, value in self._mapping(("channels",), members.get("channels")).items()
            if (channel := self._channel(name, value)) is not None
        )
        if len(channels) > MOST_CHANNELS:
            self._fault(("channels",), f"has over {MOST_CHANNELS} entries")
        known = set(self._mapping(("channels",), members.get("channels")))
        routes = self._list(("routes",), members.get("routes"), MOST_ROUTES)
        return AlertPolicy(
            channels=channels,
            default=self._names(("default",), members.get("default"), known),
            routes=tuple(self._route(("routes", place), value, known) for place, value in enumerate(routes)),
            rules=self._rules(members.get("rules")),
            url=self._read(("url",), members, _url, "").rstrip("/"),
            pause_hours=self._read(
                ("pause_link_hours",), members, _whole(1, LONGEST_PAUSE_HOURS), AlertPolicy().pause_hours
            ),
        )

    def _channel(self, name: str, value: object) -> Channel | None:
        place: Place = ("channels", name)
        if not re.fullmatch(NAME_PATTERN, name):
            self._fault(place, f"{name[:70]!r} cannot be a channel's name", "Use up to 64 of a-z, 0-9, - and _")
        members = self._members(place, value, CHANNEL_MEMBERS)
        kinds = [kind for kind in ChannelKind if kind.value in members]
        if len(kinds) != 1:
            self._fault(place, "must have one of webhook, slack and email")
            return None
        kind = kinds[0]
        for member in members:
            if member not in _OF_KIND[kind.value]:
                self._fault((*place, member), f"{member} does not belong to a channel with {kind.value}")
        common = {
            "networks": self._read((*place, "networks"), members, _networks, _NONE),
            "ca_bundle": self._read((*place, "ca_bundle"), members, _path, ""),
        }
        match kind:
            case ChannelKind.WEBHOOK:
                address = self._wanted((*place, "webhook"), members, _url, "")
                secret = self._wanted((*place, "secret"), members, _reference, "")
                return Channel(name, kind, address, secret, **common)  # type: ignore[arg-type]
            case ChannelKind.SLACK:
                secret = self._wanted((*place, "slack"), members, _reference, "")
                return Channel(name, kind, "", secret, **common)  # type: ignore[arg-type]
        user = self._read((*place, "user"), members, _text, "")
        secret = self._read((*place, "password"), members, _reference, "")
        if bool(user) != bool(secret):
            self._fault(place, "has one of user and password", "Give both, or neither")
        encryption = self._read((*place, "encryption"), members, _encryption, Encryption.STARTTLS)
        if user and encryption is Encryption.NONE:
            self._fault(place, "would send its password in the clear", "Use starttls or tls")
        return Channel(
            name,
            kind,
            self._wanted((*place, "smtp"), members, _server, ""),
            secret,
            recipients=self._wanted((*place, "email"), members, _recipients, _NONE),
            sender=self._wanted((*place, "from"), members, _mail, ""),
            user=user,
            encryption=encryption,
            **common,  # type: ignore[arg-type]
        )

    def _route(self, place: Place, value: object, known: set[str]) -> Route:
        members = self._members(place, value, ROUTE_MEMBERS)
        if not {"org", "team", "key", "kinds"} & set(members):
            self._fault(place, "takes every alert", "Name an org, team, key or kinds; the rest goes to `default`")
        if "to" not in members:
            self._fault(place, "names no channel", "Write it like to: [ops]; to: [] tells nobody")
        return Route(
            channels=self._names((*place, "to"), members.get("to"), known),
            org=self._read((*place, "org"), members, _text, ""),
            team=self._read((*place, "team"), members, _text, ""),
            key_id=self._read((*place, "key"), members, _text, ""),
            kinds=self._read((*place, "kinds"), members, _kinds, ()),
        )

    def _rules(self, value: object) -> AlertRules:
        usual = AlertRules()
        place: Place = ("rules",)
        members = self._members(place, value, RULE_MEMBERS)
        rate_place: Place = ("rules", "rate_of_spend")
        rate = self._members(rate_place, members.get("rate_of_spend"), RATE_MEMBERS)
        return AlertRules(
            thresholds=self._read((*place, "thresholds"), members, _percents, usual.thresholds),
            forecast_from_percent=self._read(
                (*place, "forecast_from"), members, _whole(0, 99), usual.forecast_from_percent
            ),
            rate_factor=self._read((*rate_place, "factor"), rate, _whole(0, 1000), usual.rate_factor),
            rate_minimum_nusd=self._read((*rate_place, "minimum"), rate, _money, usual.rate_minimum_nusd),
            rate_per_hour_nusd=self._read((*rate_place, "per_hour"), rate, _money, usual.rate_per_hour_nusd),
            quiet_s=self._read((*place, "quiet"), members, _duration, usual.quiet_s),
            recording_delay_s=self._read((*place, "recording_delay"), members, _duration, usual.recording_delay_s),
        )

    # ------------------------------------------------------------ within

    def _fault(self, place: Place, message: str, suggestion: str = "") -> None:
        fault = Fault(place, message, suggestion)
        if fault not in self.faults:
            self.faults.append(fault)

    def _mapping(self, place: Place, value: object) -> Mapping[str, object]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._fault(place, "must be a mapping, one `name: value` a line")
            return {}
        return value

    def _members(self, place: Place, value: object, known: Mapping[str, str]) -> Mapping[str, object]:
        found = self._mapping(place, value)
        for name in found:
            if name not in known:
                self._fault((*place, name), f"{name[:60]!r} is not known here", f"There are {', '.join(known)}")
        return {name: one for name, one in found.items() if name in known}

    def _list(self, place: Place, value: object, most: int) -> Sequence[object]:
        if value is None:
            return []
        if not isinstance(value, list):
            self._fault(place, "must be a list", "Write it like [one, two]")
            return []
        if len(value) > most:
            self._fault(place, f"has over {most} entries")
            return []
        return value

    def _names(self, place: Place, value: object, known: set[str]) -> tuple[str, ...]:
        names = []
        for name in self._list(place, value, MOST_CHANNELS):
            if name not in known:
                there = (
                    f"There are {', '.join(sorted(known))}" if known else "There is none yet; write it under channels"
                )
                self._fault(place, f"there is no channel {str(name)[:60]!r}", there)
            names.append(str(name))
        return tuple(names)

    def _wanted(
        self, place: Place, members: Mapping[str, object], read: Callable[[object], Value], otherwise: Value
    ) -> Value:
        if place[-1] not in members:
            self._fault(place[:-1], f"has no {place[-1]}", CHANNEL_MEMBERS.get(str(place[-1]), "").rstrip("."))
        return self._read(place, members, read, otherwise)

    def _read(
        self, place: Place, members: Mapping[str, object], read: Callable[[object], Value], otherwise: Value
    ) -> Value:
        name = str(place[-1])
        if name not in members:
            return otherwise
        try:
            return read(members[name])
        except _Wrong as error:
            self._fault(place, f"{name}: {error}", error.suggestion)
        except ValueError as error:
            self._fault(place, f"{name}: {error}")
        return otherwise


# ---------------------------------------------------------------- single values


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > 2048:
        raise _Wrong("must be one printable text", "Put it in quotes")
    return value.strip()


def _matching(value: object, pattern: str, message: str, suggestion: str) -> str:
    text = _text(value)
    if not re.fullmatch(pattern, text):
        raise _Wrong(message, suggestion)
    return text


def _url(value: object) -> str:
    return _matching(value, URL_PATTERN, "is no URL", "Write it like https://hooks.example.com/faregate")


def _reference(value: object) -> str:
    return _matching(
        value, REFERENCE_PATTERN, "secrets are only named here, never written", "Write env:NAME or file:/absolute/path"
    )


def _path(value: object) -> str:
    return _matching(value, r"/.+", "must be an absolute path", "")


def _mail(value: object) -> str:
    return _matching(value, MAIL_PATTERN, f"{str(value)[:60]!r} is no address", "Write it like ops@example.com")


def _server(value: object) -> str:
    text = _matching(value, SERVER_PATTERN, "is no mail server", "Write it like smtp.example.com:587")
    if not 0 < int(text.rpartition(":")[2]) < 65536:
        raise _Wrong("its port is none", "Write it like smtp.example.com:587")
    return text


def _encryption(value: object) -> Encryption:
    try:
        return Encryption(_text(value))
    except ValueError:
        raise _Wrong(f"cannot be {str(value)[:40]!r}", f"Use {', '.join(Encryption)}") from None


def _texts(value: object, most: int) -> list[str]:
    if not isinstance(value, list) or len(value) > most:
        raise _Wrong(f"must be a list of at most {most}", "Write it like [one, two]")
    return [_text(one) for one in value]


def _networks(value: object) -> tuple[str, ...]:
    networks = tuple(_texts(value, 20))
    check_networks(networks)
    return networks


def _recipients(value: object) -> tuple[str, ...]:
    found = tuple(_mail(one) for one in _texts(value, MOST_RECIPIENTS))
    if not found:
        raise _Wrong("names nobody", "Write it like [ops@example.com]")
    return found


def _kinds(value: object) -> tuple[AlertKind, ...]:
    known = [kind.value for kind in AlertKind if kind is not AlertKind.TEST]
    for one in _texts(value, len(known)):
        if one not in known:
            raise _Wrong(f"there is no kind {one[:40]!r}", f"There are {', '.join(known)}")
    return tuple(AlertKind(one) for one in _texts(value, len(known)))


def _percents(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MOST_THRESHOLDS:
        raise _Wrong(f"must be a list of at most {MOST_THRESHOLDS} numbers", "Write it like [50, 80, 100]")
    if any(type(one) is not int or not 1 <= one <= 100 for one in value):
        raise _Wrong("are whole per cents from 1 to 100")
    return tuple(sorted(set(value)))


def _whole(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise _Wrong(f"must be a whole number from {least} to {most}")
        return value

    return read


def _money(value: object) -> int:
    return parse_usd(_text(value))


def _duration(value: object) -> int:
    text = _matching(value, DURATION_PATTERN, "is no length of time", "Write it like 90s, 15m, 6h or 2d")
    seconds = int(text[:-1]) * _SECONDS[text[-1]]
    if not 0 < seconds <= LONGEST_QUIET_S:
        raise _Wrong("must be between a second and 30 days")
    return seconds
