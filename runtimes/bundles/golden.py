"""Golden samples: inputs with the answers of the eager module and of the float64 oracle.

They travel in the bundle as one safetensors file, so that any device can ask again whether its
engine computes what the module computed. A tensor's key is ``INDEX/ROLE/NAME``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from edgeport.runtimes.errors import FormatError
from edgeport.runtimes.formats.safetensors import read_safetensors
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.comparison import measure
from edgeport.runtimes.parity.figures import Figures

from .manifest import Kind

MOST_NOISE: Final = 8
"""A floor is raised to so many times itself at most: where a step is near, noise has no bound."""

_FLUSHED: Final = float(np.finfo(np.float32).tiny)
"""Below it, engines may take a number for zero, or square it to zero: an edge case is no reason to
refuse them. Not float16's own: its smallest normal number is 6e-5."""

_ROLES: Final = ("input", "eager", "oracle", "noise")
_KEY: Final = re.compile(r"(0|[1-9][0-9]{0,8})/(input|eager|oracle|noise)/(.+)")


@dataclass(frozen=True, slots=True)
class Golden:
    """One sample with its reference answers.

    Attributes:
        name: What it is: ``"real, batch=7"``.
        kind: Where its values come from.
        inputs: By input name.
        eager: By output name: the module in its own precision.
        oracle: By output name: the module in float64; an output may be missing.
        gap: Why one is missing, in a sentence.
        noise: By output name: how far from the oracle eager may be, rms and largest, float64 [2],
            where its own distance is more luck than measure.
    """

    name: str
    kind: Kind
    inputs: Mapping[str, Array]
    eager: Mapping[str, Array]
    oracle: Mapping[str, Array]
    gap: str | None = None
    noise: Mapping[str, Array] = field(default_factory=dict)

    def measure(self, name: str, actual: Array) -> Figures:
        """Compare what a backend answers for one output with the reference.

        Args:
            name: Of the output.
            actual: The backend's.
        """
        figures = measure(actual, self.eager[name], self.oracle.get(name))
        if figures.rule == "float32":
            return replace(figures, gap=self.gap)
        return self.with_noise(name, figures)

    def with_noise(self, name: str, figures: Figures) -> Figures:
        """Raise the floors of figures on an edge case to its noise.

        Args:
            name: Of the output.
            figures: What was measured on it, or on a part of it.
        """
        if figures.rule == "exact" or self.kind != "edge":
            return figures
        rms, peak = (float(size) for size in self.noise.get(name, (0, 0)))
        return replace(
            figures,
            floor_rms=_raised(figures.floor_rms, rms, figures.dtype),
            floor_max=_raised(figures.floor_max, peak, figures.dtype),
        )


def _raised(floor: float, noise: float, dtype: str) -> float:
    flushed = min(float(np.finfo(dtype).tiny), _FLUSHED)
    return max(floor, min(noise, MOST_NOISE * floor), flushed)


def to_tensors(samples: Sequence[Golden]) -> dict[str, Array]:
    """Name every tensor of the samples for one safetensors file.

    Each is C-contiguous: ``safetensors.numpy.save`` 0.8 writes whatever lies behind a transposed
    or broadcast array's address, without an error.
    """
    return {
        f"{index}/{role}/{name}": np.asarray(array, order="C")
        for index, sample in enumerate(samples)
        for role, tensors in zip(_ROLES, _tensors(sample), strict=True)
        for name, array in tensors.items()
    }


def _tensors(sample: Golden) -> tuple[Mapping[str, Array], ...]:
    return sample.inputs, sample.eager, sample.oracle, sample.noise


def from_safetensors(
    data: bytes, file: str, labels: Sequence[tuple[str, Kind]], gap: str | None = None
) -> tuple[Golden, ...]:
    """Read the samples back.

    Args:
        data: The content of the safetensors file.
        file: What to call it in an error.
        labels: Name and kind of each sample, from the manifest.
        gap: Why oracles are missing, from there too.

    Raises:
        FormatError: The file is damaged or does not hold the samples that ``labels`` name.
    """
    found: list[dict[str, dict[str, Array]]] = [{role: {} for role in _ROLES} for _ in labels]
    for key, array in read_safetensors(data, file).items():
        match = _KEY.fullmatch(key)
        if match is None or int(match[1]) >= len(found):
            raise FormatError(
                f"{file} holds {key!r}, which belongs to no golden sample",
                remedy="export the model again",
            )
        found[int(match[1])][match[2]][match[3]] = array
    samples = tuple(
        Golden(
            name,
            kind,
            tensors["input"],
            tensors["eager"],
            tensors["oracle"],
            gap,
            tensors["noise"],
        )
        for (name, kind), tensors in zip(labels, found, strict=True)
    )
    for sample in samples:
        _check_oracle(sample, file)
        _check_noise(sample, file)
    return samples


def _check_oracle(sample: Golden, file: str) -> None:
    for name, array in sample.oracle.items():
        if name not in sample.eager or sample.eager[name].shape != array.shape:
            raise FormatError(
                f"{file}: sample {sample.name!r} has an oracle for {name!r} that fits no output",
                remedy="export the model again",
            )


def _check_noise(sample: Golden, file: str) -> None:
    for name, sizes in sample.noise.items():
        fits = name in sample.eager and sizes.shape == (2,) and sizes.dtype == np.float64
        if not (fits and np.isfinite(sizes).all() and (sizes >= 0).all()):
            raise FormatError(
                f"{file}: sample {sample.name!r} has a noise for {name!r} that is none",
                remedy="export the model again",
            )
