"""Policy: a key may ask only for the models it names (patterns with `*`); a key that names none may ask for any.

An alias is allowed by its own name, or because the model it stands for is.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from gateway.core.call import Head
from gateway.core.caller import Caller
from gateway.core.config import Policy
from gateway.core.verdict import Verdict


class AllowedModels:
    """core.ports.Guard on the model asked for."""

    __slots__ = ()
    name = "allowed_models"
    _ALLOW = Verdict("allow", "allowed_models")

    def check(self, caller: Caller, head: Head, body: bytes, policy: Policy) -> Verdict:
        names = caller.key.models
        if not names:
            return self._ALLOW
        route = policy.models.get(head.model)
        asked = {head.model, route.alias_of if route is not None else ""} - {""}
        if any(fnmatchcase(model, _literal(name)) for name in names for model in asked):
            return self._ALLOW
        return Verdict(
            "deny",
            self.name,
            reason=f"This key may not use the model {head.model!r}. It may use: {', '.join(names[:20])}.",
        )


def _literal(pattern: str) -> str:
    """Only `*` stands for something in a model's pattern; to fnmatch `?` and `[` would too."""
    if "[" not in pattern and "?" not in pattern:
        return pattern
    return pattern.replace("[", "[[]").replace("?", "[?]")


MEMBER = AllowedModels()
