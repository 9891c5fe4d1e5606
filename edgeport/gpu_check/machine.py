"""The machine that is checked: its GPU, its driver, and the backends that may compute on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgeport.runtimes import Availability, probe
from edgeport.runtimes.bench import Environment
from edgeport.runtimes.bench.gpu import Card
from edgeport.runtimes.cuda.gpus import gpus
from edgeport.runtimes.cuda.nvml import Watch
from edgeport.runtimes.devices import check_device, cuda_index, device_kind, no_such_gpu
from edgeport.runtimes.errors import BackendMissingError, EdgeportError
from edgeport.runtimes.session import BACKENDS


@dataclass(frozen=True, slots=True)
class Machine:
    """What is known before the first step.

    Attributes:
        device: ``"cuda:0"``, or ``"cpu"`` for a rehearsal.
        cuda: What the CUDA driver says of the GPU, in a line; ``None`` in a rehearsal.
        card: What NVML says of it.
        backends: Those that can be told to compute there, and whether they are usable.
    """

    device: str
    cuda: str | None
    card: Card | None
    environment: Environment
    backends: Mapping[str, Availability]

    @property
    def rehearsal(self) -> bool:
        """Whether nothing here says anything about a GPU."""
        return device_kind(self.device) == "cpu"

    @property
    def usable(self) -> tuple[str, ...]:
        """Names of the backends to check."""
        return tuple(name for name, found in self.backends.items() if found.usable)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        return {
            "device": self.device,
            "cuda": self.cuda,
            "card": None if self.card is None else asdict(self.card),
            "environment": asdict(self.environment),
            "backends": {name: asdict(found) for name, found in self.backends.items()},
        }


def look(device: str) -> Machine:
    """Look at a device and at what can use it.

    Raises:
        UsageError: There is no such device.
        BackendMissingError: There is no GPU, or no backend that can compute on it: each is named,
            with what is missing.
    """
    check_device(device)
    kind = device_kind(device)
    names = [name for name, entry in BACKENDS.items() if kind in entry.devices]
    found = {name: probe(name, kind) for name in names}
    cuda = _driver(device, found) if kind == "cuda" else None
    if not any(available.usable for available in found.values()):
        raise BackendMissingError(
            f"no backend can compute on {device}: {_missing(found)}",
            remedy="; ".join(available.remedy or "" for available in found.values()),
        )
    card = None
    if kind == "cuda":
        device = f"cuda:{cuda_index(device)}"
        try:
            card = Card(Watch(device).gpu)  # last: it starts CUDA, and then nothing can be forked
        except EdgeportError as e:
            card = Card(None, e.problem)
    return Machine(device, cuda, card, Environment.read(), found)


def _driver(device: str, backends: Mapping[str, Availability]) -> str:
    """The GPU and its driver, as CUDA names them."""
    try:
        there = gpus()
        index = cuda_index(device)
        if index >= len(there.names):
            raise no_such_gpu(index, len(there.names))
    except BackendMissingError as e:
        missing = _missing({name: a for name, a in backends.items() if not a.usable})
        raise BackendMissingError(
            f"there is nothing to check: {e.problem}" + (f"\n  also: {missing}" if missing else ""),
            remedy=f"{e.remedy}; --device cpu rehearses the check on the CPU",
        ) from e
    return "{}, CUDA up to {}.{}".format(there.names[index], *there.cuda)


def _missing(backends: Mapping[str, Availability]) -> str:
    return "; ".join(f"{name}: {found.reason}" for name, found in backends.items())
