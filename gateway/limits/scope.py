"""What a limit is about: its dimensions, which calls it matches, and the text of a call's value in a counter's name.

org, team and key are known from the key. Everything else a caller sends, so it can only narrow: such a limit is counted
within the keys, teams or orgs its scope names, and within each key where it names none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from urllib.parse import unquote

from gateway.core.caller import KeyRecord
from gateway.core.limits import EACH, Limit

Scope = tuple[tuple[str, str], ...]

OWNERS = ("org", "team", "key")
"""Dimensions that the key decides."""
SENT = ("user", "session")
ROUTED = ("model", "provider", "deployment")
"""Dimensions that the request's model decides; provider and deployment are known only once it is planned."""
PLANNED = frozenset({"provider", "deployment"})
TAG = "tag:"
DIMENSIONS = (*OWNERS, *SENT, *ROUTED)
MAX_TAG_NAME = 64

_UNBOUNDED = frozenset({*SENT, "model", "deployment"})
_LONGEST = 64
_KEPT = 24
_DIGEST_BYTES = 16
_MARK_BYTES = 4
_CUT = "%~"
_SQL = "sql"


def is_dimension(name: str) -> bool:
    """Whether a scope may name it: one of DIMENSIONS, or `tag:` with a name."""
    return name in DIMENSIONS or (name.startswith(TAG) and 0 < len(name) - len(TAG) <= MAX_TAG_NAME)


def is_sent(dimension: str) -> bool:
    """Whether callers choose the value: users, sessions and tags."""
    return dimension in SENT or dimension.startswith(TAG)


def is_unbounded(dimension: str) -> bool:
    """Whether callers can make up any number of values: `each` of these needs `max_values`."""
    return dimension in _UNBOUNDED or dimension.startswith(TAG)


def whole_scope(scope: Iterable[tuple[str, str]]) -> Scope:
    """The scope in its one order, with what it implies.

    What callers send is counted within each key unless the scope names an owner: nobody can spend what is left to
    somebody else's users. A team belongs to an org, so two orgs' teams of one name never share a counter.
    """
    found = dict(scope)
    if any(is_sent(name) for name in found) and not any(name in found for name in OWNERS):
        found["key"] = EACH
    if "team" in found and "org" not in found:
        found["org"] = EACH
    return tuple(sorted(found.items(), key=lambda entry: _place(entry[0])))


def _place(dimension: str) -> tuple[int, str]:
    order = (*OWNERS, *SENT, TAG, *ROUTED)
    return order.index(TAG if dimension.startswith(TAG) else dimension), dimension


def owner_of(key: KeyRecord, dimension: str) -> str | None:
    """The key's value of a dimension of OWNERS; None of any other."""
    match dimension:
        case "org":
            return key.org
        case "team":
            return key.team
        case "key":
            return key.key_id
    return None


def owns(scope: Scope, key: KeyRecord) -> bool:
    """Whether the owners that a scope names are this key's: the other dimensions are the call's to tell."""
    for dimension, wanted in scope:
        own = owner_of(key, dimension)
        if own is not None and not _fits(wanted, own):
            return False
    return True


def is_owned(scope: Scope) -> bool:
    """Whether the key alone decides if the scope matches."""
    return all(dimension in OWNERS for dimension, _ in scope)


def values_of(scope: Scope, key: KeyRecord, sent: Mapping[str, str]) -> tuple[str, ...] | None:
    """The call's value of each of a scope's dimensions, or None when the scope does not match it.

    `sent` has the call's values of the dimensions that are no owner's. A call that tells no user is in no user's
    limit, and so with every dimension.
    """
    values = []
    for dimension, wanted in scope:
        own = owner_of(key, dimension)
        value = sent.get(dimension, "") if own is None else own
        if not _fits(wanted, value):
            return None
        values.append(value)
    return tuple(values)


def _fits(wanted: str, value: str) -> bool:
    return bool(value) if wanted == EACH else value == wanted


def counted_value(values: Iterable[str]) -> str:
    """Values as they stand in a counter's name: `,`, `|` and `%` escaped, so that no two sets of values share one; a
    long value is cut and told apart by its digest, after a `%~` that no other value is written with."""
    return ",".join(_escaped(value) for value in values)


def _escaped(value: str) -> str:
    cut = ""
    if len(value) > _LONGEST:
        digest = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
        value, cut = value[:_KEPT], f"{_CUT}{digest}"
    if "%" in value or "," in value or "|" in value:
        value = value.replace("%", "%25").replace(",", "%2C").replace("|", "%7C")
    return value + cut


def shown_values(text: str) -> list[str]:
    """The values that `counted_value` wrote, for people: a long one stays cut, with its digest."""
    return [unquote(value.replace(_CUT, "~")) for value in text.split(",")]


def split_values(limit: Limit, text: str) -> tuple[str, str]:
    """What configuration bounds of a limit's values, and what callers can make up: (`growth`, `user-1`), of and as the
    text of `counted_value`. Raises ValueError for a text that has not a value for each dimension."""
    pairs = list(zip(limit.scope, text.split(","), strict=True))
    known = [value for (name, wanted), value in pairs if not _made_up(name, wanted)]
    made_up = [value for (name, wanted), value in pairs if _made_up(name, wanted)]
    return ",".join(known), ",".join(made_up)


def mark_of(limit: Limit) -> str:
    """What stands after the window in the names of a file's limit: its id stays when somebody writes another unit,
    scope or window under it, and nano-USD must not be counted as tokens. SQL gives another such limit another id."""
    if limit.origin == _SQL:
        return ""
    meaning = repr((limit.unit.value, limit.window.kind.value, limit.window.length_s, limit.window.zone, limit.scope))
    return f"~{blake2b(meaning.encode(), digest_size=_MARK_BYTES).hexdigest()}"


def _made_up(dimension: str, wanted: str) -> bool:
    return wanted == EACH and is_unbounded(dimension)


def has_values(scope: Scope) -> bool:
    """Whether the scope counts values that callers can make up, so that their number must be bounded."""
    return any(_made_up(dimension, wanted) for dimension, wanted in scope)


def scope_words(pairs: Iterable[tuple[str, str]]) -> str:
    """`team:growth user:ann`; `each user` for EACH; `all` for no scope."""
    return " ".join(f"each {name}" if value == EACH else f"{name}:{value}" for name, value in pairs) or "all"
