"""What ``edgeport bench`` is asked, and how its words become settings of a benchmark."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgeport.commands.options import (
    Listed,
    above_zero,
    add_gpu_options,
    add_margin,
    file_path,
    gpu_options,
    margin,
    names,
    positive,
    seed,
)
from edgeport.commands.trust import Limits, add_trust_options, limits, trusted
from edgeport.runtimes.devices import GpuOptions
from edgeport.runtimes.errors import UsageError

if TYPE_CHECKING:
    from edgeport.runtimes import Bundle
    from edgeport.runtimes.bench import Sweep
    from edgeport.runtimes.bench.setting import Mode

MODES: Final = (
    "closed, paced:TIME, constant:RATE, poisson:RATE, peak, cold; or MLPerf's single-stream, "
    "multi-stream, server, offline"
)

_SWITCH: Final = {"on": (True,), "off": (False,), "both": (True, False)}

_UNITS_NS: Final = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9}


@dataclass(frozen=True, slots=True)
class BenchArgs:
    """What ``edgeport bench`` was asked."""

    bundles: tuple[Path, ...]
    backends: tuple[str, ...] | None
    threads: tuple[int | None, ...]
    devices: tuple[str | None, ...]
    gpu: GpuOptions
    cuda_graph: tuple[bool, ...]
    batches: tuple[int, ...] | None
    sizes: Mapping[str, tuple[int, ...]]
    spinning: tuple[bool, ...]
    engine_only: bool
    mode: str
    slo_ms: float | None
    percent: float | None
    margin: float
    budget_s: float
    processes: int | None
    seed: int
    trusted: tuple[Path, ...] | None
    limits: Limits
    as_json: bool
    report: Path | None
    save: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE",
                        help="NAME.edge; two or more are compared with the first")  # fmt: skip
    parser.add_argument("--report", type=file_path, metavar="FILE",
                        help="write the result as .html or .json")  # fmt: skip
    parser.add_argument("--save", action="store_true", help="keep the result in the bundle")
    parser.add_argument("--json", action="store_true", help="print JSON, with every raw duration")
    vary = parser.add_argument_group("what to vary; every combination is measured")
    vary.add_argument("--backend", type=names, action=Listed, metavar="NAME[,NAME]",
                      help="only these (default: all that fit)")  # fmt: skip
    vary.add_argument("--batch", type=_numbers, action=Listed, metavar="N[,N]",
                      help="rows in one call (1, or the fewest that the model takes)")  # fmt: skip
    vary.add_argument("--shape", type=_size, action="append", default=[], metavar="DIM=N[,N]",
                      help="size of another named dimension; repeat for more")  # fmt: skip
    vary.add_argument("--threads", type=_numbers, action=Listed, metavar="N[,N]",
                      help="threads in one operator (default: all CPUs)")  # fmt: skip
    vary.add_argument("--device", type=names, action=Listed, metavar="NAME[,NAME]",
                      help="cpu, cuda, cuda:N (default: each backend's own)")  # fmt: skip
    vary.add_argument("--spinning", choices=("on", "off", "both"), default="on",
                      help="whether idle threads of ONNX Runtime spin (%(default)s)")  # fmt: skip
    vary.add_argument("--cuda-graph", choices=tuple(_SWITCH), default="off",
                      help="whether a GPU replays a recorded call (%(default)s)")  # fmt: skip
    vary.add_argument("--engine-only", action="store_true",
                      help="time each engine's own call beside the session's")  # fmt: skip
    how = parser.add_argument_group("how to measure")
    how.add_argument("--mode", default="closed", metavar="MODE", help=f"{MODES} (%(default)s)")
    how.add_argument("--slo-ms", type=above_zero, metavar="MS",
                     help="for peak and server: what the percentile must keep")  # fmt: skip
    how.add_argument("--percentile", type=float, metavar="P",
                     help="for peak, server: which one (99); else one more to report")  # fmt: skip
    how.add_argument("--seconds", type=float, default=20.0, metavar="S",
                     help="how long to measure, starts of processes not counted (20)")  # fmt: skip
    how.add_argument("--processes", type=positive, metavar="N",
                     help="fresh processes of each setting; intervals take 3 (default: S / 4, "
                          "3 to 16)")  # fmt: skip
    add_margin(how)
    how.add_argument("--seed", type=seed, default=0, metavar="N", help="of all that is random (0)")
    add_gpu_options(parser, device=False)
    add_trust_options(parser)


def bench_args(a: argparse.Namespace) -> BenchArgs:
    """Gather what was asked.

    Raises:
        UsageError: A dimension was given twice, or the margin makes no sense.
    """
    sizes: dict[str, tuple[int, ...]] = {}
    for name, each in a.shape:
        if name in sizes:
            raise UsageError(
                f"--shape {name} was given twice", remedy=f"give one: --shape {name}=8,16"
            )
        sizes[name] = each
    return BenchArgs(
        bundles=tuple(a.bundles),
        backends=a.backend,
        threads=a.threads or (None,),
        devices=a.device or (None,),
        gpu=gpu_options(a),
        cuda_graph=_SWITCH[a.cuda_graph],
        batches=a.batch,
        sizes=sizes,
        spinning=_SWITCH[a.spinning],
        engine_only=a.engine_only,
        mode=a.mode,
        slo_ms=a.slo_ms,
        percent=a.percentile,
        margin=margin(a),
        budget_s=a.seconds,
        processes=a.processes,
        seed=a.seed,
        trusted=trusted(a),
        limits=limits(a),
        as_json=a.json,
        report=a.report,
        save=a.save,
    )


def method(args: BenchArgs, bundles: Sequence[Bundle]) -> tuple[Mode, tuple[float, ...], Sweep]:
    """The mode, the percentiles and what is varied.

    Raises:
        UsageError: The mode is none, or does not go with another option.
    """
    from edgeport.runtimes.bench import Peak, Sweep
    from edgeport.runtimes.bench.scenarios import OFFLINE_ROWS, SCENARIOS, scenario
    from edgeport.runtimes.bench.statistics import PERCENTS
    from edgeport.runtimes.bench.workload import fitting_rows

    bound_ns = None if args.slo_ms is None else round(args.slo_ms * 1e6)
    batches = args.batches
    if args.mode in SCENARIOS:
        found = scenario(args.mode, bound_ns)
        mode: Mode = found.mode
        if found.batch is not None:
            if batches is not None and batches != (found.batch,):
                raise UsageError(
                    f"--batch goes not with --mode {args.mode}, whose queries have "
                    f"{found.batch} samples",
                    remedy="leave --batch out",
                )
            if fitting_rows(bundles, found.batch) != found.batch:
                raise UsageError(
                    f"--mode {args.mode} has {found.batch} samples in a query, and a model takes "
                    "no such batch",
                    remedy="choose another --mode, or export the model with a range that holds it",
                )
            batches = (found.batch,)
    else:
        mode = _mode(args.mode, bound_ns)
    if bound_ns is not None and not isinstance(mode, Peak):
        raise UsageError(
            f"--slo-ms goes not with --mode {args.mode}", remedy="use it with --mode peak"
        )
    percents: tuple[float, ...] = PERCENTS
    if args.percent is not None:
        if not 0 < args.percent < 100:
            raise UsageError(
                f"--percentile is {args.percent:g}", remedy="give one between 0 and 100"
            )
        if isinstance(mode, Peak):
            mode = Peak(mode.bound_ns, args.percent)
        percents = tuple(sorted({*PERCENTS, args.percent}))
    if batches is None and args.mode == "offline":
        batches = (fitting_rows(bundles, OFFLINE_ROWS),)
    sweep = Sweep(
        args.backends, batches, args.sizes, args.threads, args.spinning, args.engine_only,
        args.devices, args.gpu, args.cuda_graph,
    )  # fmt: skip
    return mode, percents, sweep


def _mode(text: str, bound_ns: int | None) -> Mode:
    from edgeport.runtimes.bench import Closed, Cold, OpenLoop, Paced
    from edgeport.runtimes.bench.scenarios import peak

    word, _, value = text.partition(":")
    match word:
        case "closed" | "cold" if not value:
            return Closed() if word == "closed" else Cold()
        case "peak" if not value:
            return peak(word, bound_ns)
        case "paced":
            return Paced(_time_ns(text, value))
        case "poisson" | "constant":
            return OpenLoop("poisson" if word == "poisson" else "constant", _rate_hz(text, value))
    raise UsageError(f"no mode is named {text!r}", remedy=f"use {MODES}")


def _time_ns(text: str, value: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s)", value)
    if found is None:
        raise UsageError(
            f"--mode {text} names no time between calls", remedy="write it with a unit: paced:5ms"
        )
    return round(float(found[1]) * _UNITS_NS[found[2]])


def _rate_hz(text: str, value: str) -> float:
    if re.fullmatch(r"\d+(?:\.\d+)?", value) is None or float(value) == 0:
        raise UsageError(
            f"--mode {text} names no rate", remedy="write requests per second: poisson:200"
        )
    return float(value)


def _numbers(text: str) -> tuple[int, ...]:
    found = tuple(positive(part.strip()) for part in text.split(","))
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} names something twice")
    return found


def _size(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, sizes = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected DIM=N[,N], got {text!r}")
    return name, _numbers(sizes)
