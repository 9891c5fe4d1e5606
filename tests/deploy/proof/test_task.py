"""Scores by labels: which metric, and when it is worse than noise allows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeport.deploy import Values, make_call, make_source
from edgeport.deploy.proof.task import Task, _chance, describe
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import Range, SourceError, TensorSpec
from edgeport.runtimes.inputs import Array

ROWS = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)


class Net(nn.Module):
    """Answers with its input as it is, or with classes on axis 1 of an image."""

    def __init__(self, image: bool = False) -> None:
        super().__init__()
        self.image = image

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, None, None].expand(-1, -1, 2, 3) if self.image else x * 1


def source(module: nn.Module, rows: Array = ROWS, range_: Range | None = None) -> Source:
    return make_source(
        "m", module.eval(), make_call(module, (), {"x": torch.zeros(2, 4)}),
        [TensorSpec("x", "float32", ("batch", 4))], {"batch": range_ or Range()},
        values=Values([{"x": rows[:60]}, {"x": rows[60:]}]),
    )  # fmt: skip  # one call


class Backend:
    """Answers with other logits on some of the rows, of which it gets parts in order."""

    def __init__(self, change: Array) -> None:
        self._change = change
        self.rows: list[int] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        x = inputs["x"]
        start = sum(self.rows)
        self.rows.append(len(x))
        return {"output": x + self._change[start : start + len(x)].reshape(-1, *[1] * (x.ndim - 1))}


class Flips:
    def __init__(self, lost: int) -> None:
        self._left = lost

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        x = inputs["x"].copy()
        wrong = min(self._left, len(x))
        x[:wrong] *= -1
        self._left -= wrong
        return {"output": x}


@pytest.mark.parametrize(("lost", "passed"), [(0, True), (6, True), (7, False), (50, False)])
def test_accuracy_may_fall_by_what_chance_does(lost: int, passed: bool) -> None:
    backend: Any = Flips(lost)
    score = Task(source(Net()), ROWS.argmax(-1)).score("b", backend)
    assert (score.metric, score.module, score.rows) == ("accuracy", 1.0, 100)
    assert (score.lost, score.gained) == (lost, 0)
    assert score.artefact == pytest.approx(1 - lost / 100)
    assert score.passed == passed
    assert describe([score]) == [
        f"b: accuracy {1 - lost / 100:.4g}, the module's is 1, on 100 labels; {lost} lost, 0 gained"
    ]


@pytest.mark.parametrize(("growth", "passed"), [(0.0, True), (0.001, True), (0.5, False)])
def test_a_squared_error_may_grow_by_little(growth: float, passed: bool) -> None:
    noise = np.random.default_rng(1).standard_normal(ROWS.shape).astype(np.float32)
    backend: Any = Backend(np.full(100, growth, np.float32))
    score = Task(source(Net()), ROWS + 0.3 * noise - 0.1).score("b", backend)
    assert score.metric == "mse"
    assert score.passed == passed
    assert score.module == pytest.approx(0.1, rel=0.1)
    assert "mse" in describe([score])[0]


def test_classes_may_be_on_axis_one() -> None:
    classes = np.broadcast_to(ROWS.argmax(1)[:, None, None], (100, 2, 3))

    class Same:
        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            return {
                "output": np.broadcast_to(inputs["x"][:, :, None, None], (*inputs["x"].shape, 2, 3))
            }

    backend: Any = Same()
    score = Task(source(Net(image=True)), classes).score("b", backend)
    assert (score.module, score.artefact, score.rows) == (1.0, 1.0, 600)


@pytest.mark.parametrize(
    ("range_", "most"),
    [
        (Range(1, 8), 8),
        (Range(), 32),
        (Range(25, 40), 40),
        (Range(4, 12, step=4), 12),
        (Range(step=5), 30),
        (Range(step=20), 20),
    ],
)
def test_rows_are_run_in_sizes_that_are_allowed(range_: Range, most: int) -> None:
    backend: Any = Backend(np.zeros(100, np.float32))
    Task(source(Net(), range_=range_), ROWS.argmax(-1)).score("b", backend)
    assert sum(backend.rows) == 100
    assert range_.min <= min(backend.rows)
    assert max(backend.rows) <= most
    assert all(rows in range_ for rows in backend.rows)


@pytest.mark.parametrize(
    ("range_", "rows", "told"),
    [
        (Range(step=2), 7, r"7 rows, and the model takes batch in 2\.\. in s.*\n  fix: leave 1 of"),
        (
            Range(4, 8, step=4),
            7,
            r"takes batch in 4\.\.8 in steps of 4\n  fix: leave 3 of its rows",
        ),
        (Range(15, 25), 28, r"28 rows, and the model takes batch in 15\.\.25\n  fix: leave 3 of"),
        (Range(step=20), 9, r"has 9 rows, .*\n  fix: give 20 rows at least in each sample"),
    ],
)
def test_rows_with_labels_that_fit_no_batch(range_: Range, rows: int, told: str) -> None:
    labels = ROWS.argmax(-1)[: 60 + rows]
    with pytest.raises(SourceError, match=told):
        Task(source(Net(), ROWS[: 60 + rows], range_), labels)


@pytest.mark.parametrize(
    "labels", [np.zeros(99, int), np.zeros((100, 4), int), np.zeros(100), np.array(["a"] * 100)]
)
def test_labels_that_fit_nothing(labels: Array) -> None:
    with pytest.raises(SourceError, match=r"do not fit the first output, float32\[100, 4\]"):
        Task(source(Net()), labels)


def test_labels_need_samples() -> None:
    module = Net()
    call = make_call(module, (), {"x": torch.zeros(2, 4)})
    bare = make_source("m", module, call, [TensorSpec("x", "float32", ("batch", 4))], {})
    with pytest.raises(SourceError, match="there are labels, but no samples"):
        Task(bare, np.zeros(3, int))


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_chance_is_the_binomial_tail(heads: int, more: int) -> None:
    tosses = heads + more
    exact = _chance(heads, tosses)
    assert 0 < exact <= 1
    assert _chance(0, tosses) == 1
    if heads:
        assert exact <= _chance(heads - 1, tosses)
        assert exact + _chance(tosses - heads + 1, tosses) == pytest.approx(1)
