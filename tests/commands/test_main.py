import subprocess
import sys
from pathlib import Path

import pytest

import edgeport
from edgeport.__main__ import COMMANDS, main
from edgeport.commands import doctor
from edgeport.commands.terminal import coloured, table
from edgeport.runtimes import EngineError

NAMES = ["train", "export", "verify", "bench", "serve", "doctor"]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    assert [command.__name__.rsplit(".", 1)[-1] for command in COMMANDS] == NAMES
    for name in NAMES:
        assert f"\n    {name} " in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"edgeport {edgeport.__version__}\n"


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "COMMAND" in capsys.readouterr().err


def test_help_imports_no_engine() -> None:
    code = """
import sys
from edgeport.__main__ import main
try:
    main(["--help"])
except SystemExit:
    pass
heavy = {"torch", "onnx", "onnxruntime", "sklearn", "safetensors", "httptools", "uvloop"}
print(sorted(heavy & set(sys.modules)))
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).endswith("[]\n")


def test_a_mistake_is_two_lines_and_debug_shows_where(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> int:
        raise EngineError("it broke", remedy="mend it")

    monkeypatch.setattr(doctor, "run", fail)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == "edgeport: it broke\n  fix: mend it\n"
    with pytest.raises(EngineError):
        main(["doctor", "--debug"])


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m edgeport doctor --json | head -c 1 >/dev/null; exit $PIPESTATUS"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stderr == ""


def test_colour_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert coloured("x", "red") == "x"
    assert coloured("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"  # type: ignore[arg-type]
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("x", "red", Terminal()) == "x"  # type: ignore[arg-type]


def test_an_empty_table_is_its_header() -> None:
    assert table(["a", "bc"], []) == "a  bc\n─  ──"
