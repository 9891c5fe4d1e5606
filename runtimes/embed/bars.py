"""The largest error that each output of each golden sample may have: parity as plain numbers.

A program that knows them judges as ``edgeport verify`` does, without the rule that made them.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from edgeport.runtimes.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.session import EngineInfo
from edgeport.runtimes.signature import Signature
from edgeport.runtimes.thresholds import EDGE_LENIENCY, LARGEST_MAX_RATIO, Thresholds
from edgeport.runtimes.verification import check_session


@dataclass(frozen=True, slots=True)
class Bar:
    """What one output of one sample is compared with, and how far from it it may be.

    Attributes:
        reference: Which golden tensor is nearest to the truth. Integers and bools must equal it.
        rms, largest: Root mean square of all errors, and the largest error, in the output's unit.
    """

    reference: Literal["oracle", "eager"]
    rms: float
    largest: float


def bars(samples: Sequence[Golden], thresholds: Thresholds) -> list[dict[str, Bar]]:
    """The bars of every output, by sample.

    An error passes the rule of ``edgeport.runtimes.parity`` if it is at most the floor times the
    largest ratio; both are known once eager and oracle are.

    Raises:
        EngineError: Two samples have different outputs.
    """
    found: list[dict[str, Bar]] = []
    verdicts = iter(check_session(_Eager(samples), samples, thresholds))
    for sample in samples:
        ratio = thresholds.max_ratio * (EDGE_LENIENCY if sample.kind == "edge" else 1)
        ratio = min(ratio, LARGEST_MAX_RATIO)
        outputs = {}
        for name in sample.eager:
            figures = next(verdicts).figures
            outputs[name] = Bar(
                "oracle" if figures.rule == "oracle" else "eager",
                min(figures.floor_rms * ratio, sys.float_info.max),
                min(figures.floor_max * ratio, sys.float_info.max),
            )
        found.append(outputs)
    return found


class _Eager:
    """A session that answers what the module answered, sample after sample."""

    def __init__(self, samples: Sequence[Golden]) -> None:
        self.signature = Signature((), ())
        self.engine = EngineInfo("eager", "eager", "", "", "", "", 1)
        self._answers = iter([sample.eager for sample in samples])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The next answer."""
        return dict(next(self._answers))

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        pass
