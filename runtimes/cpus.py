"""How many CPUs this process may use."""

import os
import re
import sys
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")


def available_cpus() -> int:
    """CPUs this process may use: the smaller of its affinity and its cgroup's quota (version 2).

    Engines size their thread pools from the host's cores, which in a container is too many.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lines = _text(_OWN_CGROUP).splitlines()
    folder = _CGROUPS / next((line[4:] for line in lines if line.startswith("0::/")), "")
    for place in (folder, *folder.parents):  # a group has no more than those above it
        if place.is_relative_to(_CGROUPS):
            cpus = min(cpus, _granted_cpus(_text(place / "cpu.max")))
    return max(1, cpus)


def _granted_cpus(text: str) -> int:
    """Read ``cpu.max``: "50000 100000" is half of one CPU; "max 100000", or no file, no limit."""
    match = re.fullmatch(r"(\d+) ([1-9]\d*)\s*", text)
    return sys.maxsize if match is None else round(int(match[1]) / int(match[2]))


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, ValueError):
        return ""
