"""What ranges of values are measured on is not what the proof has alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.calibration import calibration_of
from edgeport.deploy.exporter import source_of
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import EdgeportError, ParityError, Range, SourceError
from edgeport.runtimes.inputs import Array

BATCH = {"x": {0: "batch"}}


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y


def rows(count: int, start: int = 0) -> dict[str, Array]:
    numbers = np.arange(start, start + count, dtype=np.float32)
    return {"x": numbers[:, None] * np.ones(4, np.float32)}


def source(*samples: dict[str, Array], free: bool = True, least: int = 1) -> Source:
    return source_of(
        "m",
        Head(),
        {"x": rows(3)["x"]},
        BATCH if free else {},
        {"batch": Range(least)} if free else {},
        samples=samples,
    )


def measured_on(source: Source, *given: dict[str, Array]) -> list[float]:
    return [float(row[0]) for part in calibration_of(source, given).inputs for row in part["x"]]


def test_half_of_the_rows_of_one_sample() -> None:
    found = calibration_of(source(rows(200)), ())
    assert measured_on(source(rows(200))) == [*range(0, 200, 2)]
    assert max(len(part["x"]) for part in found.inputs) <= 32
    assert found.origin == "of 100 rows, half of the samples"
    assert not found.doubts


def test_every_second_of_several_samples() -> None:
    three = [rows(2), rows(2, 10), rows(2, 20)]
    assert measured_on(source(*three)) == [0, 1, 20, 21]
    found = calibration_of(source(rows(3), rows(3, 10), free=False), ())
    assert found.origin == "of 1 sample, half of the samples"


def test_the_one_row_there_is_and_few_are_doubted() -> None:
    found = calibration_of(source(rows(1)), ())
    assert found.origin == "of 1 row, which the proof has too"
    assert found.doubts == (
        "int8: ranges of values were measured on 1 row, and others may leave them: give a hundred "
        "real ones or more with --calibration, or twice as many with --samples",
    )


@pytest.mark.parametrize(("scale", "doubted"), [(255, True), (0, True), (0.1, True), (3, False)])
def test_another_scale_than_that_of_the_samples_is_doubted(scale: float, doubted: bool) -> None:
    found = calibration_of(source(rows(100)), [{"x": rows(100)["x"] * np.float32(scale)}])
    told = f"int8: 'x' gets as far as {99 * scale:.3g} in the calibration and 99 in the samples"
    assert [doubt.startswith(told) for doubt in found.doubts] == [True] * doubted


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_no_range_holds_is_refused(value: float, tmp_path: Path) -> None:
    broken = {"x": np.full((3, 4), value, np.float32)}
    with pytest.raises(SourceError, match="calibration 1 has NaN or Inf in 'x'") as raised:
        deploy.export(
            Head(), rows(3), tmp_path / "m.edge", dimensions=BATCH, precision="int8",
            samples=[rows(3)], calibration=[rows(3), broken],
        )  # fmt: skip  # one thing
    assert raised.value.remedy == "leave out the rows that have them"


def test_a_calibration_that_was_tried_in_vain_is_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv1d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 40)
    )
    large = {"input": np.random.default_rng(0).normal(0, 100, (64, 1, 8)).astype(np.float32)}
    made = deploy.export(
        module, large, tmp_path / "m.edge", dimensions={"input": {0: "batch"}},
        precision="int8", samples=[large], calibration=[{"input": large["input"] / 1000}],
    )  # fmt: skip  # one thing
    assert any(note.startswith("int8: 'input' gets as far as 0.3") for note in made.notes)
    assert (
        "calibration was not used: a file with its ranges is wrong, and this one measures its "
        "ranges in each call" in made.notes
    )


def test_what_is_drawn_is_no_sample_of_the_proof() -> None:
    drawn = source()
    proof = {row.tobytes() for s in drawn.samples if s.kind != "edge" for row in s.inputs["x"]}
    found = calibration_of(drawn, ())
    assert found.origin == "of 48 rows, drawn"
    assert not proof & {row.tobytes() for part in found.inputs for row in part["x"]}


def test_what_is_given_is_taken_whole_and_of_many_some_from_everywhere() -> None:
    assert measured_on(source(rows(3)), rows(5, 50)) == [50, 51, 52, 53, 54]
    found = calibration_of(source(rows(3)), [rows(10_000)])
    taken = [float(part["x"][0, 0]) for part in found.inputs]
    assert found.origin == "of 2,013 rows, given as calibration"
    assert taken[-1] > 9_000


def test_rows_that_the_model_does_not_take_are_repeated() -> None:
    found = calibration_of(source(rows(10), least=8), ())
    assert {len(part["x"]) for part in found.inputs} == {8, 32}
    assert {float(row[0]) for part in found.inputs for row in part["x"]} == {0, 2, 4, 6, 8}


def test_rows_that_are_columns_too_stay_together() -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, x: Tensor, near: Tensor) -> Tensor:
            y: Tensor = self.linear(near @ x)
            return y

    nodes = {"x": rows(70)["x"], "near": np.eye(70, dtype=np.float32)}
    free = {"x": {0: "nodes"}, "near": {0: "nodes", 1: "nodes"}}
    graph = source_of("m", Graph(), nodes, free, samples=[nodes])
    (part,) = calibration_of(graph, ()).inputs
    assert part["near"].shape == (70, 70)


@pytest.mark.parametrize(
    ("options", "given", "problem"),
    [
        ({}, rows(3), "calibration was given, and nothing is made in int8"),
        ({"precision": "int8"}, rows(3), "calibration was given without samples"),
        (
            {"precision": "int8", "samples": [rows(3)]},
            {"x": np.zeros((3, 5), np.float32)},
            "calibration 0 does not fit the declared inputs",
        ),
    ],
)
def test_calibration_is_for_int8_and_like_samples(
    options: dict[str, Any], given: dict[str, Array], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(EdgeportError, match=problem):
        deploy.export(
            Head(), rows(3), tmp_path / "m.edge", dimensions=BATCH, calibration=[given], **options
        )


def test_how_far_off_is_told_before_what_has_no_kernel(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    large = {"input": np.random.default_rng(0).normal(0, 100, (64, 1, 8)).astype(np.float32)}
    small = {"input": large["input"] / 1000}
    with pytest.raises(ParityError, match=r"signal-to-noise ratio is (?s:.*) refused: 0% of its"):
        deploy.export(
            module, large, tmp_path / "m.edge", dimensions={"input": {0: "batch"}},
            precision="int8", samples=[large], calibration=[small],
        )  # fmt: skip  # one thing
