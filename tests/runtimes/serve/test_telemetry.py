"""ONNX Runtime would keep an identifier of the machine and report what runs; ours does not."""

import os
import subprocess
import sys
from pathlib import Path

import onnxruntime

from edgeport.runtimes import Bundle
from edgeport.runtimes.embed.script import write_script

QUIET = "ORT_DISABLE_TELEMETRY"


def kept(home: Path, *command: str | Path) -> list[Path]:
    """What a program leaves in an empty home."""
    home.mkdir()
    away = {QUIET, "XDG_CACHE_HOME", "CI", "PYTEST_CURRENT_TEST", "PYTEST_VERSION"}
    environment = {key: value for key, value in os.environ.items() if key not in away}
    environment["HOME"] = str(home)
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return [path for path in home.rglob("*") if path.is_file()]


def test_nothing_is_kept_or_reported(packed: Path, tmp_path: Path) -> None:
    script = packed.with_name("infer.py")
    write_script(Bundle.read(packed), script)
    open_it = "from edgeport import runtimes; runtimes.open({!r}, 'ort-cpu').close()"
    session = [sys.executable, "-c", open_it.format(str(packed))]
    assert not kept(tmp_path / "a", *session)
    assert not kept(tmp_path / "b", sys.executable, script, "--check")


def test_onnxruntime_alone_does(tmp_path: Path) -> None:
    newer = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 29)
    assert bool(kept(tmp_path / "home", sys.executable, "-c", "import onnxruntime")) is newer


def test_the_user_has_the_last_word() -> None:
    code = f"import os; os.environ[{QUIET!r}] = '0'; import edgeport; print(os.environ[{QUIET!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
