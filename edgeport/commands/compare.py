"""``edgeport compare``: whether a stored benchmark became faster or slower."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.commands.options import add_margin, margin, read_stored
from edgeport.commands.terminal import coloured, plain, show

if TYPE_CHECKING:
    from edgeport.runtimes.bench.stored import Compared


@dataclass(frozen=True, slots=True)
class CompareArgs:
    """What ``edgeport compare`` was asked."""

    before: Path
    after: Path
    margin: float
    as_json: bool


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "compare",
        help="say whether a stored benchmark is faster or slower than another",
        epilog="example: edgeport compare old.json new.json --margin 5",
    )
    parser.add_argument("before", type=Path, metavar="OLD", help="from edgeport bench --report")
    parser.add_argument("after", type=Path, metavar="NEW", help="another one, of the same machine")
    add_margin(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of sentences")
    parser.set_defaults(run=lambda a: run(CompareArgs(a.before, a.after, margin(a), a.json)))
    return parser


def run(args: CompareArgs) -> int:
    """Compare and print; 1 if something became slower."""
    from edgeport.runtimes.bench.stored import Stored, compare

    before, after = (
        Stored.loads(read_stored(path, "one that edgeport bench --report wrote"), str(path))
        for path in (args.before, args.after)
    )
    found = compare(before, after, args.margin)
    show(json.dumps(asdict(found), allow_nan=False) if args.as_json else _render(found))
    return 1 if any(c.verdict == "slower" for c in found.comparisons) else 0


def _render(found: Compared) -> str:
    from edgeport.commands.bench_tables import compared
    from edgeport.runtimes.bench.statistics import SMALLEST_PROCESSES

    lines = [compared(comparison) for comparison in found.comparisons]
    lines += [plain(change) for change in found.changes]
    if any(comparison.ratio.low is None for comparison in found.comparisons):
        fewest = SMALLEST_PROCESSES
        lines.append(f"too few processes to tell, {fewest} are needed: bench --processes {fewest}")
    if found.left_out:
        lines.append(f"in one of them only: {plain(', '.join(found.left_out))}")
    text = (
        "the two were measured at different times, so the machine's drift is in the ratio; to "
        "measure them in turn: edgeport bench A.edge B.edge"
    )
    return "\n".join([*lines, coloured(text, "dim")])
