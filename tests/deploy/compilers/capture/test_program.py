"""Control flow and recurrence in exported programs, at sizes and values that were not seen."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.deploy import further, source_of
from edgeport.deploy.compilers.capture import program
from edgeport.deploy.compilers.operators import free_sizes


class EarlyExit(nn.Module):
    """Returns from within nested branches what was computed before them."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.tanh()
        if y.sum() > 0:
            return y
        z = y * 2
        if z.sum() > -3:
            return z
        return z + x


class While(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x.abs() + 1
        while y.max() > 0.5:
            y = y * 0.5
        return y


class Loop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            total = total * 0.5 + x[:, t]
        return total


class Differences(nn.Module):
    """Writes into slices, which have one element where two are declared."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        y[:, 1:] -= x[:, :-1]
        y[..., ::2] *= 3
        return y


class Forces(nn.Module):
    """The gradient of an energy, of all rows at once or of each."""

    def __init__(self, each: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))
        self.each = each

    def energy(self, x: Tensor) -> Tensor:
        total: Tensor = self.net(x).sum()
        return total

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        slope = torch.func.grad(self.energy)
        return -(torch.func.vmap(slope) if self.each else slope)(x), self.energy(x)


def exported(module: nn.Module, example: Tensor, axes: dict[int, str], folder: Path) -> Path:
    name = "input" if isinstance(module, nn.RNN) else "x"
    path = folder / "m.edge"
    deploy.export(module, {name: example}, path, dimensions={name: axes}, formats=("pt2",))
    return path


def check(path: Path, module: nn.Module, *inputs: Tensor) -> None:
    with runtimes.open(path, "torch") as session, torch.no_grad():
        for x in inputs:
            found = session.run({session.signature.inputs[0].name: x.numpy()})
            expected: Any = module.eval()(x)
            first = expected[0] if isinstance(expected, tuple) else expected
            actual = torch.tensor(next(iter(found.values())))
            torch.testing.assert_close(actual, first, rtol=1e-5, atol=1e-5)


@pytest.mark.usually("early exit")
@pytest.mark.parametrize("module", [EarlyExit(), While()], ids=["early exit", "while"])
def test_values_decide_in_the_artefact(
    module: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(further, "PATIENCE_S", 0.3)  # the loop never ends on Inf
    path = exported(module, torch.randn(3, 4), {0: "batch"}, tmp_path)
    check(path, module, torch.ones(5, 4), -torch.ones(2, 4), torch.full((1, 4), -0.1))


@pytest.mark.usually("False")
@pytest.mark.parametrize("each", [False, True])
def test_derivatives_are_operators_of_the_artefact(each: bool, tmp_path: Path) -> None:
    made = deploy.export(
        Forces(each), {"x": torch.randn(2, 3)}, tmp_path / "m.edge", dimensions={"x": {0: "atoms"}}
    )
    assert made.report.passed
    assert len(made.report.backends) == 3


@pytest.mark.slow
def test_a_slice_that_is_written_to_may_have_one_element(tmp_path: Path) -> None:
    path = exported(Differences(), torch.randn(2, 5), {0: "batch", 1: "time"}, tmp_path)
    check(path, Differences(), *(torch.randn(3, time) for time in (1, 2, 3, 8)))


@pytest.mark.slow
def test_a_module_that_does_not_end_on_inf_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(further, "PATIENCE_S", 0.3)
    made = deploy.export(While(), {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=("pt2",))
    (note,) = (note for note in made.notes if note.startswith("the module does not end well"))
    assert "on inputs with +Inf, -Inf: it took longer than " in note
    assert note.endswith("and so may the artefacts: check for them before you run it")
    assert {"NaN"} == {sample.name for sample in made.bundle.golden()} & {"NaN", "+Inf", "-Inf"}


def test_a_loop_over_a_free_size_is_a_loop(tmp_path: Path) -> None:
    module = Loop()
    path = exported(module, torch.randn(3, 4), {0: "batch", 1: "time"}, tmp_path)
    check(path, module, torch.randn(2, 9), torch.randn(5, 1))


@pytest.mark.usually("relu-False-True")
@pytest.mark.parametrize(
    ("nonlinearity", "bidirectional", "bias"), [("relu", False, True), ("tanh", True, False)]
)
def test_an_rnn_runs_over_a_free_time(
    nonlinearity: str, bidirectional: bool, bias: bool, tmp_path: Path
) -> None:
    module = nn.RNN(3, 4, 2, nonlinearity, bias=bias, batch_first=True, bidirectional=bidirectional)
    path = exported(module, torch.randn(2, 3, 3), {0: "batch", 1: "time"}, tmp_path)
    check(path, module, torch.randn(1, 11, 3), torch.randn(4, 2, 3))


class VmapBefore(nn.Module):
    """A recurrent layer whose input goes through ``vmap``, which no file can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(4, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = torch.vmap(lambda row: row * row.mean())(x)
        output: Tensor = self.layer(rows)[0]
        return output


def test_vmap_is_taken_apart_and_a_recurrent_layer_is_not(tmp_path: Path) -> None:
    module = VmapBefore().eval()
    path = exported(module, torch.randn(3, 4, 4), {0: "batch", 1: "time"}, tmp_path)
    check(path, module, torch.randn(2, 9, 4), torch.randn(5, 1, 4))


class LayerInVmap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        each: Tensor = torch.vmap(lambda row: self.layer(row).softmax(0).sum() * row)(x)
        return each


@pytest.mark.usually("onnx")
@pytest.mark.parametrize("format_", ["torchscript", "onnx"])
def test_a_layer_in_a_vmap_goes_to_the_other_formats_too(format_: str, tmp_path: Path) -> None:
    """What opens a ``vmap`` was dropped as dead code, and the layer was lost in it."""
    made = deploy.export(
        LayerInVmap(), {"x": torch.randn(3, 4)}, tmp_path / "m.edge",
        dimensions={"x": {0: "batch"}}, formats=[format_],
    )  # fmt: skip  # one call
    assert made.report.passed


class Nonzero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[torch.nonzero(x > 0)[:, 0]]


@pytest.mark.usually("module0")
@pytest.mark.parametrize("module", [Nonzero(), Loop()])
def test_a_file_is_opened_without_a_word(
    module: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deploy.export(
        module, {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=["pt2"],
        dimensions={"x": {0: "rows", 1: "columns"}},
    )  # fmt: skip  # one call
    with runtimes.open(tmp_path / "m.edge", "torch"):
        assert "did not appear" not in caplog.text


class Planner:
    """As ``opt_einsum`` does: sizes are numbers to it."""

    @staticmethod
    def contract_path(equation: str, *shapes: Any, **options: Any) -> Any:
        assert equation == "btd,de,ef->btf"
        assert options["shapes"]
        assert all(type(size) is int for shape in shapes for size in shape)
        return [(1, 2), (0, 1)], "what it costs"


class Products(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Parameter(torch.randn(4, 5)), nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("btd,de,ef->btf", x, self.inner, self.outer)


def test_the_order_of_products_fixes_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_sizes, "_own_opt_einsum", lambda: Planner)
    monkeypatch.setattr(torch.backends.opt_einsum, "is_available", lambda: True)
    module = Products()
    example = {"x": torch.randn(2, 3, 4)}
    captured = program.capture(source_of("net", module, example, {"x": {0: "batch", 1: "time"}}))
    x = torch.randn(5, 7, 4)
    (found,) = captured.module()(x)
    torch.testing.assert_close(found, module(x))
