"""A TCP proxy that disturbs: put between any two real peers, told at run time what to do to their bytes."""

from benchmarks.faultproxy.faults import CLEAN, Fault, Flow
from benchmarks.faultproxy.proxy import FaultProxy

__all__ = ["CLEAN", "Fault", "FaultProxy", "Flow"]
