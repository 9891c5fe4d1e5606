"""Numbers made of values that branches and loops ask about and pass on, and early returns."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.scripted import converter
from edgeport.deploy.compilers.upstream import inference_only, quiet
from edgeport.runtimes import ExportError, Range

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")


SIZES = (
    (2, 1.0, 0.0),
    (7, 20.0, 0.0),
    (13, 0.0, 0.0),
    (50, 0.1, 0.0),
    (9, 1.0, 3.0),
    (9, 1.0, -3.0),
)
"""Rows, and the spread and mean of their values."""

KEPT_IN = (("onnx", "ort-cpu"), ("pt2", "torch"))
"""Both are made of one program."""


class Normalises(nn.Module):
    """By floats, one of which a branch changes; beside whole numbers and a tensor without axes."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, scale = float(x.mean()), x.std().item()
        if scale < 1e-6:
            scale = 1.0
        kept = max(abs(mean), min(scale, 3.0))
        rounded = math.floor(kept) + round(kept * 3) + math.exp(-kept)
        return (x - mean) / scale * kept + rounded, x.long() * kept, x.sum() / kept


class Counts(nn.Module):
    """A whole number that one side of a branch makes of values."""

    def forward(self, x: Tensor) -> Tensor:
        count = int((x > 0).sum())
        if count > 5:
            count = count // 2
        return x * count


class Averages(nn.Module):
    """By the number of elements, behind a question: a product of three sizes."""

    def forward(self, x: Tensor) -> Tensor:
        y = x[:, None] * x[None]
        if bool(y.sum() > 3):
            y = y / y.numel()
        return y


class Balances(nn.Module):
    """Until it changes no more: an end by values beside an end by number."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.clamp(-5, 5).exp()
        for _ in range(30):
            new = x / x.sum(1, keepdim=True)
            new = new / new.sum(0, keepdim=True)
            if (new - x).abs().max() < 1e-3:
                break
            x = new
        return x


class Follows(nn.Module):
    """A loop over time that uses a weight and its transpose, which share memory."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.eye(4)
        gain = 1.0
        out = torch.zeros_like(x)
        for t in range(x.shape[0]):
            state = self.weight @ state @ self.weight.T + torch.eye(4)
            if float(x[t].abs().max()) * gain > 1.0:
                gain = gain * 0.5
            out[t] = x[t] @ state * gain
        return out


class Halves(nn.Module):
    """Until all is small: a number of sizes in a branch, bounds of both kinds, a count."""

    def forward(self, x: Tensor) -> Tensor:
        scale, count, half = 1.0, 0, x.shape[0] * 0.5
        while float((x * scale).abs().max()) > 1.0 and count < 20:
            scale *= 0.5
            count += 1
        if bool(x.sum() > 0):
            return x.clamp(-2.0, scale) + torch.tensor(count)
        return x * scale - half


class Skips(nn.Module):
    """A turn without an end, and turns that are left out."""

    def forward(self, x: Tensor) -> Tensor:
        total = 0.0
        for i in range(x.shape[0]):
            of_row = float(x[i].sum())
            if of_row < -15.0:
                break
            if of_row < 0.0:
                continue
            total += of_row
        return x * total


@pytest.mark.parametrize("module", [Halves(), Skips()])
def test_numbers_that_a_program_holds(module: nn.Module) -> None:
    source = deploy.source_of("m", module, {"x": torch.randn(3, 4)}, {"x": {0: "rows"}})
    with quiet(), inference_only():
        captured: Any = converter.convert(source).module()
    for rows, scale, mean in SIZES:
        x = torch.randn(rows, 4) * scale + mean
        torch.testing.assert_close(captured(x), (module(x),))


@pytest.mark.usually("module0")
@pytest.mark.parametrize("module", [Normalises(), Counts(), Averages(), Balances(), Follows()])
@pytest.mark.parametrize(("format_", "backend"), KEPT_IN)
def test_numbers_made_of_values(
    module: nn.Module, format_: str, backend: str, tmp_path: Path
) -> None:
    _check(module, format_, backend, tmp_path)


class ReturnsEarly(nn.Module):
    """From branches in branches, with what the others have not made."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean().item()
        if mean > 1.0:
            return x * mean, x.sum(1)
        if mean < -1.0:
            return x - mean, x.sum(1)
        spread = x.std(0)
        if bool((spread < 1e-3).all()):
            return x.flip(0), x.mean(1)
        return x / spread, x.amax(1)


class ReturnsInLoop(nn.Module):
    """A tensor, and a whole number."""

    def first(self, x: Tensor) -> int:
        for t in range(x.shape[0]):
            if bool(x[t, 0] > 1):
                return t
        return x.shape[0]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(x)
        state = torch.zeros(4)
        for t in range(x.shape[0]):
            state = torch.tanh(state + x[t])
            if float(state.mean()) > 0.5:
                return state * 2, x * first
        return state, x * first


class ReturnsInTurns(nn.Module):
    """In the first of a few, or in a later one."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(4):
            if bool(x.abs().max() < 1.5):
                return x, x.sum(1)
            x = x * 0.5
        return x - 1, x.sum(1)


@pytest.mark.usually("onnx-ort-cpu-module0")
@pytest.mark.parametrize("module", [ReturnsEarly(), ReturnsInLoop(), ReturnsInTurns()])
@pytest.mark.parametrize(("format_", "backend"), KEPT_IN)
def test_early_returns(module: nn.Module, format_: str, backend: str, tmp_path: Path) -> None:
    _check(module, format_, backend, tmp_path)


class Speaks(nn.Module):
    """Frames in a list, until a gate says that it is enough."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        state, frames = torch.zeros_like(x), [x]
        for _ in range(9):
            state = self.cell(x, state)
            frames.append(state)
            if bool(state.abs().max() > 0.6):
                break
        return torch.stack(frames, 1)


class Shrinks(Speaks):
    """To a number that the loop itself makes: there is no knowing how many frames at most."""

    def forward(self, x: Tensor) -> Tensor:
        state, frames, most, count = torch.zeros_like(x), [x], 9, 0
        while count < most:
            state = self.cell(x, state)
            frames.append(state)
            most = 9 - int(state.abs().max() * 4)
            count += 1
        return torch.stack(frames, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("format_", "backend"), KEPT_IN)
def test_a_list_grows_until_values_end_it(format_: str, backend: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    _check(Speaks(), format_, backend, tmp_path)


@pytest.mark.slow
def test_a_list_without_a_known_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="a list grows in a branch, or is read in the loop"):
        _check(Shrinks(), "onnx", "ort-cpu", tmp_path)


def _check(module: nn.Module, format_: str, backend: str, folder: Path) -> None:
    made = deploy.export(
        module, {"x": torch.randn(6, 4)}, folder / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows"}}, ranges={"rows": Range(2, 50)},
    )  # fmt: skip  # one call
    found = made.bundle.manifest.signature.outputs
    with made.bundle.open(backend) as session:
        for rows, scale, mean in SIZES:
            x = torch.randn(rows, 4) * scale + mean
            expected = module(x)
            wanted = expected if isinstance(expected, tuple) else (expected,)
            answers = session.run({"x": x.numpy()})
            for spec, want in zip(found, wanted, strict=True):
                answer = answers[spec.name]
                np.testing.assert_allclose(answer, want.detach().numpy(), rtol=1e-4, atol=1e-5)
