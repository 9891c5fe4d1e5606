"""Cells of a long run: each found in a process of its own, kept at once, and not found again."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from edgeport.deploy.isolation import Killed, Limits, run_isolated
from edgeport.runtimes import EdgeportError, files

Cell: TypeAlias = dict[str, Any]

_MOST_SHOWN: Final = 20


def add_options(parser: argparse.ArgumentParser, of: str, limit_s: float) -> None:
    parser.add_argument("--limit-s", type=float, default=limit_s, help=f"for one {of}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="results; gone on with if there")


def kept(file: Path | None) -> dict[str, Cell]:
    """What an earlier run left."""
    if file is None or not file.exists():
        return {}
    cells: dict[str, Cell] = json.loads(file.read_text())["cells"]
    return cells


def keep(file: Path | None, report: Mapping[str, Any]) -> None:
    if file is not None:
        files.write(file, json.dumps(report, indent=1))


def found_apart(find: Callable[[], Cell], limit_s: float) -> Cell | str:
    """What a process found, or why it found nothing."""
    try:
        found = run_isolated(find, Limits(limit_s))
    except EdgeportError as e:
        return e.problem
    return f"killed: {found.problem}" if isinstance(found, Killed) else found


def print_first(title: str, lines: Sequence[str]) -> None:
    print(f"\n{title}: {len(lines)}", *lines[:_MOST_SHOWN], sep="\n  ")
