"""`metadata.user_id`: an opaque name of the end user, or what Claude Code makes of it.

Claude Code packs three things into the one member, older versions as `user_<hash>_account_<uuid>_session_<uuid>`,
newer ones as a JSON object in a string. Taken whole, every conversation would be another user.
"""

from __future__ import annotations

import re

import msgspec

_PACKED = re.compile(r"(user_.+?)(?:_account_([0-9a-fA-F-]*))?_session_([0-9a-fA-F-]{8,64})")


class _Ids(msgspec.Struct):
    device_id: str = ""
    account_uuid: str = ""
    session_id: str = ""


_IDS = msgspec.json.Decoder(_Ids)


def read_user_id(said: str) -> tuple[str, str]:
    """(user, session) of a `metadata.user_id`; the session is empty where it names none."""
    if said.startswith("user_"):
        packed = _PACKED.fullmatch(said)
        return (packed.group(2) or packed.group(1), packed.group(3)) if packed is not None else (said, "")
    if said.startswith("{"):
        try:
            ids = _IDS.decode(said)
        except msgspec.DecodeError:
            return said, ""
        return ids.account_uuid or ids.device_id or said, ids.session_id
    return said, ""
