"""Numbers of Python's that a script makes of values, beside its branches and loops."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.deploy.compilers import script_converter
from edgeport.deploy.compilers.upstream import inference_only, quiet

Forward = Callable[[Tensor], Tensor]


def scaled_down(x: Tensor) -> Tensor:
    largest = float(x.abs().max())
    if largest > 2.0:
        x = x / largest
    return x + 1


def rescaled(x: Tensor) -> Tensor:
    low, high = float(x.min()), float(x.max())
    if high - low < 1e-6:
        return torch.zeros_like(x)
    return (x - low) / (high - low)


def by_functions(x: Tensor) -> Tensor:
    mean = abs(float(x.mean()))
    if not math.isfinite(mean):
        return torch.zeros_like(x)
    rounded = round(mean * 10) / 10
    factor = math.exp(-mean) if rounded > 0.5 else math.sqrt(mean) + min(mean, 0.25)
    return x * factor + int(rounded * 7)


def of_sizes(x: Tensor) -> Tensor:
    half = x.shape[0] * 0.5
    if bool(x.sum() > 0):
        return x * half
    return x - half


def of_the_largest_column(x: Tensor) -> Tensor:
    best, place = -1e9, 0
    for i in range(x.shape[1]):
        found = float(x[:, i].sum())
        if found > best:
            best, place = found, i
    return x * best + place


def several_returns(x: Tensor) -> Tensor:
    share = float(torch.sigmoid(x.mean()))
    if share > 0.5:
        return x * share
    if share < 0.4:
        return x.sin() * (1 - share)
    if share < 0.45:
        return x.cos()
    return x.tanh() + x * share


def halved(x: Tensor) -> Tensor:
    scale, count = 1.0, 0
    while float((x * scale).abs().max()) > 1.0 and count < 20:
        scale *= 0.5
        count += 1
    return x * scale + torch.tensor(count)


def until_it_is_small(x: Tensor) -> Tensor:
    total = 0.0
    for i in range(x.shape[0]):
        of_row = float(x[i].sum())
        if of_row < -5.0:
            break
        if of_row < 0.0:
            continue
        total += of_row
    return x * total


def root(x: Tensor) -> Tensor:
    y = x.abs() + 1.0
    for _ in range(30):
        closer = 0.5 * (y + (x.abs() + 1.0) / y)
        if (closer - y).abs().max() < 1e-3:
            return closer
        y = closer
    return y


ALL = (
    *(scaled_down, rescaled, by_functions, of_sizes, of_the_largest_column),
    *(several_returns, halved, until_it_is_small, root),
)


class Runs(nn.Module):
    def __init__(self, forward: Forward) -> None:
        super().__init__()
        with quiet():  # it is deprecated
            self.run = torch.jit.script(forward)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.run(x)
        return found


def inputs() -> list[Tensor]:
    torch.manual_seed(1)
    spreads = ((5, 4.0, 0.0), (2, 0.1, 0.0), (3, 1.0, -3.0), (7, 1.0, 3.0), (40, 9.0, 0.1))
    drawn = [torch.randn(rows, 4) * wide + middle for rows, wide, middle in spreads]
    return [*drawn, torch.zeros(3, 4), torch.full((2, 4), -0.3)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("forward", ALL)
def test_a_script_computes_with_numbers_of_values(forward: Forward) -> None:
    source = deploy.source_of("m", Runs(forward), {"x": torch.randn(3, 4)}, {"x": {0: "rows"}})
    with quiet(), inference_only():
        captured: Any = script_converter.convert(source).module()
    for x in inputs():
        torch.testing.assert_close(captured(x), (forward(x),))


@pytest.mark.parametrize("forward", [by_functions, halved])
def test_files_compute_with_them_too(forward: Forward, tmp_path: Path) -> None:
    free = {"x": {0: "rows"}}
    deploy.export(
        Runs(forward),
        {"x": torch.randn(3, 4)},
        tmp_path / "m.edge",
        dimensions=free,
        ranges={"rows": runtimes.Range(1, 40)},
        formats=("onnx", "pt2"),
    )
    for backend in ("ort-cpu", "torch"):
        with runtimes.open(tmp_path / "m.edge", backend=backend) as session:
            for x in inputs():
                (found,) = session.run({"x": x.numpy()}).values()
                np.testing.assert_allclose(found, forward(x), rtol=1e-5, atol=1e-6)


class StepsDown(nn.Module):
    """A branch in a loop, of which the exporter could inline neither."""

    def forward(self, x: Tensor) -> Tensor:
        state = x[:, 0]
        for t in range(x.shape[1]):
            state = state + x[:, t] if bool(x[:, t].sum() > 0) else state * 0.5
        return state


def test_a_branch_in_a_loop_goes_to_onnx(tmp_path: Path) -> None:
    module = StepsDown()
    free = {"x": {0: "rows", 1: "time"}}
    ranges = {"rows": runtimes.Range(1, 8), "time": runtimes.Range(1, 12)}
    deploy.export(
        module, {"x": torch.randn(2, 5)}, tmp_path / "m.edge",
        dimensions=free, ranges=ranges, formats="onnx",
    )  # fmt: skip  # one call
    with runtimes.open(tmp_path / "m.edge") as session:
        for rows, time in ((1, 1), (3, 11), (8, 2)):
            x = torch.randn(rows, time)
            (found,) = session.run({"x": x.numpy()}).values()
            np.testing.assert_allclose(found, module(x), rtol=1e-5, atol=1e-6)
