"""``edgeport doctor``: which backends work here, which don't, why, and what mends it."""

import argparse
import json
import platform
from dataclasses import asdict, dataclass
from typing import Any

from edgeport import __version__
from edgeport.commands.terminal import coloured, show, table
from edgeport.runtimes import Availability, probe
from edgeport.runtimes.cpus import available_cpus
from edgeport.runtimes.session import BACKENDS


@dataclass(frozen=True, slots=True)
class DoctorArgs:
    """What ``edgeport doctor`` was asked."""

    as_json: bool


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "doctor", help="show which backends work here, and what mends the others"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=lambda arguments: run(DoctorArgs(arguments.json)))
    return parser


def run(args: DoctorArgs) -> int:
    """Probe every backend and print what was found."""
    found = {name: probe(name) for name in BACKENDS if name != "null"}
    machine = {
        "edgeport": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": available_cpus(),
        **_gpus(),
    }
    if args.as_json:
        backends = {name: asdict(availability) for name, availability in found.items()}
        show(json.dumps({"doctor_version": 1, **machine, "backends": backends}))
    else:
        show(_render(machine, found))
    return 0


def _gpus() -> dict[str, Any]:
    """What NVIDIA's driver says, and why not if it says nothing."""
    from edgeport.runtimes.cuda.gpus import gpus
    from edgeport.runtimes.errors import EdgeportError

    try:
        found = gpus()
    except EdgeportError as e:
        return {"gpus": [], "driver_cuda": None, "no_gpu": e.problem}
    names = [
        f"{name}, compute capability {capability}"
        for name, capability in zip(found.names, found.capabilities, strict=True)
    ]
    return {"gpus": names, "driver_cuda": list(found.cuda), "no_gpu": None}


def _gpu_lines(machine: dict[str, Any]) -> list[str]:
    if not machine["gpus"]:
        return [f"no GPU: {machine['no_gpu'].removeprefix('a GPU is needed, and ')}"]
    major, minor = machine["driver_cuda"]
    lines = [f"cuda:{index}: {name}" for index, name in enumerate(machine["gpus"])]
    return [*lines, f"the NVIDIA driver runs CUDA up to {major}.{minor}"]


def _render(machine: dict[str, Any], found: dict[str, Availability]) -> str:
    rows = [
        [
            name,
            "yes" if a.usable else "no",
            f"{a.engine} {a.version or ''}".strip(),
            a.provider or "",
            BACKENDS[name].format,
        ]
        for name, a in found.items()
    ]
    lines = [
        f"edgeport {machine['edgeport']}, Python {machine['python']}, {machine['platform']}",
        f"{machine['cpus']} CPUs may be used; that is the default number of threads",
        *_gpu_lines(machine),
        "",
        table(["backend", "usable", "engine", "provider", "opens"], rows),
    ]
    missing = {name: a for name, a in found.items() if not a.usable}
    if not machine["gpus"]:
        idle = [name for name in missing if not BACKENDS[name].runs_on("cpu")]
        missing = {name: a for name, a in missing.items() if name not in idle}
        lines += ["", f"{', '.join(idle)}: for an NVIDIA GPU, and there is none here"]
    for remedy in dict.fromkeys(a.remedy for a in missing.values()):
        alike = {name: a.reason for name, a in missing.items() if a.remedy == remedy}
        lines += ["", *(f"{coloured(name, 'bold')}: {why}" for name, why in alike.items())]
        lines.append(f"  fix: {remedy}")
    return "\n".join(lines)
