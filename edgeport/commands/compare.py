"""``edgeport compare``: whether a stored benchmark became faster or slower."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.commands.terminal import coloured, plain, show
from edgeport.runtimes.errors import MissingFileError, StorageError, UsageError

if TYPE_CHECKING:
    from edgeport.runtimes.bench.stored import Compared


@dataclass(frozen=True, slots=True)
class CompareArgs:
    """What ``edgeport compare`` was asked."""

    before: Path
    after: Path
    margin_percent: float
    as_json: bool


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "compare", help="say whether a stored benchmark is faster or slower than another"
    )
    parser.add_argument("before", type=Path, metavar="OLD", help="from edgeport bench --report")
    parser.add_argument("after", type=Path, metavar="NEW", help="another one, of the same machine")
    parser.add_argument(
        "--margin",
        type=float,
        default=3.0,
        metavar="PERCENT",
        help="differences within it are called equivalent (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of sentences")
    parser.set_defaults(run=lambda a: run(CompareArgs(a.before, a.after, a.margin, a.json)))
    return parser


def run(args: CompareArgs) -> int:
    """Compare and print; 1 if something became slower."""
    from edgeport.runtimes.bench.stored import Stored, compare

    if not 0 < args.margin_percent < 100:
        raise UsageError(
            f"--margin is {args.margin_percent:g} %", remedy="give one between 0 and 100"
        )
    before, after = (Stored.loads(_read(p), str(p)) for p in (args.before, args.after))
    found = compare(before, after, args.margin_percent / 100)
    show(json.dumps(asdict(found), allow_nan=False) if args.as_json else _render(found))
    return 1 if any(c.verdict == "slower" for c in found.comparisons) else 0


def _render(found: Compared) -> str:
    from edgeport.commands.bench_tables import compared

    lines = [compared(comparison) for comparison in found.comparisons]
    lines += [plain(change) for change in found.changes]
    if found.left_out:
        lines.append(f"in one of them only: {plain(', '.join(found.left_out))}")
    text = "measured at different times, so nothing cancels; in turn: edgeport bench A.edge B.edge"
    return "\n".join([*lines, coloured(text, "dim")])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as e:
        raise MissingFileError(f"no such file: {path}", remedy="check the path") from e
    except OSError as e:
        raise StorageError(
            f"cannot read {path}: {e.strerror or e}",
            remedy="name a file that edgeport bench --report wrote",
        ) from e
