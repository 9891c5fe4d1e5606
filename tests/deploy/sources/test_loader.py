import importlib.util
import sys
from pathlib import Path

import pytest
from torch import nn

from edgeport.deploy import load_module
from edgeport.runtimes import SourceError

CODE = """
from torch import Tensor, nn

SIZE = 3
instance = nn.Linear(2, SIZE)


def make_model():
    return nn.Linear(2, SIZE)


def broken():
    raise RuntimeError("no weights")


def wrong():
    return 7


def weights():
    return nn.Linear(2, SIZE).state_dict()


def leave():
    raise SystemExit(0)


def needs(size):
    return nn.Linear(2, size)


def in_torch():
    return nn.Linear("two", SIZE)


def lazy():
    from user_package import layers

    return layers.layer
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package in a repository that has folders named like ours."""
    for folder in ("training", "deploy", "runtimes"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("raise ImportError('shadowed')")
    (tmp_path / "user_package").mkdir()
    (tmp_path / "user_package" / "models.py").write_text(CODE)
    (tmp_path / "user_package" / "layers.py").write_text(
        "from torch import nn\nlayer = nn.Linear(2, 3)\n"
    )
    (tmp_path / "user_package" / "exits.py").write_text("raise SystemExit(0)")
    (tmp_path / "user_package" / "bad.py").write_text("import not_installed_anywhere")
    (tmp_path / "user_package" / "worse.py").write_text("1 / 0")
    (tmp_path / "user_package" / "typo.py").write_text("def broken(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for name in [name for name in sys.modules if name.startswith("user_package")]:
        monkeypatch.delitem(sys.modules, name)
    return "user_package"


@pytest.mark.parametrize("attribute", ["make_model", "instance", "lazy"])
def test_a_callable_or_an_instance(package: str, attribute: str) -> None:
    module = load_module(f"{package}.models:{attribute}")
    assert isinstance(module, nn.Linear)
    assert module.out_features == 3


@pytest.mark.parametrize(
    ("reference", "problem", "remedy"),
    [
        ("models:make-model:", "has no 'make-model:'", "it has"),
        ("nothing", "does not name a callable", "package.file:callable"),
        ("models/net.py:make", "does not name a callable", "like models.net:make"),
        ("a b:make", "does not name a callable", "package.file:callable"),
        ("user_package.absent:make", "there is no module", "folder that holds your package"),
        ("absent_package:make", "there is no module", "folder that holds your package"),
        ("user_package.bad:make", "No module named 'not_installed_anywhere'", "install not_inst"),
        (
            "user_package.worse:make",
            "ZeroDivisionError: division by zero (worse.py, line 1)",
            "fix that error",
        ),
        ("user_package.models:absent", "has no 'absent'", "it has make_model"),
        ("user_package.models:SIZE", "is of type int, which cannot be called", "torch.nn.Module"),
        (
            "user_package.models:broken",
            "RuntimeError: no weights (models.py, line 13)",
            "fix that error",
        ),
        ("user_package.models:leave", "models:leave raised SystemExit: 0", "fix that error"),
        ("user_package.exits:make", "user_package.exits raised SystemExit: 0", "fix that error"),
        ("user_package.models:needs", "missing 1 required positional argument: 'size'", "without"),
        ("user_package.models:in_torch", " (models.py, line 33)", "fix that error"),
        (
            "user_package.typo:make",
            "SyntaxError: invalid syntax (typo.py, line 1)",
            "fix that error",
        ),
        ("user_package.models:wrong", "returned int, expected a torch.nn.Module", "return"),
        ("user_package.models:weights", "returned OrderedDict, exp", "module.load_state_dict"),
    ],
)
def test_what_is_wrong_is_said(package: str, reference: str, problem: str, remedy: str) -> None:
    reference = reference.replace("models:make-model", f"{package}.models:make-model")
    reference = reference.replace(f"user_package.{package}", package)
    with pytest.raises(SourceError) as caught:
        load_module(reference)
    assert problem in caught.value.problem
    assert "loader.py" not in caught.value.problem
    assert remedy in caught.value.remedy


@pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="it is found first")
def test_a_folder_that_torch_takes_for_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Net fails on x: AttributeError: module 'triton' has no attribute 'language'`, it was."""
    (tmp_path / "triton" / "digits" / "1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SourceError, match=r"takes the folder .*triton for the package triton, whi"):
        load_module("net:make")
