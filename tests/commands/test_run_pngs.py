import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeport.__main__ import main
from edgeport.training import load


def train(tmp_path: Path, *asked: str) -> int:
    return main(["train", *asked, "--epochs", "3", "-o", str(tmp_path / "run")])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (("mlp", "--data", "iris"), {"curves.png", "confusion.png", "norms.png"}),
        (("linear", "--data", "diabetes"), {"curves.png", "residuals.png", "norms.png"}),
    ],
    ids=["classes", "values"],
)
def test_charts_are_kept(tmp_path: Path, asked: tuple[str, ...], names: set[str]) -> None:
    assert train(tmp_path, *asked, "--png") == 0
    assert {path.name for path in (tmp_path / "run").glob("*.png")} == names
    for name in names:
        image = np.asarray(Image.open(tmp_path / "run" / name).convert("L"))
        assert image.shape[0] == 600
        assert image.std() > 5  # something is drawn
    assert load(tmp_path / "run").history.completed


def test_none_unless_asked(tmp_path: Path) -> None:
    assert train(tmp_path, "mlp", "--data", "iris") == 0
    assert not list((tmp_path / "run").glob("*.png"))


@pytest.mark.parametrize(
    ("option", "module", "extra"),
    [
        ("--png", "matplotlib", "plots"),
        ("--tensorboard=x", "torch.utils.tensorboard", "tensorboard"),
    ],
)
def test_a_library_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    option: str, module: str, extra: str,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, module, None)
    assert train(tmp_path, "mlp", "--data", "iris", option) == 3
    err = capsys.readouterr().err
    assert f"'{module}', which is not installed" in err
    assert f"pip install 'edgeport[{extra}]'" in err
    assert not (tmp_path / "run").exists()
