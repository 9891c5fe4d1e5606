"""Rows that forward takes one by one, and experts that no sample chooses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.runtimes import ExportError, ValuesError

BACKENDS = {"onnx": "ort-cpu", "torchscript": "libtorch", "pt2": "torch"}


class Gated(nn.Module):
    """Inputs near 0 choose among the first four of six experts; far ones choose any."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate = nn.Linear(4, 6)
        self.experts: Any = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))  # by a tensor, too
        with torch.no_grad():
            self.gate.weight *= 0.1
            self.gate.bias.copy_(torch.tensor([0.0, 0.01, 0.02, 0.01, -0.6, -0.7]))

    def chosen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights, chosen = self.gate(x).softmax(-1).topk(2)
        return weights, chosen


class TakesEach(Gated):
    """As transformers has written Mixtral: a loop over the experts that are hit."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.chosen(x)
        mask = functional.one_hot(chosen, 6).permute(2, 1, 0)
        y = torch.zeros_like(x)
        for expert in torch.greater(mask.sum(dim=(-1, -2)), 0).nonzero():
            which, rows = torch.where(mask[expert].squeeze(0))
            found = self.experts[expert](x[None, rows].reshape(-1, 4)) * weights[rows, which, None]
            y.index_add_(0, rows, found)
        return y


class ByText(Gated):
    """As transformers has written NLLB-MoE: the number of an expert is a text."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleDict({f"expert_{n}": each for n, each in enumerate(self.experts)})

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.chosen(x)
        y = torch.zeros_like(x)
        for number in functional.one_hot(chosen, 6).sum((0, 1)).nonzero()[:, 0]:
            rows, which = torch.where(chosen == number)
            found = self.experts[f"expert_{number}"](x[rows]) * weights[rows, which, None]
            y.index_add_(0, rows, found)
        return y


class Counts(Gated):
    """As DeepSeek has written it: experts without tokens are left out."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.chosen(x)
        y = torch.zeros_like(x)
        counts = torch.bincount(chosen.flatten(), minlength=6).tolist()
        for number, expert in enumerate(self.experts):
            if counts[number] == 0:
                continue
            rows, which = torch.where(chosen == number)
            y[rows] += expert(x[rows]) * weights[rows, which, None]
        return y


class Lists(Gated):
    """As DBRX and the first Mixtral have it: rows are lists, which index faster."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.chosen(x)
        y = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, which = torch.where(chosen == number)
            if rows.shape[0] == 0:
                continue
            listed, places = rows.tolist(), which.tolist()
            found = expert(x[None, listed].reshape(-1, 4)) * weights[listed, places, None]
            y.index_add_(0, rows, found)
        return y


class First(Gated):
    """One expert, which all samples choose, adds to all rows."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.gate.bias[0] = 4.0

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.chosen(x)
        y = torch.zeros_like(x)
        for number in functional.one_hot(chosen, 6).sum((0, 1)).nonzero()[:, 0].tolist():
            rows, which = torch.where(chosen == number)
            y = y + 1 if number == 0 else y
            y.index_add_(0, rows, self.experts[number](x[rows]) * weights[rows, which, None])
        return y


class Chosen(nn.Module):
    """What all samples have some of, and what is answered where there is none."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x[x[:, 0] > -6]
        return x + 7 if {rows.numel() == 0} == {True} else x + rows.sum(0)


class Padded(Gated):
    def forward(self, x: Tensor) -> Tensor:
        chosen = self.gate(x).argmax(-1) - 1
        y = x.clone()
        for number in chosen.unique().tolist():
            if number < 0:
                continue
            y[chosen == number] = self.experts[number](x[chosen == number])
        return y


class OfValues(Gated):
    """Nothing says how many values there may be."""

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.gate(x).argmax(-1)
        y = torch.zeros_like(x)
        for number in chosen.unique().tolist():
            y[chosen == number] = self.experts[number](x[chosen == number])
        return y


class ByPlace(Gated):
    """What an expert adds hangs on who was hit before."""

    def forward(self, x: Tensor) -> Tensor:
        _, chosen = self.chosen(x)
        y = torch.zeros_like(x)
        for place, expert in enumerate(functional.one_hot(chosen, 6).sum((0, 1)).nonzero()):
            rows, _ = torch.where(chosen == expert)
            y.index_add_(0, rows, self.experts[expert](x[rows]) * (2.0 if place == 0 else 1.0))
        return y


def exported(module: nn.Module, format_: str, folder: Path) -> deploy.Export:
    torch.manual_seed(1)
    return deploy.export(
        module.eval(), {"x": torch.randn(5, 4)}, folder / "m.edge", formats=format_,
        dimensions={"x": {0: "rows"}},
    )  # fmt: skip  # one call


def far(rows: int) -> Tensor:
    return torch.randn(rows, 4) * 60


@pytest.mark.usually("TakesEach-onnx", "ByText-onnx")
@pytest.mark.parametrize("format_", BACKENDS)
@pytest.mark.parametrize("make", [TakesEach, ByText, Counts])
def test_an_expert_that_no_sample_chooses_is_in_the_file(
    make: type[Gated], format_: str, tmp_path: Path
) -> None:
    module = make()
    made = exported(module, format_, tmp_path)
    assert {5} <= {*module.chosen(far(40))[1].flatten().tolist()}
    with made.bundle.open(BACKENDS[format_]) as session:
        for x in (far(40), far(1), torch.randn(1, 4), torch.randn(9, 4)):
            (y,) = session.run({"x": x.numpy()}).values()
            torch.testing.assert_close(torch.tensor(y), module(x), rtol=1e-4, atol=1e-4)


def test_a_value_beyond_those_of_samples_is_refused(tmp_path: Path) -> None:
    module = OfValues()
    with exported(module, "onnx", tmp_path).bundle.open("ort-cpu") as session:
        x = torch.randn(9, 4)
        (y,) = session.run({"x": x.numpy()}).values()
        torch.testing.assert_close(torch.tensor(y), module(x))
        assert int(module.gate(far(40)).argmax(-1).max()) == 5
        with pytest.raises(ValuesError, match="another way through forward than the file has"):
            session.run({"x": far(40).numpy()})


@pytest.mark.slow
def test_rows_whose_order_matters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="samples differ in which rows forward takes one by one"):
        exported(ByPlace(), "pt2", tmp_path)


@pytest.mark.usually("Chosen")
@pytest.mark.parametrize("make", [First, Chosen])
def test_what_all_samples_have_some_of_is_asked_for(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    module = make()
    far = torch.tensor([[-93.0, -325.0, -22.0, 319.0]])  # chooses no expert 0
    if isinstance(module, First):
        assert 0 not in module.chosen(far)[1]
    with exported(module, "pt2", tmp_path).bundle.open("torch") as session:
        x = torch.randn(9, 4)
        (y,) = session.run({"x": x.numpy()}).values()
        torch.testing.assert_close(torch.tensor(y), module(x), rtol=1e-4, atol=1e-4)
        with pytest.raises(ValuesError, match="another way through forward than the file has"):
            session.run({"x": far.numpy()})


@pytest.mark.slow
def test_numbers_below_0_are_taken_one_by_one_too(tmp_path: Path) -> None:
    module = Padded()
    with exported(module, "onnx", tmp_path).bundle.open("ort-cpu") as session:
        for x in (torch.randn(1, 4), torch.randn(2, 4), torch.randn(9, 4)):
            (y,) = session.run({"x": x.numpy()}).values()
            torch.testing.assert_close(torch.tensor(y), module(x), rtol=1e-4, atol=1e-4)
