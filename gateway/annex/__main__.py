"""`python -P -m gateway.annex --socket PATH < spec.json`: the annex in an environment that has litellm."""

from __future__ import annotations

import os
import sys

from gateway.annex.environment import QUIET
from gateway.annex.serving import run


def main() -> int:
    os.environ.update(QUIET)  # before the import: litellm reads most of them while it loads
    try:
        from gateway.annex.litellm_engine import LitellmEngine
    except ImportError as error:
        print(
            f"faregate annex: {error}. Run `make annex`, or install faregate[litellm], and let FAREGATE_ANNEX_PYTHON "
            "name an interpreter that has it.",
            file=sys.stderr,
        )
        return 3
    return run(LitellmEngine)


if __name__ == "__main__":
    sys.exit(main())
