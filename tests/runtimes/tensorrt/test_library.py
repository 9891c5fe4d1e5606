"""Which libraries are found, and what is said of those that are not."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeport.runtimes import BackendMissingError
from edgeport.runtimes.tensorrt import library
from edgeport.runtimes.tensorrt.library import Library, load


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose module ``tensorrt`` is the one that is found."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    yield tmp_path
    sys.modules.pop("tensorrt", None)  # before the one that was there comes back


@pytest.mark.parametrize(
    ("code", "problem", "remedy"),
    [
        (
            "raise ModuleNotFoundError('no', name='tensorrt_libs')",
            "TensorRT is not installed: there is no module 'tensorrt_libs'",
            "pip install 'edgeport\\[tensorrt\\]'",
        ),
        (
            "raise ImportError('libnvinfer.so.10: cannot open shared object file')",
            "TensorRT is installed, but does not load: libnvinfer.so.10: cannot open",
            "install all of it, in the version of its bindings",
        ),
        (
            "__version__ = '10.0'",
            "the module 'tensorrt' is a placeholder without TensorRT in it",
            "install the real one",
        ),
    ],
)
def test_a_library_that_is_not_there_is_told(
    modules: Path, code: str, problem: str, remedy: str
) -> None:
    (modules / "tensorrt.py").write_text(code)
    with pytest.raises(BackendMissingError, match=problem) as caught:
        load.__wrapped__("tensorrt")  # not what was found before
    assert caught.match(remedy)
    assert caught.value.exit_code == 3


def test_what_it_says_is_heard_by_level_while_somebody_listens(rtx: Library) -> None:
    assert str(rtx) == f"TensorRT-RTX {rtx.module.__version__}"
    severity = rtx.module.ILogger.Severity
    with rtx.listening() as important, rtx.listening("verbose") as everything:
        for level in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
            rtx.logger.log(getattr(severity, level), level)
    rtx.logger.log(severity.ERROR, "nobody listens")
    assert [message.text for message in important] == ["INTERNAL_ERROR", "ERROR", "WARNING"]
    assert [message.level for message in everything] == [
        "error", "error", "warning", "info", "verbose",
    ]  # fmt: skip  # one line


def test_who_hears_may_be_collected_meanwhile(rtx: Library) -> None:
    """A lane that garbage collection finds while a message is kept ends its listening there."""
    with rtx._ear._lock, rtx.listening() as heard:
        rtx.logger.log(rtx.module.ILogger.Severity.ERROR, "from inside")
    assert [each.text for each in heard] == ["from inside"]


def test_names_and_titles_fit_together() -> None:
    assert library.TITLES.keys() == library.INSTALL.keys() == set(library.NAMES)
