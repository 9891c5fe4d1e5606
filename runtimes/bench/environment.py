"""Where a benchmark ran: without it a latency is a number about nothing."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edgeport import __version__
from edgeport.runtimes.cpus import available_cpus

_CPUINFO: Final = Path("/proc/cpuinfo")
_GOVERNOR: Final = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_MEMORY: Final = Path("/proc/meminfo")
_ONE_CGROUP: Final = Path("/proc/1/cgroup")
_DOCKER: Final = Path("/.dockerenv")
_PODMAN: Final = Path("/run/.containerenv")

TELLING_FLAGS: Final = (
    "sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16",
    "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "sve", "i8mm",
    "bf16", "hypervisor",
)  # fmt: skip
"""Those that decide which kernels an engine takes, and whether the machine is a virtual one."""

_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "GOMP_SPINCOUNT", "KMP_BLOCKTIME",
    "KMP_AFFINITY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_CONF", "LD_PRELOAD",
)  # fmt: skip
"""They change how engines run without anybody seeing it."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine and the versions.

    Attributes:
        cpu_flags: Those of ``TELLING_FLAGS`` that the CPU has.
        cpus: CPUs this process may use, by affinity and by its cgroup's quota.
        affinity: Their numbers, as far as the kernel lets it run there.
        governor: Of the clock of CPU 0; ``None`` where it isn't told, as on most virtual machines.
        memory_bytes: Of the machine; ``None`` where it isn't told.
        container: Its kind, or ``None`` outside of one, as far as can be seen.
        load_average: Of the last minute, before the first call: the other work on the machine.
        variables: Environment variables that change how engines run.
    """

    edgeport: str
    python: str
    numpy: str
    platform: str
    cpu_model: str
    cpu_flags: tuple[str, ...]
    cpus: int
    affinity: tuple[int, ...]
    governor: str | None
    memory_bytes: int | None
    container: str | None
    load_average: float
    variables: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls) -> Environment:
        """Look around now."""
        told = _text(_CPUINFO)
        return cls(
            edgeport=__version__,
            python=platform.python_version(),
            numpy=np.__version__,
            platform=platform.platform(),
            cpu_model=_cpu_model(told),
            cpu_flags=_flags(told),
            cpus=available_cpus(),
            affinity=_affinity(),
            governor=_text(_GOVERNOR).strip() or None,
            memory_bytes=_memory_bytes(),
            container=_container(),
            load_average=os.getloadavg()[0],
            variables=tuple((n, os.environ[n]) for n in _THREAD_VARIABLES if n in os.environ),
        )


def _cpu_model(told: str) -> str:
    for line in told.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):  # arm64 boards name themselves in "Model"
            return value.strip()
    return platform.processor() or platform.machine()


def _flags(told: str) -> tuple[str, ...]:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", told, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    return tuple(flag for flag in TELLING_FLAGS if flag in flags)


def _affinity() -> tuple[int, ...]:
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def _memory_bytes() -> int | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB$", _text(_MEMORY), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _container() -> str | None:
    if _DOCKER.exists():
        return "docker"
    if _PODMAN.exists():
        return "podman"
    found = re.search(r"docker|kubepods|containerd|lxc", _text(_ONE_CGROUP))
    return found[0] if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""
