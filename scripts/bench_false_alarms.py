"""Does the proof cry wolf? Every module of the zoo under transformations that keep its meaning.

    python scripts/bench_false_alarms.py --json alarms.json
    python scripts/bench_false_alarms.py --modules "mlp,u-net" --seeds 2

For every module and seed (of its weights and its example): opsets 18 to 23, with and without the
exporter's optimiser, all constants folded by onnxscript, every graph optimisation level of ONNX
Runtime with 1 and 2 threads, TorchScript frozen and optimised for inference. Each is judged on
the golden samples that an export would pack (1, 2, 7 and 32 rows among them, where the module
takes them; edge cases), by the rule that ``edgeport verify`` uses. Exit code 1 if any fails.

Every module and seed has a process of its own. With ``--json`` what is there already is not run
again, so that a run can be stopped and gone on with. The full zoo takes hours; seeds come in
order, so that all of it is soon seen once.
"""

import argparse
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for the scripts beside this one
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for the zoo

import torch

from edgeport.commands.terminal import note, table
from edgeport.deploy.proof.reference import Reference, make_golden
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.parity.verification import check_session
from scripts.exports.kept import Cell, add_options, found_apart, keep, kept, print_first
from scripts.exports.zoo_sources import chosen_modules, source_of_entry
from scripts.faults.meaning_kept import Way, ways


def main() -> int:
    arguments = _parser().parse_args()
    cells = kept(arguments.json)
    names = chosen_modules(arguments.modules)
    jobs = [(name, seed) for seed in range(arguments.seeds) for name in names]
    for number, (name, seed) in enumerate(jobs):
        key = f"{name}, seed {seed}"
        if key not in cells:
            cells[key] = _cell(name, seed, arguments.limit_s)
            note(f"{number + 1} of {len(jobs)}  {key}: {_summary(cells[key])}")
            keep(arguments.json, _report(cells))
    _print(cells)
    return 1 if any(cell["alarms"] for cell in cells.values()) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="False alarms of the proof, over the zoo.")
    parser.add_argument("--modules", default="", help="comma-separated; all without it")
    parser.add_argument("--seeds", type=int, default=5, help="of weights and example (5)")
    add_options(parser, "module and seed", 900)
    return parser


def _cell(name: str, seed: int, limit_s: float) -> Cell:
    """``worst`` ratio by transformation, ``alarms``, and what it ``lacks``."""
    found = found_apart(partial(_judge_all, name, seed), limit_s)
    return {"worst": {}, "alarms": [], "lacks": [found]} if isinstance(found, str) else found


def _judge_all(name: str, seed: int) -> Cell:
    torch.set_num_threads(1)
    source = source_of_entry(name, seed)
    golden = make_golden(Reference(source))
    cell: Cell = {"worst": {}, "alarms": [], "lacks": []}
    with tempfile.TemporaryDirectory() as folder:
        for way in ways(source, Path(folder)):
            if isinstance(way, str):
                cell["lacks"].append(way)
            else:
                _judge(way, golden, cell)
    return cell


def _judge(way: Way, golden: Sequence[Golden], cell: Cell) -> None:
    try:
        with way.open() as session:
            verdicts = check_session(session, golden, Thresholds())
    except Exception as e:  # an engine may lack a kernel at one level or opset
        cell["lacks"].append(f"{way.name}: {type(e).__name__}: {e}".splitlines()[0][:200])
        return
    ratio = max(verdict.figures.ratio for verdict in verdicts)
    cell["worst"][way.name] = ratio if math.isfinite(ratio) else None
    cell["alarms"] += [
        f"{way.name}: {verdict.output}, {verdict.sample}: {verdict.reason}"
        for verdict in verdicts
        if verdict.status == "fail"
    ]


def _summary(cell: Cell) -> str:
    worst = [ratio for ratio in cell["worst"].values() if ratio is not None]
    lacks = f", {len(cell['lacks'])} not to be had" if cell["lacks"] else ""
    return (
        f"{len(cell['worst'])} ways, worst ratio {max(worst, default=0.0):.2f}, "
        f"{len(cell['alarms'])} alarms{lacks}"
    )


def _report(cells: Mapping[str, Cell]) -> dict[str, Any]:
    return {
        "bench_false_alarms_version": 1,
        "modules": len({key.rpartition(", seed ")[0] for key in cells}),
        "ways": sum(len(cell["worst"]) for cell in cells.values()),
        "alarms": sum(len(cell["alarms"]) for cell in cells.values()),
        "cells": cells,
    }


def _print(cells: Mapping[str, Cell]) -> None:
    ran: Counter[str] = Counter()
    alarms: Counter[str] = Counter()
    worst: dict[str, float] = {}
    for cell in cells.values():
        for way, ratio in cell["worst"].items():
            ran[way] += 1
            worst[way] = max(worst.get(way, 0.0), math.inf if ratio is None else ratio)
        alarms.update({alarm.split(": ")[0] for alarm in cell["alarms"]})
    rows = [[way, str(ran[way]), f"{worst[way]:.2f}", str(alarms[way])] for way in ran]
    print(table(["transformation", "models", "worst ratio", "alarms"], rows, right=[1, 2, 3]))
    found = [f"{key}: {alarm}" for key, cell in cells.items() for alarm in cell["alarms"]]
    lacking = [f"{key}: {lack}" for key, cell in cells.items() for lack in cell["lacks"]]
    print_first("false alarms", found)
    print_first("not to be had", lacking)
    print(f"\n{sum(ran.values())} models of {len(cells)} modules and seeds, {len(found)} alarms")


if __name__ == "__main__":
    raise SystemExit(main())
