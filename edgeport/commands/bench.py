"""``edgeport bench``: how long a call takes on every engine of this machine."""

import argparse
import contextlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeport.commands.options import add_engine_options, positive
from edgeport.commands.terminal import Progress, coloured, progress, show, table
from edgeport.commands.trust import Limits, add_trust_options, limits, trusted
from edgeport.runtimes import Bundle, files
from edgeport.runtimes.bench import BackendLatency, Result, benchmark
from edgeport.runtimes.bench.statistics import Interval

WITHHELD: Final = "—"


@dataclass(frozen=True, slots=True)
class BenchArgs:
    """What ``edgeport bench`` was asked."""

    bundle: Path
    backends: tuple[str, ...] | None
    threads: int | None
    trusted: tuple[Path, ...] | None
    limits: Limits
    batch: int
    budget_s: float
    as_json: bool
    output: Path | None


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("bench", help="measure the latency of every backend usable here")
    parser.add_argument("bundle", type=Path, help="a bundle: NAME.edge")
    add_engine_options(parser)
    add_trust_options(parser)
    parser.add_argument(
        "--batch", type=positive, default=1, metavar="N", help="rows in one call (default: 1)"
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="how long to measure (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with every raw duration")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the JSON to FILE")
    parser.set_defaults(
        run=lambda a: run(
            BenchArgs(
                a.bundle,
                a.backend,
                a.threads,
                trusted(a),
                limits(a),
                a.batch,
                a.seconds,
                a.json,
                a.output,
            )
        )
    )
    return parser


def run(args: BenchArgs) -> int:
    """Measure, print, and write the result if a file was named."""
    if args.output is None:
        _measure(args)
        return 0
    files.refuse_existing(args.output)
    with files.parents(args.output):
        files.write(args.output, _measure(args) + "\n")  # shown first: a full disk loses nothing
    return 0


def _measure(args: BenchArgs) -> str:
    bundle = Bundle.read(args.bundle, trusted=args.trusted)
    with contextlib.ExitStack() as stack:
        bars: list[Progress] = []

        def draw(done: int, planned: int) -> None:
            if not bars:  # only now, so that opening the engines is no part of the time left
                bars.append(stack.enter_context(progress("measuring", planned)))
            bars[0].update(done, f"round {done} of {planned}")

        result = benchmark(
            bundle,
            args.backends,
            threads=args.threads,
            batch=args.batch,
            budget_s=args.budget_s,
            limits=args.limits,
            on_round=draw,
        )
    text = json.dumps(result.to_json())
    show(text if args.as_json else render(result))
    return text


def render(result: Result) -> str:
    """Lay a result out for people."""
    unit, unit_ns = _unit(result)
    rows = [_row(backend, unit_ns) for backend in result.backends]
    header = ["backend", "calls", f"p50 {unit}", "95 % interval", "p90", "p99", "times the fastest"]
    lines = [_conditions(result), "", table(header, rows, right=(1, 2, 4, 5)), ""]
    for backend in result.backends:
        lines += _withheld(result, backend)
    lines.append(
        coloured("calls follow one another; a device that idles between them is slower", "dim")
    )
    here = result.environment
    if here.load_average > here.cpus / 2:
        text = f"the machine was busy before the first call: load {here.load_average:.1f}"
        lines.append(
            coloured(f"{text} on {here.cpus} CPUs; measure again when it is idle", "yellow")
        )
    for entry in result.unusable:
        lines += [
            "",
            f"{coloured(entry.backend, 'bold')}: {entry.reason}",
            f"  fix: {entry.remedy}",
        ]
    return "\n".join(lines)


def _unit(result: Result) -> tuple[str, float]:
    """One unit for the whole table, so that rows can be compared at a glance."""
    median = result.backends[0].percentiles[0].latency_ns
    return ("ms", 1e6) if median is None or median.value >= 1e6 else ("µs", 1e3)


def _conditions(result: Result) -> str:
    threads = "/".join(dict.fromkeys(str(b.engine.threads) for b in result.backends))
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in result.shapes.items())
    here = result.environment
    return (
        f"{coloured(result.name, 'bold')}: {shapes}, threads {threads}, {result.rounds} rounds in "
        f"random order over {result.elapsed_s:.1f} s\n"
        f"{here.cpu_model}, {here.cpus} CPUs"
    )


def _row(backend: BackendLatency, unit_ns: float) -> list[str]:
    p50, p90, p99 = (percentile.latency_ns for percentile in backend.percentiles)
    return [
        backend.backend,
        f"{backend.calls:,}",
        _number(p50, unit_ns),
        _ends(p50, unit_ns),
        _number(p90, unit_ns),
        _number(p99, unit_ns),
        _times(backend.times_fastest),
    ]


def _number(interval: Interval | None, unit_ns: float) -> str:
    return WITHHELD if interval is None else _rounded(interval.value / unit_ns)


def _ends(interval: Interval | None, unit_ns: float) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return WITHHELD
    return f"{_rounded(interval.low / unit_ns)} to {_rounded(interval.high / unit_ns)}"


def _times(ratio: Interval | None) -> str:
    if ratio is None:
        return WITHHELD
    if ratio.low is None or ratio.high is None or ratio.low == ratio.high == 1:
        return f"{ratio.value:.2f}"  # too few rounds for an interval, or the fastest itself
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.{1 if value >= 10 else 2}f}"


def _withheld(result: Result, backend: BackendLatency) -> list[str]:
    missing = {p.percent: p.missing_calls for p in backend.percentiles if p.missing_calls}
    if not missing:
        return []
    enough_s = math.ceil(result.budget_s * (1 + max(missing.values()) / backend.calls))
    wanted = ", ".join(f"p{percent} {calls}" for percent, calls in missing.items())
    return [f"{backend.backend}: more calls needed for {wanted}; try --seconds {enough_s}"]
