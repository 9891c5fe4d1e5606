"""Random programs are valid, repeatable, and held against eager."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeport import deploy
from edgeport.deploy.proof.reference import Reference
from edgeport.deploy.sources.samples import Sample
from scripts import fuzz_export
from scripts.fuzz.programs import STYLES, draw, values


def test_a_program_is_repeatable_and_runs_at_all_its_sizes() -> None:
    found = [program for seed in range(12) if (program := draw(seed)) is not None]
    assert len(found) > 6
    assert [draw(program.seed) for program in found] == found
    assert any(program.ranges for program in found)
    program = next(program for program in found if program.ranges)
    for style, sizes in zip(STYLES, program.sizes(6), strict=False):
        generator = np.random.default_rng(0)
        given = [torch.tensor(values(s, sizes, generator, style)) for s in program.inputs]
        program.made()(*given)


def test_a_session_that_computes_something_else_is_told(tmp_path: Path) -> None:
    class Plus(nn.Module):
        def __init__(self, number: float) -> None:
            super().__init__()
            self.number = number

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.number

    source = deploy.source_of("plus", Plus(2.0), {"x": torch.randn(3)})
    question = Reference(source).answer(Sample("ones", "edge", {"x": np.ones(3, np.float32)}))
    for number, wrong in ((2.0, 0), (3.0, 1)):
        folder = tmp_path / f"{number}.edge"
        made = deploy.export(Plus(number), {"x": torch.randn(3)}, folder, formats="torchscript")
        with made.bundle.open("libtorch") as session:
            assert len(list(fuzz_export._differences(session, question))) == wrong


@pytest.mark.slow
def test_what_is_found_is_kept_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = next(seed for seed in range(20, 60) if draw(seed) is not None)
    file = tmp_path / "fuzz.json"
    for _ in range(2):
        argv = ["fuzz_export.py", "--first", str(seed), "--programs", "1", "--json", str(file)]
        monkeypatch.setattr("sys.argv", argv)
        fuzz_export.main()
    shown = capsys.readouterr()
    assert shown.err.count(f"{seed}: ") == 1
    assert "torchscript" in shown.out
    assert json.loads(file.read_text())["programs"] == 1
