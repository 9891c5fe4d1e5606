"""Options that several commands share, and how their values are read."""

import argparse
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from edgeport.runtimes.devices import GpuOptions
from edgeport.runtimes.errors import MissingFileError, StorageError, UsageError
from edgeport.runtimes.parity.thresholds import MOST_SIGNAL_DB

_UNITS: Final = {
    "": 1,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}
_LARGEST_SIZE: Final = 2**41


class Listed(argparse.Action):
    """Of an option with several values: given again, it has those of both."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Keep them."""
        before = getattr(namespace, self.dest) or ()
        if twice := [value for value in values if value in before]:
            parser.error(f"argument {option_string}: {twice[0]} is there twice")
        setattr(namespace, self.dest, (*before, *values))


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Declare ``--backend``, ``--threads`` and ``--device``."""
    parser.add_argument(
        "--backend",
        type=names,
        action=Listed,
        metavar="NAME[,NAME]",
        help="only these (default: all that fit)",
    )
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads in one operator (default: all CPUs)"
    )
    add_gpu_options(parser)


DEFAULT_BACKEND_TEXT: Final = "(default: ort-cpu, or ort-cuda with --device cuda)"


TF32_HELP: Final = "round factors of float32 products to 10 bits: faster"


def add_gpu_options(parser: argparse.ArgumentParser, *, device: bool = True) -> None:
    """Declare ``--device``, and what else may be asked of a GPU.

    Args:
        parser: The command's.
        device: Whether ``--device`` is to be one of them.
    """
    group = parser.add_argument_group("on a GPU")
    if device:
        group.add_argument(
            "--device", metavar="NAME", help="cpu, cuda or cuda:N (default: the backend's own)"
        )
        group.add_argument(
            "--cuda-graph",
            action="store_true",
            help="record a call once and replay it; all shapes must be fixed",
        )
    group.add_argument(
        "--allow-cpu-nodes",
        action="store_true",
        help="accept nodes that the engine can only compute on the CPU",
    )
    group.add_argument(
        "--gpu-memory", type=size, metavar="SIZE", help="what an engine may take: 4GiB (all)"
    )
    group.add_argument("--tf32", action="store_true", help=TF32_HELP)


def gpu_options(arguments: argparse.Namespace) -> GpuOptions:
    """What was asked of a GPU.

    Raises:
        UsageError: The size is too small.
    """
    return GpuOptions(
        allow_cpu_nodes=arguments.allow_cpu_nodes,
        memory_bytes=arguments.gpu_memory,
        tf32=arguments.tf32,
        cuda_graph=getattr(arguments, "cuda_graph", False) is True,
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


def add_min_signal(parser: "argparse._ActionsContainer", default: str) -> None:
    """Declare ``--min-signal``."""
    parser.add_argument(
        "--min-signal",
        type=_decibels,
        metavar="DB",
        help=f"smallest signal over noise of int8 and float16 (default: {default})",
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
        UsageError: It is a folder.
        StorageError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as e:
        raise MissingFileError(f"no such file: {path}", remedy="check the path") from e
    except IsADirectoryError as e:
        raise UsageError(
            f"{path} is a folder, and a file is read", remedy=f"name a file, such as {example}"
        ) from e
    except OSError as e:
        raise StorageError(
            f"cannot read {path}: {e.strerror or e}", remedy=f"name a file, such as {example}"
        ) from e


def check_report(path: Path | None, kept: Sequence[Path]) -> None:
    """Refuse a report that is neither a page nor JSON, or that could not be written in the end.

    Args:
        path: Where it is to be; ``None`` if none was asked for.
        kept: As for ``refuse_overwriting``.

    Raises:
        UsageError: Its name ends otherwise, or it would overwrite something that is kept.
        PlaceError: A folder is there, or a file is where a folder above it should be.
    """
    if path is None:
        return
    if path.suffix not in (".html", ".json"):
        raise UsageError(
            f"--report {path} is neither .html nor .json",
            remedy="name it so, to choose between a page for people and one for programs",
        )
    from edgeport.runtimes.files import refuse_unfit

    refuse_unfit(path)
    refuse_overwriting(path, "--report", kept)


def refuse_overwriting(output: Path, option: str, kept: Sequence[Path]) -> None:
    """Refuse a place whose file, once it is there, would spoil what a command works on.

    Args:
        output: The place.
        option: That named it.
        kept: Files and folders (bundles, runs) that must stay as they are, or don't exist. Nothing
            may be written into such a folder: the manifest of a bundle, and of a run its record,
            say what is in it, the ``reports/`` of a bundle included.

    Raises:
        UsageError: It is one of them, under whatever name, or in one of them.
    """
    # functions of os: they raise nothing for loops of links and names that are too long
    old = os.path.exists(output)  # noqa: PTH110
    own = Path(os.path.realpath(output.parent), output.name)
    places = (own, Path(os.path.realpath(output)))  # that of a link, and where it leads
    for path in kept:
        same = old and os.path.exists(path) and output.samefile(path)  # noqa: PTH110
        if same or any(place.is_relative_to(os.path.realpath(path)) for place in places):
            what = "what is read" if same else f"in {path}, which is read"
            raise UsageError(
                f"{output} is {what}, and {option} would overwrite it"
                if old
                else f"{output} would be in {path}, and {option} adds nothing to that",
                remedy="choose another place",
            )


def _ratio(text: str) -> tuple[str | None, float]:
    name, _, number = text.rpartition("=")
    try:
        return name or None, float(number)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"expected X or OUTPUT=X, got {text!r}") from e


def _decibels(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MOST_SIGNAL_DB:
        raise argparse.ArgumentTypeError(
            f"expected decibels from 0 to {MOST_SIGNAL_DB}, such as 30, got {text!r}"
        )
    return value


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


def above_zero(text: str) -> float:
    """Read a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def seed(text: str) -> int:
    """Read a seed."""
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 2**63 - 1, got {text!r}")
    return int(text)


def file_path(text: str) -> Path:
    """Read the place of a file that is to be written; ``Path`` would forget a slash at the end."""
    if text.endswith(("/", "/.", "/..")):
        raise argparse.ArgumentTypeError(f"expected a file, got the folder {text!r}")
    if text == "-":
        raise argparse.ArgumentTypeError("expected a file, got '-'; one of that name is ./-")
    return Path(text)


def size(text: str) -> int:
    """Read a number of bytes: ``"64MiB"``, ``"1000000"``."""
    match = re.fullmatch(r"(\d{1,12}) ?([A-Za-z]*)", text)
    unit = _UNITS.get(match[2].upper()) if match else None
    count = int(match[1]) * unit if match and unit else 0
    if not 0 < count <= _LARGEST_SIZE:
        raise argparse.ArgumentTypeError(f"expected a size such as 64MiB, got {text!r}")
    return count
