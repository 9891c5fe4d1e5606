"""Where a benchmark ran: without it a latency is a number about nothing."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeport import __version__
from edgeport.runtimes.cpus import available_cpus


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine and the versions.

    Attributes:
        cpus: CPUs this process may use.
        load_average: Of the last minute, before the first call: the other work on the machine.
    """

    edgeport: str
    python: str
    numpy: str
    platform: str
    cpu_model: str
    cpus: int
    load_average: float

    @classmethod
    def read(cls) -> "Environment":
        """Look around now."""
        return cls(
            edgeport=__version__,
            python=platform.python_version(),
            numpy=np.__version__,
            platform=platform.platform(),
            cpu_model=_cpu_model(),
            cpus=available_cpus(),
            load_average=os.getloadavg()[0],
        )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):  # arm64 boards name themselves in "Model"
            return value.strip()
    return platform.processor() or platform.machine()
