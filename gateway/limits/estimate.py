"""What a call is expected to use at most, for limits with `hold: estimate`: far below its bound, and not proven."""

from __future__ import annotations

EXPECTED_OUTPUT_TOKENS = 1024
"""Few answers are longer, and what a longer one costs is spent all the same: a limit that holds estimates can be
overshot by what its running calls use beyond them."""


def estimated_hold(
    bound_nusd: int, input_bound: int, output_bound: int, input_estimate: int, choices: int
) -> tuple[int, int]:
    """(nano-USD, tokens) of a call whose bound is known, from the tokens its text is estimated at; at most the bound.

    The money is that share of the bound which the larger of the two token shares is: it covers input and output at
    any rates, since the bound is input × rate + output × rate.
    """
    inputs = min(input_bound, input_estimate)
    outputs = min(output_bound, EXPECTED_OUTPUT_TOKENS * max(1, choices))
    nusd = max(_share(bound_nusd, inputs, input_bound), _share(bound_nusd, outputs, output_bound))
    return nusd, inputs + outputs


def _share(amount: int, part: int, whole: int) -> int:
    return -(-amount * part // whole) if whole else 0
