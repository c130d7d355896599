"""What a request may use where nobody reads what it used: tools at the provider, and a response in the background."""

from __future__ import annotations

import msgspec

from gateway.core.call import Head
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.flow.services import Services
from gateway.flow.state import Attempt
from gateway.pricing.bound import NO_EXTRAS, Extras

_HOSTED = Extras(runs=None)
"""Tools at the provider, whose calls the request does not limit."""


def extras_of(head: Head) -> Extras:
    """What tools at the provider may add. Each call of one may be answered by another run of the model."""
    if not head.hosted_tools:
        return NO_EXTRAS
    most = head.tool_calls_max
    return _HOSTED if most is None else Extras(tuple([(meter, most) for meter in head.tool_meters]), most + 1)


def background_usage(services: Services, attempt: Attempt) -> Usage | None:
    """All that a response in the background may use: it goes on where nobody sees it. None for any other attempt.

    Tools without a limit to their calls count as one run of the model. It has a fault, and so no price, where the
    output has no known limit.
    """
    head, target = attempt.composed.head, attempt.target
    if not head.background:
        return None
    extras, region, at_ms = extras_of(head), target.provider.region, attempt.hold.ts_ms
    bound = services.prices.bound(head, target.sheet, at_ms, region, extras)
    meters = {Meter.INPUT: max(bound.input_bound, attempt.hold.input_estimate), Meter.OUTPUT: bound.output_bound}
    meters |= {Meter(meter): most or 0 for meter, most in extras.counts}
    fault = "" if bound.output_bound else "nobody knows how much a response in the background puts out"
    usage = Usage(
        {meter: quantity for meter, quantity in meters.items() if quantity}, UsageSource.ESTIMATED, fault=fault
    )
    asked = msgspec.structs.replace(usage, served_tier=head.service_tier)
    charge = services.prices.charge(asked, target.sheet, at_ms, head.service_tier, region, None)
    return usage if charge.effective_nusd is None else asked
