"""What an export that is wrong says of the place, and that saying so can't get in its way."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy import localisation
from edgeport.runtimes import EdgeportError, ExistingFileError, ParityError
from edgeport.runtimes.parity.thresholds import Thresholds

X = {"x": torch.randn(2, 4, generator=torch.Generator().manual_seed(1))}


class Inner(nn.Module):
    """Only a trace takes it, and a trace keeps one branch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        y: Tensor = self.first(x)
        if y.mean().detach().numpy() > 0.1:
            y = self.second(y)
        return y


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.inner = nn.Linear(4, 4), Inner()

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        y: Tensor = self.inner(self.before(x))
        return y


class Steps(nn.Module):
    """A loop over time that no script reads, so that a trace fixes how many steps there are."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.config = nn.Linear(4, 4), {"a set", 1}

    def forward(self, x: Tensor) -> Tensor:
        steps = [x[:, 0]]
        for index in range(1, x.shape[1]):
            steps.append(torch.tanh(self.linear(steps[-1]) + x[:, index]) * len(self.config))
        return torch.stack(steps, 1)


def export(folder: Path, **options: Any) -> EdgeportError:
    samples = [{"x": sign * 3 * X["x"].numpy()} for sign in (1, -1)]
    with pytest.raises(EdgeportError) as caught:
        deploy.export(
            Outer(), X, folder / "m.edge", formats="torchscript", samples=samples,
            dimensions={"x": {0: "batch"}}, **options,
        )  # fmt: skip  # one call
    return caught.value


def test_a_bar_that_is_stricter_than_the_default_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParityError) as caught:
        deploy.export(
            nn.Linear(4, 2),
            X,
            tmp_path / "m.edge",
            formats="torchscript",
            thresholds=Thresholds(1e-4),
        )
    assert caught.value.remedy.startswith("it passes with the default bars (docs/parity.md): ask ")


def test_the_error_names_the_place_and_the_case_is_written(tmp_path: Path) -> None:
    events: list[deploy.Event] = []
    error = export(tmp_path, repro=tmp_path / "repro", on_event=events.append)
    (found,) = (event for event in events if isinstance(event, deploy.Localisation))
    assert found.module.startswith("inner")
    assert f"diverges  {found.place}" in error.problem
    assert "  in the file of trace:\n" in error.problem
    assert "backend   libtorch; sample '" in error.problem
    assert "repro.py shows it" in error.problem
    assert {path.name for path in tmp_path.iterdir()} == {"repro"}
    assert {p.name for p in (tmp_path / "repro").iterdir()} == {
        "inputs.npz",
        "model.ts",
        "repro.py",
    }


@pytest.mark.slow
def test_a_file_with_a_fixed_size_is_told_by_the_size(tmp_path: Path) -> None:
    with pytest.raises(EdgeportError) as caught:
        deploy.export(
            Steps(), {"x": torch.randn(2, 8, 4)}, tmp_path / "m.edge", formats="onnx",
            dimensions={"x": {0: "batch", 1: "time"}},
        )  # fmt: skip  # one call
    problem = caught.value.problem
    assert problem.endswith(
        "trace      refused: asked for output: float32[batch, time, 4], "
        "the exporter wrote output: float32[batch, 3, 4]"
    )
    assert caught.value.remedy == (
        "annotate the types that TorchScript cannot guess: a script keeps branches and loops; or "
        "declare the dimension fixed: write its size in place of its name"
    )


def test_an_existing_folder_is_refused_before_anything_is_compiled(tmp_path: Path) -> None:
    with pytest.raises(ExistingFileError, match="exists already"):
        deploy.export(nn.Linear(4, 1), X, tmp_path / "m.edge", repro=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usually("raise")
@pytest.mark.parametrize("way", ["raise", "crash"])
def test_a_localiser_that_fails_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def broken(*_: Any, **__: Any) -> deploy.Localisation:
        if way == "raise":
            raise ZeroDivisionError("oh")
        import ctypes

        ctypes.string_at(0)
        raise AssertionError("it lives")

    monkeypatch.setattr(localisation, "localise", broken)
    problem = export(tmp_path).problem
    assert "times the floor, 8 allowed" in problem
    told = "ZeroDivisionError: oh" if way == "raise" else "it was ended by SIGSEGV"
    assert "diverges  the localiser found nothing: it " in problem
    assert told in problem


def test_the_report_plots_the_way_to_the_fault(tmp_path: Path) -> None:
    from edgeport.commands.export_page import _walk

    events: list[deploy.Event] = []
    export(tmp_path, on_event=events.append)
    (found,) = (event for event in events if isinstance(event, deploy.Localisation))
    drawn = _walk(found.to_json(), 8.0)
    assert "Where it goes wrong" in drawn
    assert f"the first to diverge is {found.module}" in drawn
