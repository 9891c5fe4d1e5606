"""What the localiser found: data for a report, and lines for a person."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgeport.runtimes.formats import records
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.distances import rms

VERSION: Final = 1
"""Of what ``to_json`` gives."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A tensor in four figures; of a large one, of an even sample of its elements.

    Attributes:
        rms, max: Over the finite elements; ``max`` is of the magnitude.
        nan_count, inf_count: Elements that are no number, or infinite.
    """

    rms: float
    max: float
    nan_count: int
    inf_count: int

    @classmethod
    def of(cls, array: Array) -> "Summary":
        """Summarise an array of numbers."""
        wide = array.astype(np.float64)
        finite = np.abs(wide[np.isfinite(wide)])
        size = rms(finite) if finite.size else 0.0
        peak = float(finite.max(initial=0.0))
        return cls(size, peak, int(np.isnan(wide).sum()), int(np.isinf(wide).sum()))


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input, weight or output of the operator that went wrong.

    Attributes:
        role: ``input``, ``weight`` or ``output``.
        name: In the artefact, or in the module where the artefact has none.
        shape: In the artefact, or in the module where the artefact has none.
        eager, oracle, backend: What each holds; ``None`` where it has no such tensor.
        ratio: Error over floor; ``None`` where there is nothing to compare.
    """

    role: str
    name: str
    shape: tuple[int, ...]
    eager: Summary | None
    oracle: Summary | None
    backend: Summary | None
    ratio: float | None


@dataclass(frozen=True, slots=True)
class WalkStep:
    """One value of the module on the way through it, as the backend has it.

    Attributes:
        depth: Its place in the order of execution, from 0.
        name: Path of the module that computed it; ``""`` for the outermost.
        operator: Of torch.
        node: Of the artefact; ``""`` where it has no names.
        floor, error: ``floor_rms`` and ``error_rms`` of ``runtimes.parity.Figures``.
        ratio: As there.
    """

    depth: int
    name: str
    operator: str
    node: str
    floor: float
    error: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Localisation:
    """The first value of the module that an artefact does not have.

    Attributes:
        format: Of the artefact.
        backend: Which engine.
        sample: On which sample.
        module: Path of the module, as ``get_submodule`` takes it; ``""`` for the outermost.
        kind: Its class.
        fused: Further modules whose work the artefact does in the same operator.
        source: The user's line.
        torch_operator: What computes the value in the module.
        node, operator: What computes it in the artefact; ``None`` if nothing does.
        levels: ONNX Runtime's graph optimisation level -> whether the outputs are right there;
            a level that was not run is as its neighbours.
        tensors: Inputs, weights and outputs of the operator.
        walk: Values on the way through the module, right ones and wrong ones.
        reproduced: Whether the operator alone, given right inputs, answers wrongly: ``None`` if
            that could not be tried.
        repro: Files of the small case: name -> content. Not in ``to_json``.
        notes: What limits the finding, in sentences.
    """

    format: str
    backend: str
    sample: str
    module: str
    kind: str
    fused: tuple[str, ...]
    source: str | None
    torch_operator: str
    node: str | None
    operator: str | None
    levels: Mapping[str, bool]
    tensors: tuple[Tensor, ...]
    walk: tuple[WalkStep, ...]
    reproduced: bool | None
    repro: Mapping[str, bytes]
    notes: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The module, for a person: ``features.0 (Conv2d)``."""
        return f"{self.module} ({self.kind})" if self.module else self.kind

    @property
    def failing_levels(self) -> tuple[str, ...]:
        """The graph optimisation levels at which the outputs are wrong."""
        return tuple(level for level, right in self.levels.items() if not right)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``; a figure that is infinite becomes ``None``."""
        told: dict[str, Any] = records.to_json(self)
        del told["repro"]
        return {"localisation_version": VERSION, **told}

    def place_lines(self) -> Iterator[str]:
        """Where it is, as ``name  value`` lines."""
        fused = f", fused with {', '.join(self.fused)}" if self.fused else ""
        yield f"  diverges  {self.place}{fused}"
        if self.source:
            yield f"  source    {self.source}"
        yield f"  computes  {self.torch_operator}{self._node()}"
        yield f"  backend   {self.backend}{self._levels()}; sample {self.sample!r}"
        for note in self.notes:
            yield f"  note      {note}"

    def lines(self) -> Iterator[str]:
        """Where it is, and what goes in and comes out there."""
        yield from self.place_lines()
        for tensor in self.tensors:
            yield f"  {tensor.role:<10}{_tensor(tensor)}"
        if self.reproduced is not None:
            told = "wrong" if self.reproduced else "right: the fault is in what comes together here"
            yield f"  alone     given the module's own inputs, it is {told}"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _node(self) -> str:
        if self.operator is None:
            return "; the artefact computes nothing like it"
        name = f" {self.node}" if self.node else ""
        return f"; in the artefact {self.operator}{name}"

    def _levels(self) -> str:
        failing = self.failing_levels
        if not self.levels or len(failing) == len(self.levels):
            return ""
        return f", only at graph optimisation level {', '.join(failing)}"


def _tensor(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    parts = [
        f"{who} {_summary(found)}"
        for who, found in (
            ("eager", tensor.eager),
            ("oracle", tensor.oracle),
            ("backend", tensor.backend),
        )
        if found is not None
    ]
    ratio = "" if tensor.ratio is None else f"; error {tensor.ratio:.3g} floors"
    return f"{tensor.name} [{shape}]: {', '.join(parts)}{ratio}"


def _summary(summary: Summary) -> str:
    odd = "".join(
        f" {count} {name}"
        for count, name in ((summary.nan_count, "NaN"), (summary.inf_count, "Inf"))
        if count
    )
    return f"rms {summary.rms:.4g} max {summary.max:.4g}{odd}"
