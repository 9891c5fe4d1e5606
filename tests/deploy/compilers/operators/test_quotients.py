"""Sizes that torch does not know: what it is told of them is what Python answers."""

import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.deploy.compilers.operators import quotients
from edgeport.runtimes import EdgeportError, ExportError, Range

sympy: Any = import_module("sympy")  # neither has types
functions: Any = import_module("torch.utils._sympy.functions")

SIZE = sympy.Symbol("n", integer=True, positive=True)

_sum: Any = torch.sym_sum
_rest: Any = functions.PythonMod
_true: Any = functions.IntTrueDiv
_float: Any = functions.FloatTrueDiv
_widened: Any = functions.ToFloat(SIZE)


@pytest.mark.parametrize(
    ("number", "python"),
    [
        (_true(3 * SIZE + 1, 7), lambda n: (3 * n + 1) / 7),
        (_float(_widened, sympy.Float(3.0)), lambda n: n / 3.0),
        (_float(_widened, sympy.Float(0.5)), lambda n: n / 0.5),
        (sympy.Float(0.375) * _widened, lambda n: 0.375 * n),
    ],
)
def test_what_is_rounded_is_a_quotient_of_whole_numbers(
    number: Any, python: Callable[[int], float]
) -> None:
    roundings = (functions.TruncToInt, int), (functions.FloorToInt, math.floor)
    for kind, rounds in (*roundings, (functions.CeilToInt, math.ceil)):
        with quotients.known():
            told = kind(number)
        assert not told.has(functions.TruncToInt, functions.FloorToInt, functions.CeilToInt)
        sizes = (*range(1, 200), 2**31 - 1, 2**31)
        assert all(told.subs(SIZE, n) == rounds(python(n)) for n in sizes)


@pytest.mark.parametrize(
    "number",
    [
        sympy.Float(0.3) * _widened,  # no float is 0.3
        _float(sympy.Float(3.0) * _widened, sympy.Float(49.0)),  # rounded twice
        _true(SIZE - 5, 2),  # may be less than 0
        _true(SIZE, sympy.Symbol("m", integer=True, positive=True)),
    ],
)
def test_what_is_less_plain_is_left_to_torch(number: Any) -> None:
    with quotients.known():
        assert functions.TruncToInt(number).func is functions.TruncToInt


@pytest.mark.parametrize(
    ("missing", "python"),
    [
        (lambda: _rest(-SIZE, 4), lambda n: -n % 4),
        (lambda: functions.Mod(4 - functions.Mod(SIZE, 4), 4), lambda n: (4 - n % 4) % 4),
        (lambda: _rest(7 - 3 * SIZE, 4), lambda n: (7 - 3 * n) % 4),
        (lambda: _rest(5 - functions.FloorDiv(SIZE, 2), 8), lambda n: (5 - n // 2) % 8),
    ],
)
def test_what_is_missing_to_a_multiple_is_told_by_a_quotient(
    missing: Callable[[], Any], python: Callable[[int], int]
) -> None:
    with quotients.known():
        told = missing()
    assert not told.has(functions.Mod, functions.PythonMod)
    assert quotients.is_missing(functions, told)
    assert all(told.subs(SIZE, n) == python(n) for n in range(1, 100))


def test_how_long_a_range_downwards_is() -> None:
    with quotients.known():
        assert functions.CeilToInt(_float(functions.ToFloat(1 - 2 * SIZE), sympy.Float(-1.0))) == (
            2 * SIZE - 1
        )


def test_what_is_filled_up_is_no_less() -> None:
    with quotients.known():
        filled = SIZE + _rest(-SIZE, 4)
        assert functions.Min(SIZE, filled) == functions.Min(filled, SIZE) == SIZE
        assert functions.Max(SIZE, filled) == filled
        other = sympy.Symbol("m", integer=True, positive=True)
        assert functions.Min(other, filled).func is functions.Min
        assert functions.Mod(SIZE, 4).func is functions.Mod
        assert _rest(SIZE - other, 4).func is functions.PythonMod


def test_parts_of_a_size_are_counted() -> None:
    with quotients.known():
        other = sympy.Symbol("k", integer=True, positive=True)
        assert functions.FloorDiv(3 * SIZE - 1, SIZE) == 2
        assert functions.FloorDiv(6 * SIZE * SIZE * other, 2 * SIZE) == 3 * SIZE * other
        assert functions.FloorDiv(3 * SIZE, 2 * other).func is functions.FloorDiv
        unknown = sympy.Symbol("m", integer=True)  # may be negative
        assert functions.FloorDiv(3 * unknown - 1, unknown).func is functions.FloorDiv
        assert functions.FloorDiv(3 * SIZE - 2, SIZE).func is functions.FloorDiv


class Chunks(nn.Module):
    """Sums over windows, as of a state space or of sliding attention."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        batch, time, width = x.shape
        missing = (6 - time % 6) % 6
        if missing > 0:
            x = torch.nn.functional.pad(x, (0, 0, 0, missing))
        assert x.shape[1] % 6 == 0
        count: Any = torch.div(x.shape[1], 6, rounding_mode="trunc")
        x = x.view(batch, count, 6, width)
        x = (x.cumsum(1) - x.mean(2, keepdim=True)).view(batch, int(count * 6), width)
        return x[:, :time] if missing > 0 else x


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["onnx", "torchscript", "pt2"])
def test_filling_up_to_windows_may_be_a_branch(format_: str, tmp_path: Path) -> None:
    deploy.export(
        Chunks(), {"x": torch.randn(2, 9, 4)}, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "batch", 1: "time"}}, ranges={"time": Range(1, 41)},
    )  # fmt: skip  # one call


class ChunksOtherwise(Chunks):
    """Is another function where nothing is missing: at none of 1, 2, 7, 9, 32 and 41."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        return super().forward(x) + (1 if (6 - x.shape[1] % 6) % 6 > 0 else 0)


@pytest.mark.slow
def test_filling_up_is_no_branch_that_a_capture_may_lose(tmp_path: Path) -> None:
    with pytest.raises(EdgeportError, match="time=6"):
        deploy.export(
            ChunksOtherwise(), {"x": torch.randn(2, 9, 4)}, tmp_path / "m.edge", formats=["pt2"],
            dimensions={"x": {0: "batch", 1: "time"}}, ranges={"time": Range(1, 41)},
        )  # fmt: skip  # one call


class Windows(nn.Module):
    """As of a Swin transformer; torch.jit.script takes no ``**options``."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        count = int(x.shape[0] * x.shape[1] / 4.0)
        return x.view(count, 4, -1).sum(1)


class Rounds(nn.Module):
    def forward(self, x: Tensor, **options: Any) -> tuple[Tensor, ...]:
        n = x.shape[1]
        behind = math.ceil(n / 8) * 8 - n
        return (
            torch.nn.functional.pad(x, (0, behind)),
            x[:, math.floor(0.25 * n) : math.ceil(0.75 * n)].sum(1),
            x[:, : math.ceil(n / x.shape[0])].sum(1),
        )


class RoundsForNothing(nn.Module):
    """As of Demucs, whose length is rounded up whether it went through a quotient or not."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        n = x.shape[1]
        behind = math.ceil(4 * n) + math.floor(n * n) + round(n + 1) + round(math.ceil(n / 3))
        return torch.nn.functional.pad(x, (0, behind))


@pytest.mark.usually("module2")
@pytest.mark.parametrize("module", [Windows(), Rounds(), RoundsForNothing()])
def test_a_size_that_is_rounded_stays_free_in_every_format(
    module: nn.Module, tmp_path: Path
) -> None:
    deploy.export(
        module, {"x": torch.randn(2, 12)}, tmp_path / "m.edge",
        dimensions={"x": {0: "rows", 1: "width"}}, ranges={"width": Range(4, 64, step=4)},
    )  # fmt: skip  # one call


ROUNDED = {
    "floor": lambda n: math.floor(n * 0.7),
    "ceil": lambda n: math.ceil(n / 0.7),
    "round": lambda n: round(n * 0.35),
    "halves": lambda n: round(n / 2),
    "below 0": lambda n: math.floor(0.7 * (20 - n)) + math.ceil(0.7 * (20 - n)) + 600,
    "halves below 0": lambda n: round((20 - n) / 2) + 400,
    "root": lambda n: math.ceil(math.sqrt(n)),
}


class Numbered(nn.Module):
    def __init__(self, count: Callable[[int], int]) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return torch.arange(self.count(x.shape[1])) + x[:, :1]


@pytest.mark.usually("root")
@pytest.mark.parametrize("name", ROUNDED)
def test_what_is_rounded_by_way_of_floats_is_in_a_pt2(name: str, tmp_path: Path) -> None:
    module = Numbered(ROUNDED[name])
    made = deploy.export(
        module, {"x": torch.randn(2, 12)}, tmp_path / "m.edge", formats=["pt2"],
        dimensions={"x": {1: "width"}}, ranges={"width": Range(4, 400)},
    )  # fmt: skip  # one call
    with made.bundle.open("torch") as session:
        for width in (*range(4, 60), 90, 170, 190, 399):
            x = torch.randn(2, width)
            (found,) = session.run({"x": x.numpy()}).values()
            assert torch.equal(torch.tensor(found), module(x))


class Capacity(nn.Module):
    """As of a mixture of experts: a quotient of a float, and 1 for up to three rows."""

    def forward(self, x: Tensor) -> Tensor:
        each = math.ceil(1.25 * x.shape[0] / 4)
        return functional.one_hot(x[:, 0].round().long() % each, each) + x[:, :1] * each


def test_a_quotient_of_a_float_may_be_a_size_of_one(tmp_path: Path) -> None:
    module = Capacity()
    made = deploy.export(
        module, {"x": torch.randn(6, 8)}, tmp_path / "m.edge", formats=["onnx"],
        dimensions={"x": {0: "rows"}},
    )  # fmt: skip  # one call
    with made.bundle.open("ort-cpu") as session:
        for rows in range(1, 14):
            x = 9 * torch.randn(rows, 8)
            (found,) = session.run({"x": x.numpy()}).values()
            torch.testing.assert_close(torch.tensor(found), module(x))


class RoundsOtherwise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, : int(10 * round(0.3 * x.shape[1], 1))].sum(1)


@pytest.mark.slow
def test_what_no_file_holds_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        deploy.export(
            RoundsOtherwise(), {"x": torch.randn(2, 12)}, tmp_path / "m.edge", formats=["pt2"],
            dimensions={"x": {1: "width"}},
        )  # fmt: skip  # one call
    told = str(caught.value)
    assert "round() of a size that went through floats" in told
    assert "x[:, : int(10 * round(0.3 * x.shape[1], 1))].sum(1)" in told
    assert "-(-n // 4) in place of math.ceil(n / 4)" in caught.value.remedy


class Sums(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x.new_ones(_sum([x.shape[0], y.shape[0], 2]))


def test_long_sums_of_sizes_are_written_out() -> None:
    free = {0: torch.export.Dim.DYNAMIC}
    captured = torch.export.export(
        Sums(), (torch.ones(3), torch.ones(4)), dynamic_shapes=(free, free)
    )
    quotients.write_out(captured)
    assert all(node.target is not torch.sym_sum for node in captured.graph.nodes)
    assert captured.module()(torch.ones(5), torch.ones(6)).shape == (13,)
