"""Measure latency, honestly: interleaved rounds, intervals over rounds, raw samples kept.

Calls that follow one another are not independent and machines drift, so rounds spread over the
run are the unit of every interval, and backends are compared round by round.
"""

from .environment import Environment
from .latency import benchmark
from .measure import Measurement, measure
from .result import BackendLatency, Result, Unusable

__all__ = [
    "BackendLatency",
    "Environment",
    "Measurement",
    "Result",
    "Unusable",
    "benchmark",
    "measure",
]
