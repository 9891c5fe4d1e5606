"""Build an engine for every module of the zoo, here, and say what becomes of each.

    python scripts/bench_tensorrt.py --json engines.json
    python scripts/bench_tensorrt.py --family recurrent --compute-capability 8.6,8.9
    python scripts/bench_tensorrt.py --only "lstm,top k" --library tensorrt
    python scripts/bench_tensorrt.py --precision float32,float16,int8

Each module is exported to ONNX by the first route that takes it, without the proof (which
``scripts/bench_export.py`` counts), and an engine is built from that, with the optimisation
profile that ``edgeport export`` gives it. A narrower precision is made from that file by the
first route whose file ONNX Runtime opens and runs. TensorRT-RTX builds where no GPU is. What comes
of it is

    built     an engine with the names, dtypes and sizes of the signature
    refused   with the diagnosis that a user gets: operator, module, line, remedy
    ended     the process crashed or took too long
    no ONNX   there is nothing to build from, in this precision
    unfit     an input or output has a dtype that TensorRT has not

Exit code 1 if a build ended, or was refused without a node to name.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for the scripts beside this one
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for the zoo

import torch

from edgeport.commands.terminal import note, table
from edgeport.deploy.attempts import Attempt, attempt, keep
from edgeport.deploy.calibration import calibration_of
from edgeport.deploy.compilers.narrower.narrowing import NARROW, Wide, to_build_from
from edgeport.deploy.compilers.narrower.narrowing import routes as narrower
from edgeport.deploy.compilers.routes import routes
from edgeport.deploy.compilers.stored import EngineSource
from edgeport.deploy.compilers.targets import check_dtypes, negotiate
from edgeport.deploy.engines import make_engine
from edgeport.deploy.isolation import Limits
from edgeport.deploy.sources.source import Source
from edgeport.deploy.tensorrt.request import engines, target_of
from edgeport.runtimes import EdgeportError, UsageError
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.parity.report import BackendReport
from edgeport.runtimes.session import open_artefact
from edgeport.runtimes.tensorrt.library import Library
from edgeport.runtimes.tensorrt.order import EngineOptions
from scripts.exports.zoo_sources import chosen_modules, source_of_entry

PRELOADED: Final = (
    "onnxscript.function_libs.torch_lib.ops",
    "torch.onnx._internal.exporter._core",
    "torch.onnx._internal.exporter._fx_passes",
)
"""What an exporter imports at its first call, which every fork would import again."""

Cell = dict[str, Any]

_WIDE: Final = "float32"
"""What the zoo's modules compute in, and what others are made from."""


def main() -> int:
    arguments = _parser().parse_args()
    torch.set_num_threads(1)
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    asked = EngineOptions(tuple(filter(None, arguments.compute_capability.split(","))))
    library, options = next(iter(engines([arguments.library], asked).items()))
    precisions = _precisions(arguments.precision)
    results: dict[str, dict[str, Cell]] = {precision: {} for precision in precisions}
    for name in chosen_modules(arguments.only, arguments.family):
        for precision, cell in _entry(
            name, library, options, precisions, Limits(arguments.limit_s)
        ):
            results[precision][name] = cell
            note(f"{name}, {precision}: {_line(cell)}")
        if arguments.json:
            report = {"library": str(library), "precisions": results}
            arguments.json.write_text(json.dumps(report, indent=1))
    for precision, found in results.items():
        _print(f"{library}, {precision}", found)
    cells = [cell for found in results.values() for cell in found.values()]
    lost = (cell for cell in cells if cell["outcome"] in ("ended", "refused"))
    return 1 if any(cell["outcome"] == "ended" or not cell["operator"] for cell in lost) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="NAME,...", help="these modules")
    parser.add_argument("--family", default="", help="modules of this family")
    parser.add_argument("--library", default="tensorrt-rtx", help="or tensorrt, beside its GPU")
    parser.add_argument("--compute-capability", default="", metavar="M.N,...")
    parser.add_argument("--precision", default=_WIDE, metavar="NAME,...", help="(%(default)s)")
    parser.add_argument("--limit-s", type=float, default=300.0, help="of one attempt")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything")
    return parser


def _precisions(text: str) -> list[str]:
    asked = [each for each in text.split(",") if each]
    unknown = [each for each in asked if each not in (_WIDE, *NARROW)]
    if unknown or not asked:
        raise SystemExit(f"there is no precision {text!r}; there are {', '.join((_WIDE, *NARROW))}")
    return asked


def _entry(
    name: str,
    library: Library,
    options: EngineOptions,
    precisions: Sequence[str],
    limits: Limits,
) -> Iterator[tuple[str, Cell]]:
    """What becomes of a module in each precision."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        try:
            source = source_of_entry(name)
            check_dtypes(target_of(library), source.signature)
            made = _onnx(source, library, folder, limits)
        except UsageError as e:
            yield from ((each, _cell("unfit", problem=e.problem)) for each in precisions)
            return
        except EdgeportError as e:
            yield from ((each, _cell("no ONNX", problem=e.problem)) for each in precisions)
            return
        if made.compiled is None or made.outcome != "proved":
            problem = made.diagnosis and made.diagnosis.problem
            yield from ((each, _cell("no ONNX", problem=problem)) for each in precisions)
            return
        kept = keep(made.compiled, folder, made.route)
        for precision in precisions:
            shutil.copytree(kept, folder, dirs_exist_ok=True)
            yield precision, _built(source, made, kept, library, options, precision, limits)


def _built(
    source: Source,
    wide: Attempt,
    kept: Path,
    library: Library,
    options: EngineOptions,
    precision: str,
    limits: Limits,
) -> Cell:
    folder = kept.parents[2]
    assert wide.compiled is not None
    made, onnx = wide, EngineSource.of(wide.compiled, folder)
    if precision != _WIDE:
        asked = negotiate(target=target_of(library))
        found = calibration_of(source, ())
        path = kept / wide.compiled.artefact.stored.file
        given = Wide(path, wide.compiled, asked, found.inputs, found.origin, for_engines=True)
        made = _narrow(source, given, folder, precision, limits)
        if made.compiled is None or made.outcome != "proved":
            return _cell("no ONNX", problem=made.diagnosis and made.diagnosis.problem)
        onnx = to_build_from(made.compiled, given, folder)
    start = time.perf_counter()
    try:
        built, notes = make_engine(
            source, onnx, folder, library, options, limits, lambda _: (), _watch
        )
    except EdgeportError as e:
        return _cell("unfit", problem=e.problem, route=made.route)
    cell = _of_engine(built, made.route)
    return {**cell, "wall_s": time.perf_counter() - start, "notes": notes}


def _narrow(source: Source, wide: Wide, folder: Path, precision: str, limits: Limits) -> Attempt:
    """By the first route that takes the file, and whose own ONNX Runtime runs."""
    work = partial(attempt, source, "onnx", folder=folder, limits=limits)
    made: list[Attempt] = []
    for route in narrower(next(each for each in NARROW if each == precision), wide):
        made.append(work(route, prove=partial(_opens, source, folder)))
        if made[-1].outcome == "proved":
            break
    return made[-1]


def _opens(source: Source, folder: Path, artefact: Artefact) -> tuple[BackendReport, ...]:
    """Whether ONNX Runtime opens and runs it, on whose float16 it crashes."""
    file = artefact.stored.file
    try:
        with open_artefact(folder / file, "ort-cpu") as session:
            session.run(source.example)
    except EdgeportError as e:
        return (BackendReport("ort-cpu", file, "fail", e.problem, e.remedy),)
    return ()


def _onnx(source: Source, library: Library, folder: Path, limits: Limits) -> Attempt:
    """By the first route that takes the module; the last failure if none does."""
    work = partial(attempt, source, "onnx", folder=folder, prove=lambda _: (), limits=limits)
    made: list[Attempt] = []
    for route in routes("onnx", negotiate(target=target_of(library))):
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


def _print(title: str, results: dict[str, Cell]) -> None:
    rows = [
        [name, cell["outcome"], (cell["operator"] or "").partition(",")[0], cell["problem"]]
        for name, cell in results.items()
        if cell["problem"] is not None
    ]
    print(table(["module", "outcome", "operator", "why"], rows))
    print(_summary(title, list(results.values())))


def _summary(title: str, cells: Sequence[Cell]) -> str:
    counts = Counter(cell["outcome"] for cell in cells)
    tried = len(cells) - counts["no ONNX"] - counts["unfit"]
    walls = [cell["wall_s"] for cell in cells if cell["outcome"] == "built"]
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    speed = f"; median {median(walls):.2f} s, longest {max(walls):.1f} s" if walls else ""
    return f"{title}: {counts['built']} of {tried} ONNX files built; {told}{speed}"


if __name__ == "__main__":
    raise SystemExit(main())
