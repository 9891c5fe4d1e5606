"""Measure latency, honestly: fresh processes, interleaved rounds, intervals, raw samples kept.

Calls that follow one another are not independent, machines drift, and two processes of one
program differ. So processes and rounds are the units of every interval, and what is compared is
compared round by round.
"""

from .compared import Comparison
from .environment import Environment
from .latency import benchmark
from .result import Latency, Result, Unusable
from .setting import Closed, Cold, OpenLoop, Paced, Peak
from .sweep import Sweep

__all__ = [
    "Closed",
    "Cold",
    "Comparison",
    "Environment",
    "Latency",
    "OpenLoop",
    "Paced",
    "Peak",
    "Result",
    "Sweep",
    "Unusable",
    "benchmark",
]
