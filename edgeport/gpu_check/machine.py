"""The machine that is checked: its GPU, its driver, and the backends that may compute on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgeport.runtimes import Availability, probe
from edgeport.runtimes.bench import Environment
from edgeport.runtimes.bench.gpu import Card
from edgeport.runtimes.cuda.device import device as cuda_device
from edgeport.runtimes.devices import check_device, cuda_index, device_kind
from edgeport.runtimes.errors import BackendMissingError, EdgeportError
from edgeport.runtimes.nvml import Watch
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
    cuda, card = None, None
    if kind == "cuda":
        device = f"cuda:{cuda_index(device)}"
        cuda = _driver(device)
        try:
            card = Card(Watch(device).gpu)
        except EdgeportError as e:
            card = Card(None, e.problem)
    names = [name for name, entry in BACKENDS.items() if kind in entry.devices]
    machine = Machine(device, cuda, card, Environment.read(), {n: probe(n) for n in names})
    if not machine.usable:
        raise BackendMissingError(
            f"no backend can compute on {device}: {_missing(machine.backends)}",
            remedy="; ".join(a.remedy or "" for a in machine.backends.values()),
        )
    return machine


def _driver(device: str) -> str:
    try:
        return str(cuda_device(cuda_index(device)))
    except BackendMissingError as e:
        names = [name for name, entry in BACKENDS.items() if "cuda" in entry.devices]
        found = {name: probe(name) for name in names}
        missing = _missing({name: a for name, a in found.items() if not a.usable})
        raise BackendMissingError(
            f"there is nothing to check: {e.problem}" + (f"\n  also: {missing}" if missing else ""),
            remedy=f"{e.remedy}; --device cpu rehearses the check on the CPU",
        ) from e


def _missing(backends: Mapping[str, Availability]) -> str:
    return "; ".join(f"{name}: {found.reason}" for name, found in backends.items())
