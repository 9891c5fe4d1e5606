"""Options that several commands share, and how their values are read."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from edgeport.runtimes.errors import MissingFileError, StorageError, UsageError


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Declare ``--backend``, ``--threads`` and ``--device``."""
    parser.add_argument(
        "--backend", type=names, metavar="NAME[,NAME]", help="only these (default: all that fit)"
    )
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads in one operator (default: all CPUs)"
    )
    add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare ``--device``; ``Options`` knows which there are."""
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda or cuda:N (default: the backend's own)"
    )


def add_max_ratio(parser: "argparse._ActionsContainer", default: str) -> None:
    """Declare ``--max-ratio``, which may be given once, and once for each output."""
    parser.add_argument(
        "--max-ratio",
        type=_ratio,
        action="append",
        default=[],
        metavar="[OUTPUT=]X",
        help=f"error in noise floors, of every output or of one; repeat (default: {default})",
    )


def ratios_of(given: Sequence[tuple[str | None, float]]) -> dict[str | None, float]:
    """What ``--max-ratio`` said, by output; ``None`` for all that have none of their own.

    Raises:
        UsageError: One of them is no ratio, or was given twice.
    """
    ratios: dict[str | None, float] = {}
    for name, ratio in given:
        of = f" of {name}" if name else ""
        if not ratio > 0:
            raise UsageError(f"--max-ratio{of} is {ratio:g}", remedy="use a number above 0")
        if name in ratios:
            raise UsageError(
                f"--max-ratio{of} is {ratios[name]:g} and {ratio:g}", remedy="give one of them"
            )
        ratios[name] = ratio
    return ratios


def add_margin(parser: "argparse._ActionsContainer") -> None:
    """Declare ``--margin``."""
    parser.add_argument(
        "--margin",
        type=float,
        default=3.0,
        metavar="PERCENT",
        help="differences within it are called equivalent (default: %(default)g)",
    )


def margin(arguments: argparse.Namespace) -> float:
    """What ``--margin`` said, as a share.

    Raises:
        UsageError: It makes no sense.
    """
    percent: float = arguments.margin
    if not 0 < percent < 100:
        raise UsageError(f"--margin is {percent:g} %", remedy="give one between 0 and 100")
    return percent / 100


def read_stored(path: Path, example: str) -> bytes:
    """Read a file that another command wrote.

    Args:
        path: Of the file.
        example: What to name instead, in the remedy.

    Raises:
        MissingFileError: There is none.
        StorageError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as e:
        raise MissingFileError(f"no such file: {path}", remedy="check the path") from e
    except OSError as e:
        raise StorageError(
            f"cannot read {path}: {e.strerror or e}", remedy=f"name a file, such as {example}"
        ) from e


def is_report(path: Path | None) -> None:
    """Refuse a report that is neither a page nor JSON.

    Raises:
        UsageError: Its name ends otherwise.
    """
    if path is not None and path.suffix not in (".html", ".json"):
        raise UsageError(
            f"--report {path} is neither .html nor .json",
            remedy="name it so, to choose between a page for people and one for programs",
        )


def _ratio(text: str) -> tuple[str | None, float]:
    name, _, number = text.rpartition("=")
    try:
        return name or None, float(number)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"expected X or OUTPUT=X, got {text!r}") from e


def names(text: str) -> tuple[str, ...]:
    """Split a comma-separated list."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise argparse.ArgumentTypeError("expected NAME[,NAME...]")
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} names something twice")
    return found


def positive(text: str) -> int:
    """Read a number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)
