import json
import sys

import onnxruntime
import pytest

from edgeport.__main__ import main
from edgeport.commands.doctor import _render
from edgeport.runtimes import Availability


def test_every_backend_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for backend in ("ort-cpu", "libtorch", "torch"):
        assert any(line.split()[:2] == [backend, "yes"] for line in out.splitlines())
    assert "null" not in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["doctor_version"] == 1
    assert found["cpus"] >= 1
    ort = found["backends"]["ort-cpu"]
    assert ort["usable"] is True
    assert ort["version"] == onnxruntime.__version__
    assert ort["provider"] == "CPUExecutionProvider"


def test_what_is_missing_comes_with_the_line_that_mends_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "edgeport.runtimes.ort.cpu", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "ort-cpu: backend 'ort-cpu' needs 'onnxruntime', which is not installed" in out
    assert "  fix: pip install 'edgeport[ort]'" in out


def test_two_onnxruntime_wheels_are_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeport.runtimes.ort import loading

    both = ("onnxruntime", "onnxruntime-gpu")
    monkeypatch.setattr(loading, "_is_installed", both.__contains__)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "onnxruntime and onnxruntime-gpu are both installed" in out
    assert "fix: pip uninstall -y onnxruntime onnxruntime-gpu" in out


def test_a_remedy_is_told_once_and_none_for_a_gpu_that_is_not_there() -> None:
    machine = {"edgeport": "1", "python": "3", "platform": "x", "cpus": 2, "gpus": []}
    lacks = Availability(
        False, "torch", reason="torch is not installed", remedy="pip install torch"
    )
    found = {
        "ort-cuda": Availability(False, "onnxruntime", reason="no build", remedy="pip uninstall"),
        "libtorch": lacks,
        "torch": lacks,
    }
    out = _render({**machine, "no_gpu": "no driver"}, found)
    assert "ort-cuda: for an NVIDIA GPU, and there is none here\n" in out
    assert out.endswith(
        "libtorch: torch is not installed\ntorch: torch is not installed\n  fix: pip install torch"
    )
    assert "pip uninstall" not in out
