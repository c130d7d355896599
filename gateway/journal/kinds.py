"""Record types as plain integers, and what appending one must look at. Hashing an enumeration member costs more than a
checksum."""

from __future__ import annotations

from gateway.core.records import ADMITTING as ADMITTING_TYPES
from gateway.core.records import TYPE_OF, RecordType

PLAIN, ADMITTING, SHEDDABLE, ENDING = 0, 1, 2, 3
HOLD = int(RecordType.HOLD)
SETTLE = int(RecordType.SETTLE)
HANDOVER = int(RecordType.HANDOVER)
_CARE = dict.fromkeys(ADMITTING_TYPES, ADMITTING) | {RecordType.PROGRESS: SHEDDABLE, RecordType.SETTLE: ENDING}
KINDS = {cls: (int(kind), _CARE.get(kind, PLAIN)) for cls, kind in TYPE_OF.items()}
"""(type, care) of a record's class."""
