"""A release of torch that the compilers were not tested with is told."""

import tomllib
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeport.deploy import source_of
from edgeport.deploy.sources import source
from edgeport.deploy.sources.torch_release import TESTED, untested

ROOT = Path(__file__).parents[3]


def test_another_release_is_the_first_note_of_an_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "untested", lambda: untested("2.99.0+cu130"))
    told, *_ = source_of("m", nn.Linear(2, 1), {"input": torch.randn(3, 2)}).notes
    assert told.startswith(
        f"torch 2.99.0+cu130 is installed, and exports were tested with {', '.join(TESTED)}"
    )
    assert f"pip install 'torch=={TESTED[-1]}.*'" in told


@pytest.mark.parametrize(
    ("version", "is_told"),
    [("2.13.0+cpu", 0), ("2.13.1", 0), ("2.1.3", 1), ("2.14.0a0+git1", 0), ("2.99.0", 1)],
)
def test_the_releases_that_were_tested_are_not_told(version: str, is_told: int) -> None:
    assert len(untested(version)) == is_told


def test_what_pip_installs_is_what_was_tested() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    major, _, minor = TESTED[-1].partition(".")
    assert f"torch>={TESTED[0]},<{major}.{int(minor) + 1}" in extras["export"]
    assert f"torch=={TESTED[0]}.0" in (ROOT / "constraints.txt").read_text().splitlines()
