"""``edgeport diff``: what changed from one bundle to another."""

import argparse
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgeport.commands.terminal import plain, show, table
from edgeport.runtimes import Bundle
from edgeport.runtimes.weights.of_artefact import READABLE
from edgeport.runtimes.weights.rounded import PARTS

if TYPE_CHECKING:
    from edgeport.runtimes.bundles.difference import Difference, WeightChange

LONGEST_CELL: Final = 40
"""Characters of a value in a table; --json has all."""

MOST_WEIGHTS: Final = 20
"""Rows of a table that people read; --json has all."""


@dataclass(frozen=True, slots=True)
class DiffArgs:
    """What ``edgeport diff`` was asked."""

    before: Path
    after: Path
    as_json: bool


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "diff", help="show what changed from one bundle to another: signature, weights, parity"
    )
    parser.add_argument("before", type=Path, metavar="A", help="a bundle")
    parser.add_argument("after", type=Path, metavar="B", help="another one")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(run=lambda a: run(DiffArgs(a.before, a.after, a.json)))
    return parser


def run(args: DiffArgs) -> int:
    """Compare and print."""
    from edgeport.runtimes.bundles.difference import compare

    found = compare(Bundle.peek(args.before), Bundle.peek(args.after))
    show(json.dumps(found.to_json()) if args.as_json else _render(found))
    return 0


def _render(found: "Difference") -> str:
    blocks: list[str] = []
    if found.changes:
        rows = [[plain(c.what), *_cells(c.before, c.after)] for c in found.changes]
        blocks.append(table(["what", "before", "after"], rows))
    for format_, weights in found.weights.items():
        what = f"weights of {format_}"
        if weights.changed:
            blocks.append(f"{what}: {_counted(weights.changed)}\n{_weights(weights.changed)}")
        else:
            blocks.append(f"{what}: all {weights.tensors} tensors are the same")
    if not found.weights:
        known = ", ".join(READABLE)
        blocks.append(f"weights: not compared, because not both hold one of {known}")
    return "\n\n".join(blocks if found.changes else ["the manifests say the same", *blocks])


def _counted(weights: "tuple[WeightChange, ...]") -> str:
    """How many there are of each kind; of those that changed their dtype, from which to which."""
    told = [each for each in weights if not _is_part(each)]
    counts = Counter(_kind(each) for each in told)
    counts["scales and zero points"] = len(weights) - len(told)
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _kind(change: "WeightChange") -> str:
    if change.before is None:
        return "only after"
    if change.after is None:
        return "only before"
    old, new = (text.partition("[")[0] for text in (change.before, change.after))
    return "differ" if old == new else f"from {old} to {new}"


def _is_part(change: "WeightChange") -> bool:
    """Whether it says how values or weights are rounded, in one of the bundles alone."""
    return change.name.endswith(PARTS) and None in (change.before, change.after)


def _cells(before: str | None, after: str | None) -> tuple[str, str]:
    """Two values side by side; of long ones what is around the first difference."""
    first, second = _short(before), _short(after)
    if max(len(first), len(second)) <= LONGEST_CELL:
        return first, second
    pairs = enumerate(zip(first, second, strict=False))
    same = next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))
    start = max(0, same - LONGEST_CELL // 4)
    return _cut(first, start), _cut(second, start)


def _cut(text: str, start: int) -> str:
    end = start + LONGEST_CELL
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


def _short(text: str | None) -> str:
    """A hash by its beginning, as everywhere; what is not there by a dash."""
    if text is not None and re.fullmatch("[0-9a-f]{64}", text):
        return text[:16]
    return plain(text or "-")


def _weights(weights: "tuple[WeightChange, ...]") -> str:
    told = (weight for weight in weights if not _is_part(weight))
    ordered = sorted(told, key=lambda weight: -(weight.relative or 0))
    rows = [
        [
            plain(weight.name),
            weight.before or "-",
            weight.after or "-",
            _number(weight.largest),
            _number(weight.relative),
        ]
        for weight in ordered[:MOST_WEIGHTS]
    ]
    header = ["tensor", "before", "after", "largest change", "rms change, relative"]
    text = table(header, rows, right=[3, 4])
    left = len(ordered) - MOST_WEIGHTS
    return text if left <= 0 else f"{text}\nand {left} more: --json has all"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
