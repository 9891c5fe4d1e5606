"""Every combination of what was asked for, and names that say what sets each apart."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.devices import GpuOptions, check_device
from edgeport.runtimes.errors import BackendMissingError, UsageError
from edgeport.runtimes.session import (
    BACKENDS,
    MOST_THREADS,
    is_expected,
    probe,
    require_device,
)

from .result import Unusable
from .setting import Setting, Variant
from .workload import Workload

MOST_VARIANTS: Final = 64
"""Every setting is a process with a session, and all of a generation live at a time."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is varied; every combination is a variant.

    Attributes:
        backends: Only these, and all of them; ``None`` for those that are usable here.
        batches: Rows of axis 0; ``None`` for one, or the fewest that all bundles take.
        sizes: Of other named dimensions.
        threads: As in ``Options``; ``None`` for the CPUs there are.
        spinning: Whether idle threads of ONNX Runtime look for work in a busy loop.
        devices: As in ``Options``; a backend takes those that it can run on.
        gpu: As in ``Options``, where a backend runs on a GPU.
        cuda_graph: Whether calls are recorded and replayed, where a backend can do that.
        engine_only: Whether to time each engine's own call beside the session's.
    """

    backends: tuple[str, ...] | None = None
    batches: tuple[int, ...] | None = None
    sizes: Mapping[str, tuple[int, ...]] | None = None
    threads: tuple[int | None, ...] = (None,)
    spinning: tuple[bool, ...] = (True,)
    engine_only: bool = False
    devices: tuple[str | None, ...] = (None,)
    gpu: GpuOptions = field(default_factory=GpuOptions)
    cuda_graph: tuple[bool, ...] = (False,)

    def __post_init__(self) -> None:
        for device in self.devices:
            check_device(device)
        numbers = [("batch", n) for n in self.batches or ()]
        numbers += [("threads", n) for n in self.threads if n is not None]
        numbers += [(name, n) for name, sizes in (self.sizes or {}).items() for n in sizes]
        for what, number in numbers:
            if number < 1:
                raise UsageError(f"{what} is {number}", remedy="give a number of at least 1")
        for number in filter(None, self.threads):
            if number > MOST_THREADS:
                raise UsageError(
                    f"{number} threads were asked for, expected 1 to {MOST_THREADS}",
                    remedy="leave it out to use every CPU that this process may use",
                )

    @property
    def workloads(self) -> list[Workload]:
        """Every combination of sizes."""
        names, sizes = list(self.sizes or {}), list((self.sizes or {}).values())
        return [
            Workload(batch, tuple(zip(names, each, strict=True)))
            for batch in self.batches or (1,)
            for each in itertools.product(*sizes)
        ]


def divide(
    bundles: Sequence[Bundle], asked: Sequence[str] | None, devices: Sequence[str | None] = (None,)
) -> tuple[tuple[str, ...], tuple[Unusable, ...]]:
    """Names of the backends to time, which all bundles have, and why others cannot be.

    Raises:
        UsageError: There is no such backend, or a bundle holds nothing for it, or it runs on none
            of the devices; or the bundles have none in common.
        BackendMissingError: A backend of ``asked`` is not usable here, or none is.
    """
    for bundle in bundles:
        for name in asked or ():
            bundle.artefact(name)  # raises if there is no such backend, or nothing for it
            if not _runs_on_any(name, devices):
                require_device(name, devices[0])
    shared = [b for b in bundles[0].backends if all(b in other.backends for other in bundles)]
    if not shared:
        raise UsageError(
            "the bundles have no backend in common: "
            + "; ".join(f"{b.path} has {', '.join(b.backends) or 'none'}" for b in bundles),
            remedy="export them with the same --format",
        )
    fitting = [name for name in shared if _runs_on_any(name, devices)]
    if None in devices:
        fitting = list(filter(is_expected, fitting))
    if not fitting:
        raise UsageError(
            f"{', '.join(shared)} do not run on {' or '.join(map(str, devices))}",
            remedy="leave the device out, or export the models in another format",
        )
    found = {
        (name, device): probe(name, device)
        for name in asked or fitting
        for device in filter(BACKENDS[name].runs_on, devices)
    }
    usable = tuple(dict.fromkeys(name for (name, _), a in found.items() if a.usable))
    unusable = tuple(
        Unusable(name if device is None else f"{name} on {device}", a.reason, a.remedy)
        for (name, device), a in found.items()
        if not a.usable
    )
    if unusable and asked:
        raise _missing("not usable here", unusable)
    if not usable:
        raise _missing("no backend of this bundle is usable here", unusable)
    return usable, unusable


def variants(bundles: Sequence[Bundle], backends: Sequence[str], sweep: Sweep) -> list[Variant]:
    """Every combination, with a label that says no more than what sets it apart.

    Raises:
        UsageError: There are too many, or none on a GPU of which something was asked.
    """
    found = [
        (
            Setting(bundle.path, backend, threads, spinning, engine_only, device=device, gpu=gpu),
            workload,
        )
        for bundle in bundles
        for backend in backends
        for device in usable_devices(backend, sweep.devices)
        for gpu in _on_gpu(backend, device, sweep)
        for threads in sweep.threads
        for spinning in (sweep.spinning if backend == "ort-cpu" else sweep.spinning[:1])
        for engine_only in ((False, True) if sweep.engine_only else (False,))
        for workload in sweep.workloads
    ]
    asked = sweep.gpu != GpuOptions() or any(sweep.cuda_graph)
    if asked and not any(BACKENDS[s.backend].on_gpu(s.device) for s, _ in found):
        raise UsageError(
            "an option of a GPU was given, and nothing runs on one",
            remedy="ask for a GPU: --device cuda; or leave the options of a GPU out",
        )
    if len(found) > MOST_VARIANTS:
        raise UsageError(
            f"{len(found)} combinations were asked for, at most {MOST_VARIANTS} are measured",
            remedy="vary less at a time",
        )
    names = _bundle_names(bundles)
    return [Variant(s, w, _label(s, w, sweep, names)) for s, w in found]


def _label(setting: Setting, workload: Workload, sweep: Sweep, names: Mapping[object, str]) -> str:
    parts = [setting.backend]
    if len(names) > 1:
        parts.insert(0, names[setting.bundle])
    if setting.engine_only:
        parts.append("engine only")
    if len(sweep.devices) > 1:
        parts.append(str(setting.device))
    if setting.gpu.cuda_graph:
        parts.append("CUDA graph")
    if len(sweep.threads) > 1:
        parts.append("all CPUs" if setting.threads is None else f"threads {setting.threads}")
    if len(sweep.spinning) > 1 and setting.backend == "ort-cpu":
        parts.append("spinning" if setting.spinning else "not spinning")
    if len(sweep.batches or ()) > 1:
        parts.append(f"batch {workload.batch}")
    swept = {name for name, sizes in (sweep.sizes or {}).items() if len(sizes) > 1}
    parts += [f"{name} {size}" for name, size in workload.sizes if name in swept]
    return " ".join(parts[:1]) + "".join(f", {part}" for part in parts[1:])


def _on_gpu(backend: str, device: str | None, sweep: Sweep) -> list[GpuOptions]:
    """What is asked of a GPU, in every way; nothing of a CPU."""
    if not BACKENDS[backend].on_gpu(device):
        return [GpuOptions()]
    graphs = sweep.cuda_graph if BACKENDS[backend].cuda_graphs else (False,)
    return [replace(sweep.gpu, cuda_graph=graph) for graph in graphs]


def usable_devices(backend: str, devices: Sequence[str | None]) -> list[str | None]:
    """Those on which a backend is to be timed."""
    return [d for d in devices if BACKENDS[backend].runs_on(d) and probe(backend, d).usable]


def _runs_on_any(name: str, devices: Sequence[str | None]) -> bool:
    return any(BACKENDS[name].runs_on(device) for device in devices)


def _bundle_names(bundles: Sequence[Bundle]) -> dict[object, str]:
    """The last part of each path, or all of it where two would be alike."""
    short = [bundle.path.name for bundle in bundles]
    alike = len(set(short)) < len(short)
    return {b.path: str(b.path) if alike else b.path.name for b in bundles}


def _missing(what: str, unusable: Sequence[Unusable]) -> BackendMissingError:
    remedies = dict.fromkeys(entry.remedy for entry in unusable if entry.remedy)
    return BackendMissingError(
        "; ".join([what, *(f"{entry.backend}: {entry.reason}" for entry in unusable)]),
        remedy="; ".join(remedies) or "edgeport doctor shows what works here",
    )
