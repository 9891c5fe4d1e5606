"""Requests are put together only where shapes and golden samples say that it changes nothing."""

from collections.abc import Mapping
from typing import Self

import numpy as np

from edgeport.runtimes import Range, Signature, TensorSpec
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.null import NullSession
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.serve.batching import batch_axis, most_rows
from edgeport.runtimes.serve.counters import MOST_BATCH


def signature(*shapes: tuple[int | str, ...], range_: Range | None = None) -> Signature:
    specs = [TensorSpec(name, "float32", s) for name, s in zip("xy", shapes, strict=True)]
    return Signature((specs[0],), (specs[1],), {"n": range_} if range_ else {})


class Doubles(NullSession):
    """Doubles its input, less the mean over the rows if it is to know of them."""

    mean = False

    def __enter__(self) -> Self:
        return self

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        y = inputs["x"] * 2
        return {"y": y - y.mean(0) if self.mean else y}


class Means(Doubles):
    mean = True


def rows_together(kind: type[Doubles], range_: Range | None = None) -> int:
    session = kind(signature(("n", 2), ("n", 2), range_=range_), 1)
    draw = np.random.default_rng(0)
    samples = []
    for rows in (1, 3):
        inputs = {"x": draw.normal(size=(rows, 2)).astype(np.float32)}
        samples.append(Golden(f"{rows}", "real", inputs, session.run(inputs), {}))
    return most_rows(session, samples, Thresholds())


def test_rows_that_know_nothing_of_each_other_go_together() -> None:
    assert rows_together(Doubles) == MOST_BATCH
    assert rows_together(Doubles, Range(1, 8)) == 8


def test_rows_that_know_of_each_other_stay_alone() -> None:
    assert rows_together(Means) == 1


def test_rows_that_have_a_step_stay_alone() -> None:
    assert rows_together(Doubles, Range(1, 9, step=3)) == 1


def test_one_free_dimension_must_lead_everything_and_be_nowhere_else() -> None:
    assert batch_axis(signature(("n", 2), ("n",))) == "n"
    for shapes in ((("n", "n"), ("n",)), (("n", 2), (2,)), ((1, 2), (1,)), (("n",), ("m",))):
        assert batch_axis(signature(*shapes)) is None
    assert batch_axis(signature((), ("n",))) is None
