"""What commands print: tables, marks, a progress bar. Results go to stdout, the rest to stderr."""

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, TextIO
from unicodedata import combining, east_asian_width

from edgeport.runtimes.errors import StorageError

Colour = Literal["green", "red", "yellow", "bold", "dim"]

_CODES: Final = {"green": "32", "red": "31", "yellow": "33", "bold": "1", "dim": "2"}
_BAR_WIDTH: Final = 24
_LEAST_BAR: Final = 4


def coloured(text: str, colour: Colour, stream: TextIO | None = None) -> str:
    """Colour ``text`` if the stream is a terminal and ``NO_COLOR`` (no-color.org) is not set."""
    stream = stream or sys.stdout
    if os.environ.get("NO_COLOR") or stream is None or not stream.isatty():  # None: closed (>&-)
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[int] = (),
    room: int | None = None,
) -> str:
    """Lay rows out in columns; the widest go to lines of their own where a terminal is narrow.

    Args:
        header: One title per column.
        rows: Cells, as plain text.
        right: Columns to align to the right: numbers.
        room: Signs that fit in a line; ``None`` for the terminal's, and no end where there is none.

    Examples:
        >>> rows = [["ort-cpu", "0.92", "random, batch=7"], ["torch", "1", ""]]
        >>> print(table(["backend", "ratio", "worst on"], rows, right=[1]))
        backend  ratio  worst on
        ───────  ─────  ───────────────
        ort-cpu   0.92  random, batch=7
        torch        1
        >>> print(table(["backend", "ratio", "worst on"], rows, right=[1], room=30))
        backend  ratio
        ───────  ─────
        ort-cpu   0.92
          worst on  random, batch=7
        torch        1
    """
    widths = [max(map(_columns, cells)) for cells in zip(header, *rows, strict=True)]
    kept, below = _fitting(widths, room or _room(sys.stdout))
    name_width = max((_columns(header[column]) for column in below), default=0)
    lines = []
    for number, row in enumerate((header, ["─" * width for width in widths], *rows)):
        cells = [_padded(row[column], widths[column], column in right) for column in kept]
        lines.append("  ".join(cells).rstrip())
        if number > 1:
            lines += [
                f"  {_padded(header[column], name_width)}  {row[column]}"
                for column in below
                if row[column]
            ]
    return "\n".join(lines)


def _fitting(widths: Sequence[int], room: int | None) -> tuple[list[int], list[int]]:
    """Columns that stand beside one another, and those below: the widest, but not the first."""
    kept, below = [*range(len(widths))], list[int]()
    while room and len(kept) > 1 and sum(widths[c] + 2 for c in kept) - 2 > room:
        below.append(max(kept[1:], key=lambda column: widths[column]))
        kept.remove(below[-1])
    return kept, sorted(below)


def _padded(text: str, width: int, to_right: bool = False) -> str:
    blank = " " * (width - _columns(text))
    return blank + text if to_right else text + blank


def _columns(text: str) -> int:
    """How wide a terminal draws it: signs of East Asia take two columns, combined ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def size_text(size_bytes: int) -> str:
    """A size of a file in the unit that suits it.

    Examples:
        >>> size_text(504), size_text(1500), size_text(3_000_000), size_text(5 << 30)
        ('504 B', '1 KiB', '2.9 MiB', '5.0 GiB')
    """
    if size_bytes < 1024:
        return f"{size_bytes} B"
    kib = size_bytes / 1024
    if kib < 1024:
        return f"{kib:,.0f} KiB"
    return f"{kib / 1024:,.1f} MiB" if kib < 1 << 20 else f"{kib / (1 << 20):,.1f} GiB"


def plain(text: str) -> str:
    r"""Text of a stranger without what a terminal would obey.

    Examples:
        >>> plain("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def plain_lines(text: str) -> str:
    r"""The same of several lines.

    Examples:
        >>> plain_lines("a\x1b\nb")
        'a\\x1b\nb'
    """
    return "\n".join(map(plain, text.split("\n")))


def show(text: str) -> None:
    """Print a result on stdout.

    Raises:
        StorageError: It cannot be written, and not because its reader went away.
    """
    _write(text, sys.stdout)


def show_where_to_copy(bundle: Path, script: Path) -> None:
    """Tell what to copy, if a script that finds its bundle beside itself is somewhere else."""
    place = bundle.resolve()
    if script.resolve().parent != place.parent:
        named = bundle if bundle.name == place.name else place  # not ".", nor a link's own name
        show(f"next: copy {shlex.quote(str(named))} beside it")


def note(text: str) -> None:
    """Say what is going on, on stderr."""
    _write(text, sys.stderr)


def _write(text: str, stream: TextIO) -> None:
    try:
        print(text, file=stream, flush=True)
    except OSError as e:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python tries again at exit
        if isinstance(e, BrokenPipeError) or stream is sys.stderr:
            return  # nobody reads on: the work, and its exit code, matter all the same
        raise StorageError(
            f"cannot print the result: {e.strerror}", remedy="send it to a place that has room"
        ) from e


class Progress:
    """A bar on stderr, drawn only on a terminal: ``epochs ████████░░░░ 4 s left  loss 0.02``."""

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = max(total, 1)
        self._start = self._drawn = time.monotonic()
        self._visible = sys.stderr.isatty()

    @property
    def due(self) -> bool:
        """Whether an update would be drawn now: cheaper to ask than to put a text together."""
        return self._visible and time.monotonic() - self._drawn >= 0.1

    def update(self, done: int, text: str = "", total: int | None = None) -> None:
        """Show that ``done`` are done, of the total or of a new one; at most ten times a second."""
        now = time.monotonic()
        self._total = max(total or self._total, 1)
        if not self._visible or (now - self._drawn < 0.1 and done < self._total):
            return
        self._drawn = now
        left = f"{(now - self._start) * (self._total - done) / done:.0f} s left  " if done else ""
        room, beside = _room(sys.stderr), len(f"{self._title}  {left}{text}")
        width = _BAR_WIDTH if room is None else max(_LEAST_BAR, min(_BAR_WIDTH, room - beside))
        filled = round(width * min(done / self._total, 1))
        bar = "█" * filled + "░" * (width - filled)
        line = f"{self._title} {bar} {left}{text}".rstrip()
        print(f"\r\x1b[2K{line[:room]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the bar."""
        if self._visible:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def _room(stream: TextIO) -> int | None:
    """Signs that fit in a line of the terminal: what goes on in a second one is not removed."""
    try:
        return (os.get_terminal_size(stream.fileno()).columns or 81) - 1
    except (OSError, ValueError, AttributeError):  # closed, or None (>&-)
        return None


@contextlib.contextmanager
def progress(title: str, total: int) -> Iterator[Progress]:
    """A progress bar that is removed however the block ends."""
    bar = Progress(title, total)
    try:
        yield bar
    finally:
        bar.clear()
