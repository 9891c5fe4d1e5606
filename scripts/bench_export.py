"""Export every module of the zoo with edgeport and with the raw tools, side by side.

    python scripts/bench_export.py --jobs 2 --json export.json
    python scripts/bench_export.py --family recurrent --routes dynamo,legacy
    python scripts/bench_export.py --only "branch,lstm"
    python scripts/bench_export.py --time --family dense

Every attempt has a process of its own and a time limit. What was written is opened and judged
against the eager module in eval mode, on inputs that no exporter saw, at several sizes of every
free dimension, by edgeport's parity rule; ONNX files also without ONNX Runtime's optimiser. A
cell is

    ok        right everywhere
    refused   an error, and no file
    WRONG     a file that answers something else
    REJECTS   a file that does not open, or does not take a size that was declared
    timeout, crash

Exit code 1 if edgeport wrote a file that is wrong. Entries whose packages are missing are left
out, and named. The full zoo takes an hour or two on two cores.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeAlias

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for the scripts beside this one
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for the zoo

import zoo

from edgeport.commands.terminal import note, table
from scripts.exports.attempt import attempt, make_reference
from scripts.exports.duration import time_exports
from scripts.exports.routes import OURS, RAW, ROUTES
from scripts.exports.zoo_sources import chosen_modules

Cells: TypeAlias = dict[str, dict[str, Any]]
"""Route -> outcome, detail and seconds."""

CONTEXT: Final = multiprocessing.get_context("forkserver")
"""Each attempt is a fork of a clean process that has imported the tools: seconds less each."""

PRELOADED: Final = (
    "__main__",
    "networkx",
    "onnxscript.function_libs.torch_lib.ops",
    "torch._inductor.compile_fx",
    "torch.export.pt2_archive._package",
    "torch.onnx._internal.exporter._core",
    "torch.onnx._internal.exporter._fx_passes",
)
"""What the tools import at their first call; a name that another torch lacks is passed over."""


def main() -> int:
    arguments = _parser().parse_args()
    names = chosen_modules(arguments.only, arguments.family)
    if arguments.time:
        return time_exports(names, arguments.rounds, arguments.json)
    routes = arguments.routes.split(",") if arguments.routes else list(ROUTES)
    results: dict[str, Cells] = {}
    CONTEXT.set_forkserver_preload([*PRELOADED])
    with ThreadPoolExecutor(arguments.jobs) as pool, tempfile.TemporaryDirectory() as folder:
        tasks = {
            name: pool.submit(_entry, name, number, routes, Path(folder), arguments.limit_s)
            for number, name in enumerate(names)
        }
        for name, task in tasks.items():
            results[name] = task.result()
            note(f"{name}: {', '.join(_cell(cell) for cell in results[name].values())}")
            if arguments.json:
                arguments.json.write_text(json.dumps(_report(results, routes), indent=1))
    _print(results, routes)
    return (
        1 if any(_is_lie(route, cell) for c in results.values() for route, cell in c.items()) else 0
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="NAME,...", help="these modules")
    parser.add_argument("--family", default="", help="modules of this family")
    parser.add_argument("--routes", default="", metavar="ROUTE,...", help=", ".join(ROUTES))
    parser.add_argument("--jobs", type=int, default=1, help="modules at the same time")
    parser.add_argument("--limit-s", type=float, default=300.0, help="of one attempt")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything, also the messages")
    parser.add_argument("--time", action="store_true", help="wall time instead of outcomes")
    parser.add_argument("--rounds", type=int, default=3, help="pairs per module with --time")
    return parser


def _entry(name: str, number: int, routes: Sequence[str], folder: Path, limit_s: float) -> Cells:
    """All routes of one module, one after the other."""
    own = folder / str(number)
    own.mkdir()
    reference, log = own / "reference.pickle", own / "log"
    ended = _in_process(make_reference, (name, reference, log), limit_s)
    if ended is not None:
        detail = f"the module itself fails: {log.read_text(errors='replace').strip()[-300:]}"
        return {route: {"outcome": "crash", "detail": detail, "export_s": None} for route in routes}
    cells: Cells = {}
    for route in routes:
        result = own / "result.json"
        for file in (result, log):
            file.unlink(missing_ok=True)
        ended = _in_process(attempt, (name, route, reference, result, log), limit_s)
        if ended is None:
            cells[route] = json.loads(result.read_text())
        else:
            detail = log.read_text(errors="replace").strip()[-300:] if log.exists() else ""
            cells[route] = {"outcome": ended, "detail": detail, "export_s": None}
    return cells


def _in_process(function: Callable[..., None], args: tuple[Any, ...], limit_s: float) -> str | None:
    """How it ended, if not well."""
    process = CONTEXT.Process(target=function, args=args)
    process.start()
    process.join(limit_s)
    if process.is_alive():
        process.kill()
        process.join()
        return "timeout"
    return None if process.exitcode == 0 else "crash"


def _cell(cell: Mapping[str, Any]) -> str:
    outcome = str(cell["outcome"])
    return outcome.upper() if outcome in ("wrong", "rejects") else outcome


def _best(results: Mapping[str, Cells]) -> dict[str, int]:
    """By format: for how many modules any of the raw tools that ran is right."""
    return {
        format_: sum(
            any(
                cells[route]["outcome"] == "ok"
                for route, way in RAW.items()
                if way.format == format_ and route in cells
            )
            for cells in results.values()
        )
        for format_ in ("onnx", "torchscript", "pt2")
    }


def _totals(results: Mapping[str, Cells], routes: Sequence[str]) -> dict[str, Counter[str]]:
    return {
        route: Counter(str(cells[route]["outcome"]) for cells in results.values())
        for route in routes
    }


def _report(results: Mapping[str, Cells], routes: Sequence[str]) -> dict[str, Any]:
    return {
        "bench_export_version": 1,
        "modules": len(results),
        "totals": _totals(results, routes),
        "best_raw": _best(results),
        "cells": results,
    }


def _print(results: Mapping[str, Cells], routes: Sequence[str]) -> None:
    print(
        table(
            ["module", "family", *routes],
            [
                [name, zoo.ZOO[name].family, *(_cell(cells[route]) for route in routes)]
                for name, cells in results.items()
            ],
        )
    )
    kinds = ("ok", "refused", "wrong", "rejects", "timeout", "crash")
    totals = _totals(results, routes)
    share = {
        route: f"{100 * counts['ok'] / len(results):.1f} %" for route, counts in totals.items()
    }
    print()
    print(
        table(
            ["route", "format", "success", *kinds],
            [
                [route, ROUTES[route].format, share[route], *(str(totals[route][k]) for k in kinds)]
                for route in routes
            ],
        )
    )
    for format_, count in _best(results).items() if set(routes) >= set(RAW) else ():
        print(f"best raw, {format_}: {count} of {len(results)}, {100 * count / len(results):.1f} %")
    for title, chosen in (("silently wrong", ("wrong", "rejects")), ("refused by edgeport", None)):
        lines = [
            f"  {name}, {route}: {cell['detail']}"
            for name, cells in results.items()
            for route, cell in cells.items()
            if (cell["outcome"] in chosen if chosen else _unwell(route, cell))
        ]
        if lines:
            print(f"\n{title}:", *lines, sep="\n")


def _is_lie(route: str, cell: Mapping[str, Any]) -> bool:
    return route in OURS and cell["outcome"] in ("wrong", "rejects")


def _unwell(route: str, cell: Mapping[str, Any]) -> bool:
    return route in OURS and cell["outcome"] in ("refused", "crash", "timeout")


if __name__ == "__main__":
    raise SystemExit(main())
