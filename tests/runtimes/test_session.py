import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeport.runtimes import BackendMissingError, MissingFileError, Options, UsageError, session
from edgeport.runtimes.needs import needs
from edgeport.runtimes.session import BACKENDS, FORMATS, open_artefact, probe


def python(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_table_is_consistent() -> None:
    root = Path(session.__file__).parent
    for entry in BACKENDS.values():
        assert entry.format in FORMATS
        assert (root / f"{'/'.join(entry.module.split('.')[2:])}.py").is_file()
    assert {entry.format for entry in BACKENDS.values()} == FORMATS.keys()
    assert FORMATS["onnx-strings"] == FORMATS["onnx"]  # the same format, for another way in
    assert len(set(FORMATS.values())) == len(FORMATS) - 1


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_says_whether_it_is_usable(name: str) -> None:
    found = probe(name)
    assert found.engine
    assert found.usable == (found.reason is None) == (found.remedy is None)


@pytest.mark.parametrize("call", [probe, session.backend])
def test_an_unknown_backend(call: Callable[[str], object]) -> None:
    with pytest.raises(
        UsageError, match="no backend is named 'tpu'\n  fix: use one of ort-cpu, ort-cuda, li"
    ):
        call("tpu")


def test_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.onnx", tmp_path):
        with pytest.raises(MissingFileError, match=r"no such file: .*\n  fix: check the path"):
            open_artefact(path, "ort-cpu")


@pytest.mark.parametrize("threads", [0, -1, 1025, 10**9])
def test_threads_that_make_no_sense(threads: int) -> None:
    with pytest.raises(UsageError, match=f"{threads} threads were asked for, expected 1 to 1024\n"):
        Options(threads=threads)


_MISSING = """
import sys
from pathlib import Path
sys.modules[sys.argv[1]] = None
from edgeport.runtimes import BackendMissingError, probe
from edgeport.runtimes.session import open_artefact
found = probe(sys.argv[2])
print(found.usable, found.reason, found.remedy, sep="|")
try:
    open_artefact(Path(sys.executable), sys.argv[2])
except BackendMissingError as e:
    print(e.exit_code, e, sep="|")
"""


@pytest.mark.parametrize(
    ("library", "backend", "extra"),
    [
        ("onnxruntime", "ort-cpu", "ort"),
        ("torch", "libtorch", "torch"),
        ("torch", "torch", "torch"),
    ],
)
def test_a_missing_library_is_named_with_the_line_that_installs_it(
    library: str, backend: str, extra: str
) -> None:
    problem = f"backend '{backend}' needs '{library}', which is not installed"
    remedy = f"pip install 'edgeport[{extra}]'"
    assert python(_MISSING, library, backend) == (
        f"False|{problem}|{remedy}\n3|{problem}\n  fix: {remedy}\n"
    )


@pytest.mark.parametrize(
    "raised",
    [
        "ImportError('libstdc++.so.6: no such file')",
        "OSError('libcudart.so.13: cannot open shared object file')",
        "RuntimeError('Unable to find torch_shm_manager')",
        "AttributeError('_ARRAY_API not found')",
    ],
)
@pytest.mark.parametrize(
    ("library", "backend", "extra"),
    [("onnxruntime", "ort-cpu", "ort"), ("torch", "libtorch", "torch")],
)
def test_a_broken_library_is_told_apart(
    tmp_path: Path, library: str, backend: str, extra: str, raised: str
) -> None:
    (tmp_path / f"{library}.py").write_text(f"raise {raised}")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"from edgeport.runtimes import probe; print(probe({backend!r}).reason)\n"
        f"print(probe({backend!r}).remedy)"
    )
    words = raised.partition("'")[2].rpartition("'")[0]
    assert python(code) == (
        f"backend '{backend}' needs '{library}', which is installed and does not load: {words}\n"
        f"pip install --force-reinstall 'edgeport[{extra}]'\n"
    )


def test_a_library_without_addresses_wants_memory() -> None:
    found = "libonnx.so: failed to map segment from shared object"
    with pytest.raises(BackendMissingError, match=found) as e, needs("it", "ort"):
        raise ImportError(found)
    assert e.value.remedy == (
        "give it more memory (ulimit -v), and a place that is not mounted noexec; pip install "
        "--force-reinstall 'edgeport[ort]'"
    )


def test_a_library_that_lacks_a_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").touch()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from edgeport.runtimes.needs import needs\n"
        "__name__ = 'edgeport.commands'\n"
        "try:\n"
        "    with needs('it', 'ort'):\n"
        "        from onnxruntime import Session\n"
        "except Exception as e:\n"
        "    print(e.problem)"
    )
    assert python(code) == (
        "it needs 'onnxruntime', which is installed and does not load: cannot import name "
        f"'Session' from 'onnxruntime' ({tmp_path / 'onnxruntime.py'})\n"
    )


def test_the_command_line_ends_with_3_where_an_engine_is_missing(packed: Path) -> None:
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from edgeport.__main__ import main\n"
        f"sys.exit(main(['verify', {str(packed)!r}, '--backend', 'ort-cpu']))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 3, found.stderr
    assert "pip install 'edgeport[ort]'" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_missing_backend_error_is_an_import_error() -> None:
    assert issubclass(BackendMissingError, ImportError)


def test_an_engine_may_rewrite_the_graph_unless_told_otherwise() -> None:
    assert Options().optimize
    assert Options(1, None, False) == Options(threads=1, optimize=False)


def test_an_interrupt_comes_when_the_engine_is_loaded() -> None:
    """ONNX Runtime swallows one while it is loaded."""
    code = """
import os, signal, sys
from edgeport.runtimes.session import probe
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime.capi._pybind_state":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
try:
    probe("ort-cpu")
except KeyboardInterrupt:
    print(hasattr(sys.modules["onnxruntime"], "InferenceSession"), probe("ort-cpu").usable)
"""
    assert python(code) == "True True\n"
