"""Twenty runs of one sample: the same bits or not, and how far apart."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from edgeport.runtimes import EngineInfo, Signature, TensorSpec
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.repeats import RUNS, Repeats, distance, repeat
from edgeport.runtimes.parity.report import BackendReport, OutputFacts
from edgeport.runtimes.parity.thresholds import Precision, Thresholds
from edgeport.runtimes.parity.verification import check_session
from edgeport.runtimes.session import Closes

SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("n",)),),
    (TensorSpec("y", "float32", ("n",)), TensorSpec("label", "int64", ())),
)
ENGINE = EngineInfo("ort-cuda", "onnxruntime", "1", "CUDAExecutionProvider", "cuda:0", "float32", 1)


class Engine(Closes):
    """Adds to each answer what it is told, call by call."""

    signature, engine = SIGNATURE, ENGINE

    def __init__(self, change: Callable[[int, Array], Array] = lambda call, y: y) -> None:
        self._change = change
        self.sizes: list[int] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.sizes.append(inputs["x"].size)
        y = self._change(len(self.sizes), answer(inputs["x"]).astype(np.float32))
        return {"y": y, "label": np.int64(y.argmax())}  # type: ignore[dict-item]  # as a 0-d array

    def close(self) -> None: ...


def answer(x: Array) -> Array:
    return np.sqrt(np.abs(x.astype(np.float64))) / 3


@pytest.fixture
def samples() -> list[Golden]:
    found = []
    for kind, size in (("real", 8), ("edge", 99), ("real", 70)):
        x = np.random.default_rng(size).normal(size=size).astype(np.float32)
        y = answer(x)
        eager = {"y": y.astype(np.float32), "label": np.array(y.argmax())}
        found.append(Golden(f"{kind} {size}", kind, {"x": x}, eager, {"y": y}))  # type: ignore[arg-type]  # the two kinds
    return found


def measured(engine: Engine, samples: list[Golden], reduced: Precision | None = None) -> Repeats:
    verdicts = check_session(engine, samples, Thresholds(max_ratio=1e9), reduced)
    engine.sizes.clear()
    return repeat(engine, samples, verdicts, reduced)


def test_the_same_bits(samples: list[Golden]) -> None:
    engine = Engine()
    found = measured(engine, samples)
    assert found == Repeats("real 70", RUNS, 1, None, 0.0)
    assert engine.sizes == [70] * RUNS  # the largest that is no edge case
    assert str(found) == "20 runs on sample 'real 70' gave the same bits"
    assert found.problem(Thresholds()) is None


def test_answers_that_differ_are_counted_in_floors(samples: list[Golden]) -> None:
    (floor,) = (
        verdict.figures.floor_max
        for verdict in check_session(Engine(), samples, Thresholds())
        if (verdict.sample, verdict.output) == ("real 70", "y")
    )
    engine = Engine(lambda call, y: y + np.float32(call % 3 * 100 * floor))
    found = measured(engine, samples)
    assert (found.distinct, found.output) == (3, "y")
    assert found.largest == pytest.approx(100, rel=0.05)  # from the first, which is in the middle
    assert "gave 3 different answers, at most" in str(found)
    assert found.problem(Thresholds(max_ratio=60)) is None  # two answers may be on both sides
    problem = found.problem(Thresholds(max_ratio=8))
    assert problem is not None
    assert problem.startswith("20 runs on sample 'real 70' gave 3 different answers: output 'y' di")


def test_a_narrower_precision_has_a_larger_floor(samples: list[Golden]) -> None:
    def change(call: int, y: Array) -> Array:
        return y + np.float32(call % 2 * 1e-4)

    plain, tf32 = measured(Engine(change), samples), measured(Engine(change), samples, "tf32")
    assert plain.largest == pytest.approx(8192 * tf32.largest)


def test_integers_and_nan_cannot_be_counted(samples: list[Golden]) -> None:
    found = measured(Engine(lambda call, y: np.roll(y, call % 2)), samples)
    assert found.largest == math.inf
    report = BackendReport("ort-cuda", "m.onnx", "pass", engine=ENGINE, repeats=found)
    verdicts = check_session(Engine(), samples, Thresholds())
    facts = [OutputFacts("y", False, math.inf), OutputFacts("label", False, math.inf)]
    told = BackendReport("ort-cuda", "m.onnx", "pass", engine=ENGINE, verdicts=verdicts)
    assert told.judged(facts, Thresholds()).outcome == "pass"
    bad = BackendReport(
        "ort-cuda", "m.onnx", "pass", engine=ENGINE, verdicts=verdicts, repeats=report.repeats
    ).judged(facts, Thresholds())
    assert bad.outcome == "fail"
    assert "20 runs on sample 'real 70' gave 2 different answers" in str(bad.reason)


floats = hnp.arrays(np.float32, hnp.array_shapes(max_dims=2))


@given(floats)
def test_an_answer_is_at_no_distance_from_itself(array: Array) -> None:
    assert distance(array, array.copy(), 1e-9) == 0


@given(floats)
def test_another_place_of_a_nan_is_any_distance(array: Array) -> None:
    other = np.where(np.isnan(array), 0, np.nan).astype(np.float32)
    assert distance(array, other, 1.0) == math.inf
    assert distance(array, array[None], 1.0) == distance(array, array.astype("f8"), 1.0) == math.inf
