import errno
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import edgeport
from edgeport.__main__ import COMMANDS, main
from edgeport.commands import doctor
from edgeport.commands.terminal import coloured, progress, size_text, table
from edgeport.runtimes import EngineError

NAMES = [
    *(
        "train",
        "export",
        "pack",
        "sign",
        "verify",
        "inspect",
        "diff",
        "predict",
        "nearest",
        "bench",
        "compare",
        "serve",
    ),
    *("embed", "build-runner", "emit", "doctor"),
]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    assert list(COMMANDS) == NAMES
    for name in NAMES:
        assert re.search(rf"^    {name}\s", out, re.MULTILINE)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"edgeport {edgeport.__version__}\n"


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "COMMAND" in capsys.readouterr().err


def test_numpy_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('IMPORTANT: READ\\n\\nlibx.so: gone\\n')")
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import edgeport.__main__ as it; "

    def ended(*command: str) -> tuple[int, str]:
        code = f"{start}sys.exit(it.main({command}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        return done.returncode, done.stderr

    assert ended("--help") == (
        3,
        "edgeport: numpy is missing or does not load: libx.so: gone\n"
        "  fix: pip install --force-reinstall numpy; a library (.so) that is named there comes "
        "with the system: apt install libopenblas0, for one\n",
    )
    assert "Traceback" in ended("verify", "m.edge", "--debug")[1]


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        (["predict", "m.edge", "--input", "x.csv", "--jsn"], "edgeport predict"),
        (["emit", "triton", "m.edge", "--jsn"], "edgeport emit triton"),
        (["train", "mlp", "--data", "iris", "-o", "x", "--jsn"], "edgeport train mlp"),
    ],
)
def test_an_unknown_option_names_the_help_that_lists_them(
    typed: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(typed)
    told = f"{command}: unrecognized arguments: --jsn\n  fix: see {command} --help\n"
    assert capsys.readouterr().err == told


def test_an_empty_argument_is_no_path(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["verify", ""], ["train", "digits", "-o", ""]):
        with pytest.raises(SystemExit, match=r"^2$"):
            main(command)
        told = capsys.readouterr().err
        assert told == (
            "edgeport: an argument is empty\n  fix: is a variable of the shell not set?\n"
        )


def test_a_command_declares_no_other() -> None:
    code = """
import sys
from edgeport.__main__ import COMMANDS, main
main(["inspect", "nothing"])
modules = {name: f"edgeport.commands.{name.replace('-', '_')}" for name in COMMANDS}
print([name for name, module in modules.items() if module in sys.modules])
"""
    told = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert told == "['inspect']\n"


def test_nothing_is_looked_through_at_the_exit() -> None:
    code = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 0))  # the last of all
from edgeport.__main__ import main
main(["inspect", "nothing"])
print(gc.get_freeze_count())
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "0\nTrue\n"


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


@pytest.mark.parametrize("module", ["argparse", "edgeport.commands.inspect", "datetime"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_python_imports(number: signal.Signals, module: str) -> None:
    """Numpy, which imports ``datetime``, calls an import that is interrupted a broken install."""
    code = f"""
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), {number:d})
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job behind & ignores it
sys.meta_path.insert(0, Finder())
from edgeport.__main__ import main
raise SystemExit(main(["inspect", "nothing"]))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stderr == "edgeport: interrupted; nothing was written\n"
    assert ended.returncode == 128 + number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_command_is_as_ctrl_c(
    number: signal.Signals, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(_: object) -> int:
        signal.raise_signal(number)
        raise AssertionError

    monkeypatch.setattr(doctor, "run", ended)
    signal.signal(number, signal.SIG_DFL)
    assert main(["doctor"]) == 128 + number
    assert capsys.readouterr().err == "edgeport: interrupted; nothing was written\n"
    assert signal.getsignal(number) is signal.SIG_IGN


def test_a_command_leaves_handlers_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whoever calls it from Python; and behind ``nohup`` it goes on."""

    def hung_up(_: object) -> int:
        signal.raise_signal(signal.SIGHUP)
        return 0

    monkeypatch.setattr(doctor, "run", hung_up)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert main(["doctor"]) == 0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with ThreadPoolExecutor() as pool:  # where none can be set
        assert pool.submit(main, ["doctor"]).result() == 0


def test_a_mistake_is_two_lines_and_debug_shows_where(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> int:
        raise EngineError("it \x1b[2Jbroke", remedy="mend it")

    monkeypatch.setattr(doctor, "run", fail)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == "edgeport: it \\x1b[2Jbroke\n  fix: mend it\n"
    with pytest.raises(EngineError):
        main(["doctor", "--debug"])


def test_an_error_says_nothing_to_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> int:
        raise EngineError("a server said \x1b[2J\r", remedy="mend it")

    monkeypatch.setattr(doctor, "run", fail)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == "edgeport: a server said \\x1b[2J\\r\n  fix: mend it\n"


@pytest.mark.parametrize(("bundle", "code"), [("mlp_bundle", 0), ("damaged", 1)])
def test_a_reader_that_goes_away_changes_no_exit_code(
    bundle: str, code: int, mlp_bundle: Path, own_bundle: Path
) -> None:
    path = mlp_bundle
    if bundle == "damaged":
        path = own_bundle
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["thresholds"]["max_ratio"] = 1e-9
        (path / "manifest.json").write_text(json.dumps(manifest))
    verify = f"{sys.executable} -m edgeport verify '{path}' --backend ort-cpu --json"
    command = f"{verify} 2>&1 | true; exit $PIPESTATUS"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.usually("inspect", "verify")
@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        ("inspect mlp.edge >&-", 0, ""),
        ("inspect mlp.edge >/dev/full", 3, "cannot print the result: No space left on device"),
        ("verify nothing 2>/dev/full", 2, ""),
        ("verify nothing 2>&-", 2, ""),
        ("train digits --epochs 1 -o x --find-lr 0<&- 2>&-", 0, ""),
    ],
)
def test_an_output_that_cannot_be_written(
    typed: str, code: int, said: str, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(packed.parent)
    command = f"{sys.executable} -m edgeport {typed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminal_without_unicode(packed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeport", "inspect", packed],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
    )
    assert b"-------" in done.stdout


@pytest.mark.parametrize(
    ("text", "drawn_there"),
    [
        ("what is measured now, in many words", r"measuring ████ .{24}"),
        ("cost 0.9778", r"measuring █{7} 0 s left  cost 0\.9778"),
    ],
)
def test_a_bar_fits_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, text: str, drawn_there: str
) -> None:
    """Figures are what is looked at: the bar makes room for them."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with os.fdopen(terminal, "w", encoding="utf-8") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with progress("measuring", 10) as bar:
            bar.update(10, text)
        stderr.write("end")  # a terminal may give what was written in parts
        stderr.flush()
        drawn = ""
        while not drawn.endswith("end"):
            drawn += os.read(reader, 4096).decode()
    os.close(reader)
    assert re.fullmatch(rf"\r\x1b\[2K{drawn_there}\r\x1b\[2Kend", drawn)


def test_what_the_system_refuses_is_said_in_two_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> int:
        raise PermissionError(13, "Permission denied", "runs/x")

    monkeypatch.setattr(doctor, "run", fail)
    assert main(["doctor"]) == 2
    err = capsys.readouterr().err
    assert err == (
        "edgeport: [Errno 13] Permission denied: 'runs/x'\n"
        "  fix: check the path and its permissions\n"
    )
    monkeypatch.setattr(doctor, "run", lambda _: np.empty((2**40, 2**20), np.int8))
    assert main(["doctor"]) == 3
    assert "out of memory: Unable to allocate" in capsys.readouterr().err
    monkeypatch.setattr(doctor, "run", lambda _: [0] * 2**62)
    assert main(["doctor"]) == 3
    assert "out of memory\n  fix: use smaller" in capsys.readouterr().err

    def no_room(_: object) -> int:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(doctor, "run", no_room)
    assert main(["doctor"]) == 3
    assert "out of memory: [Errno 12] Cannot" in capsys.readouterr().err

    def full(_: object) -> None:  # while a command is imported
        raise MemoryError

    monkeypatch.setattr(doctor, "add", full)
    assert main(["doctor"]) == 3
    assert capsys.readouterr().err == (
        "edgeport: out of memory\n  fix: use smaller sizes, or a larger machine\n"
    )


def test_colour_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert coloured("x", "red") == "x"
    assert coloured("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"  # type: ignore[arg-type]
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("x", "red", Terminal()) == "x"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1500, "1 KiB"), (3_000_000, "2.9 MiB"), (5 << 30, "5.0 GiB")],
)
def test_a_size_is_in_the_unit_that_suits_it(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


def test_columns_are_aligned_in_every_script() -> None:
    rows = [["日本語", "1"], ["e\u0301te\u0301", "10"], ["abc", "2"]]
    assert table(["output", "n"], rows, right=[1]).splitlines()[2:] == [
        "日本語   1",
        "e\u0301te\u0301     10",
        "abc      2",
    ]


@pytest.mark.parametrize(
    ("room", "lines"),
    [
        (13, ["a  bbbb  ccc", "─  ────  ───", "1  2     3"]),
        (11, ["a  ccc", "─  ───", "1  3", "  bbbb  2"]),
        (2, ["a", "─", "1", "  bbbb  2", "  ccc   3"]),
    ],
)
def test_the_widest_columns_of_a_table_go_below_where_it_is_narrow(
    room: int, lines: list[str]
) -> None:
    rows = [["1", "2", "3"], ["4", "", ""]]
    assert table(["a", "bbbb", "ccc"], rows, room=room).splitlines() == [*lines, "4"]


def test_an_empty_table_is_its_header() -> None:
    assert table(["a", "bc"], []) == "a  bc\n─  ──"


def test_the_help_of_a_command_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    for command, said in (
        (["bench"], "Measure the latency of every backend usable here, or compare bundles.\n"),
        (["emit", "ray"], "A Ray Serve application.\n"),
        (["train", "vision:resnet18"], "A classification model of torchvision: resnet18, mob"),
    ):
        with pytest.raises(SystemExit, match=r"^0$"):
            main([*command, "--help"])
        assert f"\n\n{said}" in capsys.readouterr().out


def test_nothing_is_taken_from_the_folder_one_stands_in(tmp_path: Path) -> None:
    """``python -m`` puts it first, and a folder of any name is a package to Python."""
    here = tmp_path / "here"
    (here / "triton").mkdir(parents=True)
    (here / "numpy.py").write_text("raise SystemExit('numpy of the folder')")
    code = (
        "import runpy, sys; sys.argv = ['edgeport', 'doctor']\n"
        "try: runpy.run_module('edgeport', run_name='__main__')\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "from importlib.util import find_spec; assert 'here' not in str(find_spec('triton'))"
    )
    command = f"import sys, os; sys.path[0] = os.getcwd()\n{code}"
    env = {**os.environ, "PYTHONPATH": str(Path(edgeport.__file__).parents[1])}
    ended = subprocess.run(
        [sys.executable, "-c", command], cwd=here, env=env, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
