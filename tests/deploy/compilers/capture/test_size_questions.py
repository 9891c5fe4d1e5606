"""Branches that torch.export does not compare with a range have both ways or are refused."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from torch import Tensor, nn
from torch.utils._sympy import functions

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.capture import program, special_sizes
from edgeport.deploy.compilers.capture.size_questions import AskedSizeError
from edgeport.deploy.compilers.capture.special_sizes import MODULES
from edgeport.runtimes import EdgeportError, Range

FREE = {"x": {0: "batch", 1: "time"}}
FORMATS = [("onnx", "ort-cpu", "converted"), ("pt2", "torch", "script")]
STEPS = {"time": Range(4, step=4)}


class Large(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.numel() > 100_000 else x + 1


class Side(nn.Module):
    """Sizes that went through floats."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if math.sqrt(x.shape[0] * x.shape[1]) > 300 else x + 1


class Asks(nn.Module):
    """TorchScript takes no function from a table."""

    def __init__(self, question: str) -> None:
        super().__init__()
        self.question = question

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if QUESTIONS[self.question](x.shape[0] * x.shape[1]) else x + 1


QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "root": lambda n: n**0.5 > 300,
    "quotient": lambda n: n / 7 > 1000,
    "rounded": lambda n: round(n * 0.3) > 2000,
    "up": lambda n: math.ceil(n / 3) > 3000,
    "bits": lambda n: n & 8192 != 0,
    "shifted": lambda n: n >> 10 > 8,
    "cube": lambda n: n**3 > 10**12,
    "growth": lambda n: (n / 8) ** 90 > 1e250,  # of more than 20,000 it raises
}


def test_every_number_that_torch_makes_of_sizes_is_computed() -> None:
    made = {n for n, c in vars(functions).items() if sympy.Function in getattr(c, "__mro__", ())}
    of_sympy = {"Function"}
    of_memory = {"ModularIndexing", "IsNonOverlappingAndDenseIndicator"}  # how it is laid out
    assert made - of_sympy - of_memory <= MODULES[0].keys()


class Area(nn.Module):
    """What holds for every size is no branch, nor what 0 and 1 alone answer otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = x.shape
        y = x.reshape(-1) if rows * columns >= 0 and rows * columns != 1 else x.flatten()
        return y.reshape(columns, rows) if columns * rows == x.numel() else y


class Long(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[1] // 4 > 700 else x + 1


class Blocks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        blocks = x.reshape(*x.shape[:-1], -1, 4)
        if x.shape[1] % 4 != 0 or blocks.shape[1] < 1:
            return x
        return blocks.flatten(1) + blocks.mean((1, 2)).unsqueeze(1)


class LongBlocks(nn.Module):
    """TorchScript takes no options."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        blocks = x.reshape(*x.shape[:-1], -1, 4)
        return x * 2 if blocks.shape[1] > 700 else x + 1


class Slope(nn.Module):
    """TorchScript takes no function as an argument."""

    def forward(self, x: Tensor) -> Tensor:
        slope: Tensor = torch.func.grad(lambda y: (y**3).sum())(x)
        return slope * 2 if x.shape[1] > 8000 else slope + 1


class Cells(nn.Module):
    """Its one size is above all that are tried in any range."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[0] * x.shape[1] > 80_000 else x + 1


def export(module: nn.Module, path: Path, **options: Any) -> list[tuple[str, str]]:
    events: list[Any] = []
    deploy.export(
        module, {"x": torch.randn(2, 24)}, path, dimensions=FREE, on_event=events.append, **options
    )
    return [(e.route, e.outcome) for e in events if isinstance(e, deploy.Attempt)]


@pytest.mark.usually("onnx-ort-cpu-converted-product")
@pytest.mark.parametrize("module", [Large(), Side()], ids=["product", "root"])
@pytest.mark.parametrize(("format_", "backend", "route"), FORMATS)
def test_a_branch_on_two_sizes_has_both_ways(
    module: nn.Module, format_: str, backend: str, route: str, tmp_path: Path
) -> None:
    tried = export(module, tmp_path / "m.edge", formats=[format_])
    assert tried[-1] == (route, "proved")
    x = np.full((50, 9000), 3, np.float32)
    with runtimes.open(tmp_path / "m.edge", backend=backend) as session:
        np.testing.assert_array_equal(session.run({"x": x})["output"], x * 2)


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_computed_of_sizes_is_asked_too(question: str) -> None:
    source = deploy.source_of("m", Asks(question), {"x": torch.randn(2, 24)}, dimensions=FREE)
    with pytest.raises(AskedSizeError, match=" is asked, which not all sizes answer alike"):
        program.capture(source)


@pytest.mark.slow
def test_a_branch_that_no_file_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeportError, match="pt2: Asks cannot be compiled: forward asks whether "):
        export(Asks("cube"), tmp_path / "m.edge", formats=["pt2"])


def test_a_recorded_run_tells_which_sizes_go_another_way(tmp_path: Path) -> None:
    made = deploy.export(
        Asks("cube"), {"x": torch.randn(2, 24)}, tmp_path / "m.edge", dimensions=FREE,
        formats=["torchscript"],
    )  # fmt: skip  # one call
    assert (
        "torchscript: one run was recorded, which has one way alone where forward asks whether "
        "batch**3*time**3 <= 1000000000000, which not all sizes answer alike: what is larger than "
        "was tried may be wrong; declare the largest there is"
    ) in made.notes


@pytest.mark.usually("onnx")
@pytest.mark.parametrize(("format_", "backend", "route"), FORMATS)
def test_a_branch_on_a_size_with_a_step_has_both_ways(
    format_: str, backend: str, route: str, tmp_path: Path
) -> None:
    tried = export(Long(), tmp_path / "m.edge", formats=[format_], ranges=STEPS)
    assert tried[-1] == (route, "proved")
    x = np.full((1, 4000), 3, np.float32)
    with runtimes.open(tmp_path / "m.edge", backend=backend) as session:
        np.testing.assert_array_equal(session.run({"x": x})["output"], x * 2)


@pytest.mark.slow
def test_a_branch_on_a_size_with_a_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeportError, match="forward asks whether time/4 <= 700, which not all "):
        export(LongBlocks(), tmp_path / "m.edge", formats=["pt2"], ranges=STEPS)


@pytest.mark.slow
def test_what_all_multiples_answer_alike_is_no_branch(tmp_path: Path) -> None:
    tried = export(Blocks(), tmp_path / "m.edge", formats=["onnx", "pt2"], ranges=STEPS)
    assert tried == [("dynamo", "proved"), ("export", "proved")]


def test_what_all_sizes_answer_alike_is_no_branch(tmp_path: Path) -> None:
    tried = export(Area(), tmp_path / "m.edge", formats=["onnx", "pt2"])
    assert tried == [("dynamo", "proved"), ("export", "proved")]


@pytest.mark.slow
def test_a_branch_beside_derivatives_is_named(tmp_path: Path) -> None:
    told = (
        r"pt2: Slope cannot be compiled: forward asks whether time <= 8000, which not all sizes "
        r"answer alike\n[\s\S]*"
        r"  fix: declare ranges of the sizes in which it goes one way; or do without the branch on "
        r"the sizes$"
    )
    with pytest.raises(EdgeportError, match=told):
        export(Slope(), tmp_path / "m.edge", formats=["pt2"])
    within = {"time": Range(1, 8000)}
    tried = export(Slope(), tmp_path / "m.edge", formats=["pt2"], ranges=within)
    assert tried == [("export", "proved")]


@pytest.mark.slow
def test_the_ends_of_ranges_are_asked_of_too(tmp_path: Path) -> None:
    ranges = {"batch": Range(1, 9), "time": Range(2000, 9999)}
    path = tmp_path / "m.edge"
    x = np.full((2, 2100), 3, np.float32)
    made = {"x": torch.from_numpy(x)}
    deploy.export(Cells(), made, path, dimensions=FREE, ranges=ranges, formats=["pt2"])
    with runtimes.open(path, backend="torch") as session:
        for rows, columns in ((9, 9999), (9, 2000), (8, 9999), (9, 8900)):
            x = np.full((rows, columns), 3, np.float32)
            expected = x * 2 if rows * columns > 80_000 else x + 1
            np.testing.assert_array_equal(session.run({"x": x})["output"], expected)


class Grid(nn.Module):
    """Places of a trained size, resized for others; TorchScript takes no function from a table."""

    places: Tensor

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("places", torch.arange(48.0).sin().reshape(1, 3, 4, 4))
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        y = HALVED["last"](x)
        height, width = y.shape[2:]
        if height * width == 16 and height == width:
            return y + self.places * self.factor
        return y + nn.functional.interpolate(self.places, (height, width), mode="bicubic")


class Reshapes(nn.Module):
    """What samples have, 4 x 4, stays as it is; 2 x 8 does not."""

    def forward(self, x: Tensor) -> Tensor:
        y = HALVED["last"](x)
        return y.reshape(len(x), 3, 4, 4) if y.shape[2] * y.shape[3] == 16 else y


HALVED: dict[str, Callable[[Tensor], Tensor]] = {"last": lambda x: x[:, :, ::2, ::2]}


def captured(module: nn.Module) -> torch.export.ExportedProgram:
    x, free = torch.randn(2, 3, 8, 8), {"x": {0: "batch", 2: "height", 3: "width"}}
    ranges = {"height": Range(4, 24, step=2), "width": Range(4, 24, step=2)}
    source = deploy.source_of("m", module.eval(), {"x": x}, dimensions=free, ranges=ranges)
    return special_sizes.captured(source)


def test_a_branch_on_several_sizes_may_compute_the_same() -> None:
    """The example is of the trained size, and a sample is as large."""
    module = Grid()
    program = captured(module).module(check_guards=False)
    for sizes in ((8, 8), (4, 16), (10, 10)):
        x = torch.randn(1, 3, *sizes)
        torch.testing.assert_close(program(x)[0], module(x))


@pytest.mark.usually("another shape")
@pytest.mark.parametrize("module", [Grid(2.0), Reshapes()], ids=["another value", "another shape"])
def test_a_branch_on_several_sizes_that_computes_something_else(module: nn.Module) -> None:
    with pytest.raises(AskedSizeError, match="is asked, which not all sizes answer alike"):
        captured(module)
