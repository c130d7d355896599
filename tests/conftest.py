"""Fixtures that every room may use."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
"""Shared fakes are imported by their path below `tests/`: `from live.running import running`."""
