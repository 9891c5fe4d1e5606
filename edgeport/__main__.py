"""Command line: ``edgeport COMMAND``. Parses, calls, and turns errors into exit codes.

0 fine; 1 what was checked failed; 2 usage or bad input; 3 something needed is missing here;
130 interrupted, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import atexit
import codecs
import errno
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any, Final, NoReturn

from edgeport import __version__

if TYPE_CHECKING:  # the rest is imported in ``main``, which has words for Ctrl-C
    from argparse import ArgumentParser, Namespace

COMMANDS = (
    *("train", "export", "pack", "sign", "verify", "inspect", "diff", "predict", "nearest"),
    *("bench", "compare", "serve", "embed", "build-runner", "emit", "doctor"),
)


_MISSING: Final = 3
"""Exit code: something that is needed is missing here. Memory is, too."""

_INTERRUPTED: Final = 130
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_IN_ASCII: Final = "edgeport-in-ascii"
"""How what a terminal without UTF-8 has no sign for is written."""

_INSTEAD: Final = {"─": "-", "✓": "+", "✗": "x", "µ": "u", "█": "#", "░": ".", "…": "~"}


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_INSTEAD.get(sign, "?") for sign in text), error.end


codecs.register_error(_IN_ASCII, _in_ascii)


@atexit.register
def _end_quickly() -> None:
    if "edgeport.runtimes" in sys.modules:  # else there is little to look through
        from edgeport.runtimes.collector import end_quickly

        end_quickly()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    with _ended_as_by_ctrl_c() as came:
        code = _main(argv)
    return 128 + came[0] if came and code == _INTERRUPTED else code


def _main(argv: Sequence[str] | None) -> int:
    typed = sys.argv[1:] if argv is None else argv
    try:
        _open_closed_streams()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors=_IN_ASCII)
        try:
            with _uninterrupted():
                parser = _parser(typed)
            arguments = parser.parse_args(typed)
            if "" in typed:  # as a path it would be the folder one stands in
                empty = (
                    "edgeport: an argument is empty\n  fix: is a variable of the shell not set?\n"
                )
                parser.exit(2, empty)
        except MemoryError as e:  # no room for our own modules: import no more of them
            print(f"edgeport: {_in_words(e)}", file=sys.stderr)
            return _MISSING
        except ImportError as e:  # of numpy; what else there is, is imported when it is needed
            if "--debug" in typed:
                raise
            print(f"edgeport: {_of_numpy(e)}", file=sys.stderr)
            return _MISSING
        return _run(arguments)
    except KeyboardInterrupt as e:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)  # one is enough: we are on our way out
        written = "; ".join(getattr(e, "__notes__", ())) or "nothing was written"
        print(f"edgeport: interrupted; {written}", file=sys.stderr)
        return _INTERRUPTED


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[list[int]]:
    """Let SIGTERM, and SIGHUP of a terminal that is gone, be Ctrl-C; collect which came."""
    came: list[int] = []

    def interrupt(number: int, frame: object) -> NoReturn:
        came.append(number)
        for each in ours:  # the terminal and the shell both send SIGHUP: one is enough
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    ours = [n for n in _ENDING if signal.getsignal(n) is signal.SIG_DFL]  # not behind nohup
    if current_thread() is not main_thread():
        ours = []
    for number in ours:
        signal.signal(number, interrupt)
    try:
        yield came
    finally:
        for number in ours:
            if signal.getsignal(number) is interrupt:
                signal.signal(number, signal.SIG_DFL)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C come behind the block: numpy, while it is imported, calls it a broken install."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _take_nothing_from_here() -> None:
    """Take no library from the folder we stand in, as ``edgeport`` does not: ``-m`` puts it first.

    A folder ``triton`` or a file ``random.py`` there would be what torch gets by that name. What
    the user's own code imports is found there nevertheless.
    """
    from pathlib import Path

    if not sys.flags.safe_path and sys.path[0] == str(Path.cwd()):
        del sys.path[0]  # edgeport itself is imported, and knows where its parts are


def _open_closed_streams() -> None:
    """Let a closed stream (``2>&-``) lead nowhere.

    The next file that is opened would get its number, and with it what libraries log.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: PTH123, SIM115


def _run(arguments: Namespace) -> int:
    from edgeport.runtimes.errors import EdgeportError

    try:
        code: int = arguments.run(arguments)
    except (EdgeportError, OSError, MemoryError) as e:
        if arguments.debug:
            raise
        from edgeport.commands.terminal import note, plain_lines

        note(f"edgeport: {plain_lines(_in_words(e))}")
        if isinstance(e, EdgeportError):
            return e.exit_code
        return _MISSING if _is_of_memory(e) else 2
    return code


def _is_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM


def _in_words(error: Exception) -> str:
    if hasattr(error, "remedy"):
        return str(error)
    if _is_of_memory(error):
        what = ": ".join(filter(None, ["out of memory", str(error)]))
        return f"{what}\n  fix: use smaller sizes, or a larger machine"
    if isinstance(error, OSError):
        return f"{error}\n  fix: check the path and its permissions"
    return str(error)


def _of_numpy(error: ImportError) -> str:
    told = str(error).strip().splitlines()[-1:]  # before it comes numpy's own advice
    return (
        f"numpy is missing or does not load: {' '.join(told)}\n"
        "  fix: pip install --force-reinstall numpy; a library (.so) that is named there comes "
        "with the system: apt install libopenblas0, for one"
    )


def _parser(typed: Sequence[str]) -> ArgumentParser:
    """Declare the command that was typed, or all of them where it is none: for ``--help``."""
    from importlib import import_module

    from edgeport.commands.parsers import Commands, Parser

    parser = Parser(
        prog="edgeport",
        description="Take a PyTorch model to the device it runs on, "
        "and prove that it is still the same model.",
    )
    parser.add_argument("--version", action="version", version=f"edgeport {__version__}")

    commands: Any = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", action=Commands
    )
    for name in typed[:1] if typed and typed[0] in COMMANDS else COMMANDS:
        child = import_module(f"edgeport.commands.{name.replace('-', '_')}").add(commands)
        child.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


if __name__ == "__main__":
    _take_nothing_from_here()
    raise SystemExit(main())
