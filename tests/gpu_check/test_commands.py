"""Commands as people type them, and what is told where they fail."""

import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from edgeport.gpu_check import child
from edgeport.gpu_check.child import Child, LateError
from edgeport.gpu_check.commands import _see, call, fits
from edgeport.gpu_check.tasks import Place
from edgeport.runtimes import BackendMissingError, Bundle, EngineError
from edgeport.runtimes.errors import StorageError


def test_a_command_that_fails_is_told_in_its_own_words(packed: Path) -> None:
    with pytest.raises(
        EngineError,
        match=r"^edgeport predict ended with exit code 2: .* holds no torchscript artefact for .*\n"
        r"  fix: backends that fit this bundle: ",
    ):
        call("predict", Place(packed, "libtorch", "cpu"), 60)


def test_a_server_that_does_not_begin_is_told_in_its_own_words(packed: Path) -> None:
    shutil.copy(packed / "model.null", packed / "model.onnx")
    told = (
        r"^edgeport serve ended with exit code 1: .*model\.onnx is not the file that was packed: "
    )
    with pytest.raises(EngineError, match=told):
        call("serve", Place(packed, "ort-cpu", "cpu"), 60)


@pytest.mark.parametrize("command", ["verify", "serve"])
def test_a_command_that_takes_too_long_is_ended(packed: Path, command: str) -> None:
    with pytest.raises(LateError, match=f"^edgeport {command} was ended, because it took too long"):
        call(command, Place(packed, "ort-cpu", "cpu"), 0.0)  # type: ignore[arg-type]  # one of them


@pytest.mark.parametrize(
    ("said", "kind", "problem"),
    [
        (
            "edgeport: serving needs 'uvloop', which is not installed\n"
            "  fix: pip install 'edgeport[serve]'\n",
            BackendMissingError,
            "serving needs 'uvloop', which is not installed",
        ),
        ("Traceback\nKeyError: 'x'\n", EngineError, "Traceback\nKeyError: 'x'"),
        ("", EngineError, "no word"),
    ],
)
def test_what_a_command_says(said: str, kind: type[Exception], problem: str) -> None:
    with pytest.raises(kind) as e:
        _see(["serve", "m.edge"], -signal.SIGSEGV, said)
    assert e.value.args[0].endswith(f"ended with exit code -11: {problem}")


def test_no_place_for_inputs(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not-there"))
    with pytest.raises(
        StorageError, match=r"(?s)^cannot keep the inputs of predict: No such .*TMPDIR"
    ):
        call("predict", Place(packed, "ort-cpu", "cpu"), 60)
    with pytest.raises(StorageError, match=r"(?s)^cannot make a temporary file: No such .*TMPDIR"):
        Child()


def test_a_process_that_hangs_while_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose driver does not let it go."""
    monkeypatch.setattr(child, "_LIFE", "import os, time; os.close({}); time.sleep(60)")
    monkeypatch.setattr(child, "_END_S", 0.1)
    hanging = Child()
    with pytest.raises(EngineError, match=r"^the process died: it hangs while it ends\n  fix: run"):
        hanging.receive()
    hanging.end()
    assert not hanging.alive


def test_the_model_that_commands_take(packed: Path) -> None:
    assert fits(Bundle.read(packed))
