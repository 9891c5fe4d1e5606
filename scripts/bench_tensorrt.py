"""Build an engine for every module of the zoo, here, and say what becomes of each.

    python scripts/bench_tensorrt.py --json engines.json
    python scripts/bench_tensorrt.py --family recurrent --compute-capability 8.6,8.9
    python scripts/bench_tensorrt.py --only "lstm,top k" --library tensorrt

Each module is exported to ONNX by the first route that takes it, without the proof (which
``scripts/bench_export.py`` counts), and an engine is built from that, with the optimisation
profile that ``edgeport export`` gives it. TensorRT-RTX builds where no GPU is. What comes of it is

    built     an engine with the names, dtypes and sizes of the signature
    refused   with the diagnosis that a user gets: operator, module, line, remedy
    ended     the process crashed or took too long
    no ONNX   there is nothing to build from
    unfit     an input or output has a dtype that TensorRT has not

Exit code 1 if a build ended, or was refused without a node to name.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for the scripts beside this one
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for the zoo

import torch

from edgeport.commands.terminal import note, table
from edgeport.deploy.attempts import Attempt, attempt
from edgeport.deploy.compilers.routes import routes
from edgeport.deploy.compilers.targets import check_dtypes, negotiate
from edgeport.deploy.engines import make_engine
from edgeport.deploy.isolation import Limits
from edgeport.deploy.sources.source import Source
from edgeport.deploy.tensorrt.request import engines, target_of
from edgeport.runtimes import EdgeportError, UsageError
from edgeport.runtimes.tensorrt.library import Library
from edgeport.runtimes.tensorrt.order import EngineOptions
from scripts.zoo_sources import chosen_modules, source_of_entry

PRELOADED: Final = (
    "onnxscript.function_libs.torch_lib.ops",
    "torch.onnx._internal.exporter._core",
    "torch.onnx._internal.exporter._fx_passes",
)
"""What an exporter imports at its first call, which every fork would import again."""

Cell = dict[str, Any]


def main() -> int:
    arguments = _parser().parse_args()
    torch.set_num_threads(1)
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    asked = EngineOptions(tuple(filter(None, arguments.compute_capability.split(","))))
    library, options = next(iter(engines([arguments.library], asked).items()))
    results: dict[str, Cell] = {}
    for name in chosen_modules(arguments.only, arguments.family):
        results[name] = _entry(name, library, options, Limits(arguments.limit_s))
        note(f"{name}: {_line(results[name])}")
        if arguments.json:
            report = {"library": str(library), "modules": results}
            arguments.json.write_text(json.dumps(report, indent=1))
    _print(library, results)
    lost = (cell for cell in results.values() if cell["outcome"] in ("ended", "refused"))
    return 1 if any(cell["outcome"] == "ended" or not cell["operator"] for cell in lost) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="NAME,...", help="these modules")
    parser.add_argument("--family", default="", help="modules of this family")
    parser.add_argument("--library", default="tensorrt-rtx", help="or tensorrt, beside its GPU")
    parser.add_argument("--compute-capability", default="", metavar="M.N,...")
    parser.add_argument("--limit-s", type=float, default=300.0, help="of one attempt")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything")
    return parser


def _entry(name: str, library: Library, options: EngineOptions, limits: Limits) -> Cell:
    try:
        source = source_of_entry(name)
        check_dtypes(target_of(library), source.signature)
    except UsageError as e:
        return _cell("unfit", problem=e.problem)
    except EdgeportError as e:
        return _cell("no ONNX", problem=e.problem)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = _onnx(source, library, folder, limits)
        if made.compiled is None or made.outcome != "proved":
            problem = made.diagnosis.problem if made.diagnosis else ""
            return _cell("no ONNX", problem=problem)
        start = time.perf_counter()
        try:
            built, notes = make_engine(
                source, made.compiled, folder, library, options, limits, lambda _: (), _watch
            )
        except EdgeportError as e:
            return _cell("unfit", problem=e.problem, route=made.route)
        cell = _of_engine(built, made.route)
        return {**cell, "wall_s": time.perf_counter() - start, "notes": notes}


def _onnx(source: Source, library: Library, folder: Path, limits: Limits) -> Attempt:
    """By the first route that takes the module; the last failure if none does."""
    work = partial(attempt, source, "onnx", folder=folder, prove=lambda _: (), limits=limits)
    made: list[Attempt] = []
    for route in routes(source, "onnx", negotiate(target=target_of(library))):
        made.append(work(route))
        if made[-1].outcome == "proved":
            break
    return made[-1]


def _watch(_: object) -> None:
    """Nothing is shown while an engine is built."""


def _of_engine(built: Attempt, route: str) -> Cell:
    why = built.diagnosis
    if why is None:
        engine = built.compiled.artefact if built.compiled else None
        size_bytes = engine.stored.size_bytes if engine else 0
        profile = engine.details.get("profile", "") if engine else ""
        return _cell("built", route=route, size_bytes=size_bytes, profile=profile)
    return _cell(
        built.outcome,
        route=route,
        problem=why.problem,
        operator=why.operator,
        layer=why.layer,
        source=why.source,
        remedy=why.remedy,
    )


def _cell(outcome: str, **facts: Any) -> Cell:
    return {"outcome": outcome, "operator": None, "problem": None, **facts}


def _line(cell: Cell) -> str:
    if cell["problem"] is None:
        return f"built, {cell['wall_s']:.2f} s, {cell['size_bytes']:,} bytes  {cell['profile']}"
    place = ", ".join(filter(None, (cell.get("layer"), cell.get("source"))))
    return f"{cell['outcome']}: {cell['problem']}{f' ({place})' if place else ''}"


def _print(library: Library, results: dict[str, Cell]) -> None:
    rows = [
        [name, cell["outcome"], (cell["operator"] or "").partition(",")[0], cell["problem"]]
        for name, cell in results.items()
        if cell["problem"] is not None
    ]
    print(table(["module", "outcome", "operator", "why"], rows))
    print(_summary(library, list(results.values())))


def _summary(library: Library, cells: Sequence[Cell]) -> str:
    counts = Counter(cell["outcome"] for cell in cells)
    tried = len(cells) - counts["no ONNX"] - counts["unfit"]
    walls = [cell["wall_s"] for cell in cells if cell["outcome"] == "built"]
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    speed = f"; median {median(walls):.2f} s, longest {max(walls):.1f} s" if walls else ""
    return f"{library}: {counts['built']} of {tried} ONNX files built; {told}{speed}"


if __name__ == "__main__":
    raise SystemExit(main())
