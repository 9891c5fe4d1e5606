"""What the process that orders a check asks of its children."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from edgeport.runtimes.devices import GpuOptions, device_kind
from edgeport.runtimes.session import Options
from edgeport.runtimes.tensorrt.library import Name


@dataclass(frozen=True, slots=True)
class Place:
    """A bundle on a backend on a device.

    Attributes:
        device: As in ``Options``.
    """

    bundle: Path
    backend: str
    device: str

    @property
    def options(self) -> Options:
        """What a session is asked for.

        Nodes that an engine can only compute on the CPU are accepted, and told: a check is to show
        what there is.
        """
        return Options(device=self.device, gpu=gpu_options(self.device))


@dataclass(frozen=True, slots=True)
class BuildEngine:
    """Build a TensorRT engine from the bundle's ONNX, into a copy of the bundle.

    Attributes:
        gpu: The number of the GPU that is checked.
    """

    bundle: Path
    library: Name
    to: Path
    gpu: int


@dataclass(frozen=True, slots=True)
class Prove:
    """Judge the golden samples, and on a GPU run one of them again and again."""

    place: Place


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Time the backends of a bundle beside one another."""

    bundle: Path
    backends: tuple[str, ...]
    device: str
    budget_s: float


@dataclass(frozen=True, slots=True)
class Soak:
    """Run the golden samples over and over, and look at memory and answers meanwhile."""

    place: Place
    seconds: float


def gpu_options(device: str) -> GpuOptions:
    """What every step asks of a GPU; of a CPU nothing can be asked."""
    return GpuOptions(allow_cpu_nodes=device_kind(device) == "cuda")


Task: TypeAlias = BuildEngine | Prove | Benchmark | Soak
