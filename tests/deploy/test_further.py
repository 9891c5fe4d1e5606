"""Artefacts that passed are asked for more: NaN and Inf, worst inputs, labels."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeport import deploy, runtimes
from edgeport.deploy.further import ask_further
from edgeport.deploy.proof.reference import Reference, make_golden
from edgeport.deploy.proof.task import Task
from edgeport.runtimes import Bundle, ExportError, ParityError, SourceError

ROWS = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)


def linear(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(4, 3).eval()


def labels(module: nn.Module) -> Any:
    with torch.no_grad():
        return module(torch.tensor(ROWS)).argmax(-1).numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> deploy.Export:
    return deploy.export(
        linear(0), {"x": torch.zeros(2, 4)}, tmp_path_factory.mktemp("made") / "m.edge",
        dimensions={"x": {0: "batch"}}, samples=[{"x": ROWS}], formats=["torchscript"],
        search_s=0.5, labels=labels(linear(0)),
    )  # fmt: skip  # one call


def test_what_is_found_is_kept_and_holds_on_the_device(made: deploy.Export) -> None:
    kinds = {sample.name: sample.kind for sample in made.bundle.golden()}
    assert kinds["NaN"] == kinds["+Inf"] == kinds["-Inf"] == "edge"
    assert set(kinds.values()) <= {"real", "edge", "search"}
    (score,) = made.scores
    assert (score.backend, score.artefact, score.rows, score.passed) == ("libtorch", 1.0, 50, True)
    assert runtimes.verify(made.bundle, threads=1).to_json() == made.report.to_json()
    assert made.report.samples == len(kinds)


def another(made: deploy.Export) -> Reference:
    """A module that the artefact does not compute."""
    source = deploy.source_of(
        "m", linear(1), {"x": torch.zeros(2, 4)}, {"x": {0: "batch"}}, samples=[{"x": ROWS}]
    )
    assert source.signature == made.source.signature
    return Reference(source)


def test_a_search_that_finds_a_fault_ends_the_export(made: deploy.Export) -> None:
    reference = another(made)
    golden = make_golden(reference)
    with pytest.raises(ParityError, match=r"libtorch: output: error is .* all samples passed"):
        ask_further(made.bundle, reference, golden, 1.0, None, deploy.Limits())


def test_labels_that_tell_of_a_fault_end_the_export(made: deploy.Export) -> None:
    reference = another(made)
    task = Task(reference.source, labels(linear(1)))
    found = r"worse than noise allows: libtorch: accuracy 0\.\d+, the module's is 1, on 50 labels"
    with pytest.raises(ParityError, match=found):
        ask_further(made.bundle, reference, (), 0, task, deploy.Limits())


def test_a_process_that_is_ended_is_told(made: deploy.Export) -> None:
    limits = deploy.Limits(time_s=0.001)
    with pytest.raises(ExportError, match=r"run on more inputs, and it took longer than 0\.001 s"):
        ask_further(made.bundle, Reference(made.source), (), 0, None, limits)


class Gated(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x.amax() > 9, x * 2, x - 1)


def test_nan_among_large_values_is_asked_too(tmp_path: Path) -> None:
    """ONNX Runtime passes over it in a maximum: by small values the gate is closed all the same."""
    made = deploy.export(
        Gated(), {"x": torch.rand(3, 4)}, tmp_path / "m.edge", formats=["onnx"],
        dimensions={"x": {0: "batch"}},
    )  # fmt: skip  # one call
    told = "ort-cpu answers inputs with NaN otherwise than the module"
    assert [note for note in made.notes if note.startswith(told)]


class Remembers(nn.Module):
    """What no sample changes: the largest value from 10,000 on, or how often there was one."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.kept = how, nn.Buffer(torch.tensor(1e4 if how == "largest" else 0.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "largest":
            self.kept.copy_(torch.maximum(self.kept, x.max()))
            return x / self.kept
        self.kept.add_((x < -1e4).sum())
        return x + self.kept


@pytest.mark.parametrize("how", ["largest", "count"])
def test_what_only_values_far_from_all_samples_change_is_a_state(how: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"Remembers keeps state: .*, through kept\b") as caught:
        deploy.export(
            Remembers(how), {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=["onnx"],
            dimensions={"x": {0: "batch"}},
        )  # fmt: skip  # one call
    assert caught.value.remedy.startswith("take it as an input of forward")


class Counts(nn.Module):
    """How often it was called; ``after`` so many calls it answers something else."""

    def __init__(self, after: int | None) -> None:
        super().__init__()
        self.after, self.calls, self.steps = after, nn.Buffer(torch.tensor(0)), 0

    def forward(self, x: torch.Tensor, **options: Any) -> torch.Tensor:
        self.calls.add_(1)
        self.steps += 1
        if self.after is None:
            return x * 2
        return x * 2 if self.steps < self.after else x + self.calls // self.after


def test_what_only_many_calls_change_is_a_state(tmp_path: Path) -> None:
    example = {"x": torch.randn(3, 4)}
    with pytest.raises(SourceError, match=r"Counts keeps state: .*, through steps, calls\b"):
        deploy.export(Counts(after=500), example, tmp_path / "m.edge", formats=["onnx"])
    made = deploy.export(Counts(after=None), example, tmp_path / "m.edge", formats=["onnx"])
    assert made.report.passed


class Windows(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.unfold(1, 4, 1).amax(-1)


def test_some_nan_are_asked_too(tmp_path: Path) -> None:
    """Of one in the middle ONNX Runtime's maximum is right in all windows that have it."""
    made = deploy.export(
        Windows(), {"x": torch.rand(3, 7)}, tmp_path / "m.edge", formats=["onnx"],
        dimensions={"x": {0: "batch"}},
    )  # fmt: skip  # one call
    told = "ort-cpu answers inputs with NaN otherwise than the module"
    assert [note for note in made.notes if note.startswith(told)]


def test_an_engine_that_treats_nan_in_its_own_way_is_told(tmp_path: Path) -> None:
    made = deploy.export(
        nn.LSTM(4, 3), {"input": torch.randn(5, 2, 4)}, tmp_path / "m.edge", formats=["onnx"]
    )
    told = "ort-cpu answers inputs with NaN"
    assert [note for note in made.notes if note.startswith(told)]
    assert "NaN" not in {sample.name for sample in Bundle.read(tmp_path / "m.edge").golden()}
    assert made.report.passed


class Ids(nn.Module):
    """Of the inputs, only the first two are looked up in a table of torch's ``embedding``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users = nn.Embedding(9, 4)
        self.items = nn.Embedding(7, 4)

    def forward(
        self, user: torch.Tensor, items: torch.Tensor, shift: torch.Tensor, days: torch.Tensor
    ) -> torch.Tensor:
        of_day = self.users.weight[days]  # which counts from the end, below 0
        both: torch.Tensor = self.users(user) + self.items(items).mean(1)
        return (both + of_day).sum(-1) + shift


def test_an_index_below_zero_that_only_an_engine_answers_is_told(tmp_path: Path) -> None:
    rows = torch.ones(2, dtype=torch.int64)
    example = {"user": rows, "items": rows[:, None], "shift": rows, "days": rows}
    made = deploy.export(
        Ids(), example, tmp_path / "m.edge", dimensions={name: {0: "batch"} for name in example}
    )
    told = (
        "ort-cpu answers -1 in user, items, which the module refuses: check for it before you run "
        "it"
    )
    assert [note for note in made.notes if "-1" in note] == [told]
    assert told in Bundle.read(tmp_path / "m.edge").manifest.notes


def test_a_backend_that_does_not_survive_an_index_below_zero_is_told(
    made: deploy.Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> list[str]:
        os.abort()

    monkeypatch.setattr("edgeport.deploy.further.refused_below_zero", lambda _: ["x"])
    monkeypatch.setattr("edgeport.deploy.further._has", lambda *_: True)
    monkeypatch.setattr("edgeport.deploy.further.answered_below_zero", asked)
    found = ask_further(made.bundle, Reference(made.source), (), 0, None, deploy.Limits())
    assert found.notes == (
        "the process of libtorch does not survive -1 in x, which the module refuses: it was ended "
        "by SIGABRT; check for it before you run it",
    )


class Eigenvalues(nn.Module):
    """In TorchScript they look for NaN and Inf, in eager they do not."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor, **options: Any) -> Any:
        return torch.linalg.eigvals(self.scale(x)).abs().sum(-1)


def test_an_engine_that_refuses_inf_is_told(tmp_path: Path) -> None:
    made = deploy.export(
        Eigenvalues(), {"x": torch.randn(2, 3, 3)}, tmp_path / "m.edge", formats=["torchscript"],
        dimensions={"x": {0: "batch"}},
    )  # fmt: skip  # one call
    assert [note for note in made.notes if note.startswith("libtorch answers inputs with")]
