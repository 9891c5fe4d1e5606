import shlex
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgeport.__main__ import main

LIBRARY = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))


def test_the_command_that_it_tells_runs(
    packed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(packed.parent)
    assert main(["build-runner", "mlp.edge"]) == 0
    first, told = capsys.readouterr().out.splitlines()
    assert first.startswith("run-mlp: ")
    assert first.endswith(" KiB, made from run-mlp.c")
    assert told == "next: ./run-mlp mlp.edge/model.onnx x=x.npy -o ."
    np.save("x.npy", np.ones((2, 8), np.float32))
    command = told.removeprefix("next: ").split()
    subprocess.run([*command, "--library", LIBRARY], check=True)
    assert np.load("logits.npy").shape == (2, 3)
    assert np.load("label.npy").dtype == np.int64


def test_the_commands_that_it_tells_of_one_file_run(
    packed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(packed.parent)
    assert main(["pack", "mlp.edge", "--zip", "-o", "$(a) b.edge"]) == 0
    capsys.readouterr()
    assert main(["build-runner", "$(a) b.edge"]) == 0
    _, pack, call = capsys.readouterr().out.splitlines()
    assert pack == "next: edgeport pack '$(a) b.edge' --artefacts onnx -o '$(a) b-folder.edge'"
    assert main(shlex.split(pack.removeprefix("next: edgeport "))) == 0
    assert call == "next: './run-$(a) b' '$(a) b-folder.edge/model.onnx' x=x.npy -o ."
    np.save("x.npy", np.ones((2, 8), np.float32))
    command = shlex.split(call.removeprefix("next: "))
    subprocess.run([*command, "--library", LIBRARY], check=True)
    assert np.load("logits.npy").shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["absent.edge"], 2, "no such bundle"),
        (["mlp.edge", "--target", "z80"], 2, "no target is named 'z80'"),
        (["mlp.edge", "-o", "mlp.edge"], 2, "mlp.edge is what is read"),
    ],
)
def test_bad_input(
    arguments: list[str],
    code: int,
    problem: str,
    packed: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(packed.parent)
    assert main(["build-runner", *arguments]) == code
    assert problem in capsys.readouterr().err
    assert sorted(file.name for file in Path().iterdir()) == ["mlp.edge"]
