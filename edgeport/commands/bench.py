"""``edgeport bench``: how long a call takes, in every way to run a model on this machine."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.commands.bench_options import BenchArgs, add_options, bench_args, method
from edgeport.commands.options import check_report
from edgeport.commands.terminal import Progress, note, progress, show
from edgeport.runtimes import Bundle, files
from edgeport.runtimes.errors import UsageError

if TYPE_CHECKING:
    from edgeport.runtimes.bench import Result


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "bench",
        help="measure the latency of every backend usable here, or compare bundles",
        epilog="example: edgeport bench digits.edge --backend ort-cpu --batch 1,32 --report b.html",
    )
    add_options(parser)
    parser.set_defaults(run=lambda arguments: run(bench_args(arguments)))
    return parser


def run(args: BenchArgs) -> int:
    """Measure, print, and keep the result where that was asked for."""
    from edgeport.commands.bench_tables import render

    check_report(args.report, args.bundles)
    kept_in = args.bundles[0]
    if args.save and len(args.bundles) > 1:
        raise UsageError(
            "--save keeps a result in a bundle, and several were named",
            remedy="measure the one that is to keep it alone",
        )
    result = _measure(args)
    text = json.dumps(result.to_json(), allow_nan=False)
    show(text if args.as_json else render(result))  # first: a full disk loses nothing
    if args.report is not None:
        _report(args.report, result, text)
    if args.save:
        _save(kept_in, text)
    return 0


def _measure(args: BenchArgs) -> Result:
    from edgeport.runtimes.bench import benchmark

    bundles = [Bundle.read(path, trusted=args.trusted) for path in args.bundles]
    if args.save:
        from edgeport.runtimes.bundles.packing import check_evidence_place

        check_evidence_place(args.bundles[0])  # before minutes of work, not after
    mode, percents, sweep = method(args, bundles)
    with contextlib.ExitStack() as stack:
        bars: list[Progress] = []

        def draw(what: str, done: int, planned: int) -> None:
            if not bars:
                bars.append(stack.enter_context(progress("measuring", planned)))
            bars[0].update(done, what, planned)

        return benchmark(
            bundles,
            sweep,
            mode=mode,
            percents=percents,
            budget_s=args.budget_s,
            processes=args.processes,
            seed=args.seed,
            margin=args.margin,
            trusted=args.trusted,
            limits=args.limits,
            on_step=draw,
        )


def _report(path: Path, result: Result, text: str) -> None:
    if path.suffix == ".html":
        from edgeport.commands.bench_page import render_page

        text = render_page(result)
    with files.parents(path):
        files.write(path, text + "\n")
    note(f"every figure: {path}")


def _save(bundle: Path, text: str) -> None:
    from edgeport.runtimes.bundles.packing import keep_evidence

    kept = keep_evidence(bundle, "bench", (text + "\n").encode())
    note(f"kept in {bundle}: {kept}")
