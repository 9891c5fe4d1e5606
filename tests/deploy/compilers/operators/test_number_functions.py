"""Functions of numbers that are made of values give what Python's give."""

import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.capture.recorded import with_values
from edgeport.deploy.compilers.operators.number_functions import FUNCTIONS
from edgeport.runtimes import ValuesError

BACKENDS = {"onnx": "ort-cpu", "torchscript": "libtorch", "pt2": "torch"}
EDGES = (0.0, -0.0, 0.5, 1.0, -1.0, 3.7, -250.3, 8.0, 2.0**29, 1000.0, 1e15, 1e300, 1e-300)
OF_TWO = {"atan2", "copysign", "fmod", "hypot", "isclose", "pow"}


class OfValues(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        found = self.function(*x.tolist())
        return torch.full((1,), {True: found}[True], dtype=torch.float64)


@pytest.mark.parametrize("name", sorted(each.__name__ for each in FUNCTIONS))
def test_functions_are_those_of_python(name: str) -> None:
    function: Any = lambda *given: getattr(math, name)(*given)  # noqa: E731  # which is replaced
    count = 2 if name in OF_TWO else 1
    module = OfValues(function)
    example = torch.full((count,), 1.25 if name == "acosh" else 0.5, dtype=torch.float64)
    source = deploy.source_of("m", module, {"x": example})
    run: Any = with_values(source).program.module()
    values = [*EDGES, math.inf, -math.inf, math.nan]
    values = [0.5, 1.0, 3.7, 8.0, 40.0] if name == "pow" else values  # of others pow() may raise
    pairs = [(a, b) for a in values for b in values] if count == 2 else [(a,) for a in values]
    for given in pairs:
        x = torch.tensor(given, dtype=torch.float64)
        try:
            expected = module(x)
        except (ValueError, OverflowError):
            with pytest.raises(RuntimeError, match="another way through forward"):
                run(x)
            continue
        torch.testing.assert_close(run(x)[0], expected, equal_nan=True, msg=str(given))


@pytest.mark.parametrize("digits", [2, 0, -1])
def test_numbers_are_rounded_to_digits(digits: int) -> None:
    module = OfValues(lambda number: round(number, digits))
    source = deploy.source_of("m", module, {"x": torch.tensor([0.5], dtype=torch.float64)})
    run: Any = with_values(source).program.module()
    for number in (0.0, 0.125, 2.675, -3.14159, 25.0, 35.0, 1e16 / 3, 1e307, math.inf, math.nan):
        x = torch.tensor([number], dtype=torch.float64)
        torch.testing.assert_close(
            run(x)[0], module(x), rtol=0, atol=0, equal_nan=True, msg=str(number)
        )


def test_a_number_that_its_type_cannot_hold_takes_another_way() -> None:
    module = OfValues(lambda number: np.ceil(number).astype("int16").item())
    source = deploy.source_of("m", module, {"x": torch.tensor([0.5], dtype=torch.float64)})
    run: Any = with_values(source).program.module()
    for number in (2.5, -32768.9, 32767.0):
        x = torch.tensor([number], dtype=torch.float64)
        torch.testing.assert_close(run(x)[0], module(x))
    for number in (-32769.0, 32767.5, 1e9):
        with pytest.raises(RuntimeError, match="another way through forward"):
            run(torch.tensor([number], dtype=torch.float64))


class ByLogarithm(nn.Module):
    """What a file decides by the logarithm of a value, in code that no script takes."""

    def forward(self, x: Tensor) -> Tensor:
        scale = math.sqrt(float(x.square().mean()))
        if {math.log(x.abs().max().item()) > 60} == {True}:
            return x * 0
        return x / scale


@pytest.mark.slow
@pytest.mark.parametrize("format_", BACKENDS)
def test_what_a_logarithm_decides_is_a_condition(format_: str, tmp_path: Path) -> None:
    module = ByLogarithm()
    made = deploy.export(
        module, {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows"}}, ranges={"rows": runtimes.Range(1, 40)},
    )  # fmt: skip  # one call
    with made.bundle.open(BACKENDS[format_]) as session:
        for rows in (1, 2, 37):
            x = torch.randn(rows, 4)
            (found,) = session.run({"x": x.numpy()}).values()
            np.testing.assert_allclose(found, module(x), rtol=1e-5, atol=1e-5)
        for value in (1e30, 0.0):  # by the other way; Python raises a ValueError
            with pytest.raises(ValuesError, match="another way through forward"):
                session.run({"x": np.full((5, 4), value, np.float32)})


class OfSizes(nn.Module):
    """As Informer's attention counts what it keeps."""

    def forward(self, x: Tensor) -> Tensor:
        time = x.shape[1]
        kept = min(2 * np.ceil(np.log(time)).astype("int").item(), time)
        best = x.topk(kept, dim=1).values.sum(1)
        more = functional.pad(x, (0, int(math.log2(time)))).sum(-1).mean(1, keepdim=True)
        return best * math.exp(-time / 50) + more + math.floor(math.log10(time))


@pytest.mark.usually("onnx")
@pytest.mark.parametrize("format_", BACKENDS)
def test_functions_of_sizes_leave_them_free(format_: str, tmp_path: Path) -> None:
    module = OfSizes()
    made = deploy.export(
        module, {"x": torch.randn(2, 16, 4)}, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows", 1: "time"}}, ranges={"time": runtimes.Range(2, 300)},
    )  # fmt: skip  # one call
    with made.bundle.open(BACKENDS[format_]) as session:
        for time in (2, 3, 7, 8, 9, 10, 64, 65, 99, 100, 128, 256, 300):
            x = torch.randn(2, time, 4)
            (found,) = session.run({"x": x.numpy()}).values()
            np.testing.assert_allclose(found, module(x), rtol=1e-4, atol=1e-5, err_msg=str(time))


class ByRounding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if {np.float64(x.abs().max().item()) > 1e30} == {True}:
            return x * 0
        return x + 1


class ByTrace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if {float(x.detach().numpy().max()) > 1e30} == {True}:
            return x * 0
        return x + 1


@pytest.mark.usually("module0")
@pytest.mark.parametrize("module", [ByRounding(), ByTrace()])
def test_a_number_that_a_file_holds_is_told(module: nn.Module, tmp_path: Path) -> None:
    made = deploy.export(
        module, {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=["onnx", "torchscript"],
        dimensions={"x": {0: "rows"}}, ranges={"rows": runtimes.Range(1, 40)},
    )  # fmt: skip  # one call
    _, first = inspect.getsourcelines(type(module))
    told = [note for note in made.notes if "makes a number of values" in note]
    assert len(told) == 1
    assert told[0].startswith("onnx and torchscript: ")
    assert f"{Path(__file__).name}:{first + 2}: `if {{" in told[0]
    assert "the file holds that of the example" in told[0]
