"""``edgeport verify``: does every engine of this machine compute what the module computed?"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeport.commands.options import (
    add_engine_options,
    add_max_ratio,
    add_min_signal,
    check_report,
    file_path,
    gpu_options,
    ratios_of,
    read_stored,
)
from edgeport.commands.parity_table import render
from edgeport.commands.terminal import note, show
from edgeport.commands.trust import Limits, add_trust_options, limits, trusted
from edgeport.runtimes import (
    BackendMissingError,
    Bundle,
    Report,
    UsageError,
    files,
    verify,
)
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.devices import GpuOptions
from edgeport.runtimes.parity.thresholds import Thresholds


@dataclass(frozen=True, slots=True)
class VerifyArgs:
    """What ``edgeport verify`` was asked.

    Attributes:
        bundle: What to run; ``None`` with ``stored``, a report to judge again.
        max_ratios: By name of the output; ``None`` for all that have none of their own.
        report: Where to write what was found, as .html or .json.
        answer_s: How long a server may take for one answer; ``None`` for the usual time.
    """

    bundle: Path | None
    stored: Path | None
    backends: tuple[str, ...] | None
    threads: int | None
    device: str | None
    gpu: GpuOptions
    max_ratios: Mapping[str | None, float]
    min_signal_db: float | None
    report: Path | None
    trusted: tuple[Path, ...] | None
    limits: Limits
    url: str | None
    answer_s: float | None
    as_json: bool


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "verify",
        help="prove a bundle on every backend usable here",
        epilog="example: edgeport verify my.edge --max-ratio 4 --report verify.html",
    )
    parser.add_argument("bundle", type=Path, nargs="?", help="a bundle: NAME.edge")
    parser.add_argument(
        "--from",
        dest="stored",
        type=Path,
        metavar="FILE.json",
        help="judge these figures again and run nothing: what --json printed, "
        "or reports/parity.json of a bundle",
    )
    parser.add_argument(
        "--url", help="not here, but through a server: http://HOST:PORT[/v2/models/NAME]"
    )
    add_engine_options(parser)
    add_trust_options(parser, "; with --url, of one answer (60)")
    add_max_ratio(parser, "what the bundle holds")
    add_min_signal(parser, "what the bundle holds")
    parser.add_argument(
        "--report", type=file_path, metavar="FILE", help="every figure: .html or .json"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=lambda arguments: run(_parse(arguments)))
    return parser


def run(args: VerifyArgs) -> int:
    """Verify and print the report; 1 if anything failed, as an error if nothing could run."""
    artefacts: Sequence[Artefact] = ()
    if args.stored is not None:
        report = _judge_again(args.stored, args)
    else:
        bundle = _bundle(args)
        report, artefacts = _verify(bundle, args), bundle.manifest.artefacts
    _say_what_changes_nothing(report, args)
    try:
        if args.report is not None:
            _write(args.report, report, artefacts)
    finally:  # on a full disk, too
        show(json.dumps(report.to_json(), allow_nan=False) if args.as_json else render(report))
    if report.nothing_ran:
        raise BackendMissingError(
            "no backend of this bundle is usable here, so nothing was verified",
            remedy="; ".join(dict.fromkeys(b.remedy for b in report.backends if b.remedy)),
        )
    return 0 if report.passed else 1


def _bundle(args: VerifyArgs) -> Bundle:
    if args.bundle is None:
        raise UsageError(
            "nothing to verify was given", remedy="name a bundle, or stored figures with --from"
        )
    return Bundle.read(args.bundle, trusted=args.trusted)


def _verify(bundle: Bundle, args: VerifyArgs) -> Report:
    if args.url is not None:
        return _verify_served(bundle, args.url, args)
    return verify(
        bundle,
        args.backends,
        threads=args.threads,
        device=args.device,
        gpu=args.gpu,
        thresholds=_bars(bundle.manifest.thresholds, args),
        limits=args.limits,
    )


def _verify_served(bundle: Bundle, url: str, args: VerifyArgs) -> Report:
    if args.backends or args.threads or args.device or args.gpu != GpuOptions():
        raise UsageError(
            "--url was given with --backend, --threads, --device or an option of a GPU, which are "
            "the server's to choose",
            remedy="leave these out",
        )
    from edgeport.runtimes.parity.endpoint import ANSWER_S, verify_endpoint

    bars = _bars(bundle.manifest.thresholds, args)
    return verify_endpoint(bundle, url, bars, args.answer_s or ANSWER_S)


def _judge_again(stored: Path, args: VerifyArgs) -> Report:
    engine = (args.backends, args.threads, args.device, args.url, args.gpu, args.limits)
    nothing = (None, None, None, None, GpuOptions(), Limits())
    if args.bundle is not None or args.trusted is not None or engine != nothing:
        raise UsageError(
            "--from judges stored figures and runs nothing, so it takes no bundle, --url, "
            "signature or option of an engine",
            remedy="leave these out, or leave --from out to run the bundle",
        )
    report = Report.loads(read_stored(stored, "NAME.edge/reports/parity.json"), str(stored))
    return report.judged(_bars(report.thresholds, args))


def _bars(stored: Thresholds, args: VerifyArgs) -> Thresholds:
    return stored.with_ratios(args.max_ratios).with_signal(args.min_signal_db)


def _say_what_changes_nothing(report: Report, args: VerifyArgs) -> None:
    narrower = {b.backend: b.reduced for b in report.backends if b.reduced and b.verdicts}
    int8 = ", ".join(name for name, precision in narrower.items() if precision == "int8")
    if args.max_ratios and int8:
        note(
            f"--max-ratio changes nothing for {int8}: int8 has no floor, its bar is --min-signal DB"
        )
    if args.min_signal_db is not None and not narrower:
        note("--min-signal changes nothing: nothing here computes in less than the module")


def _write(path: Path, report: Report, artefacts: Sequence[Artefact]) -> None:
    told = report.to_json()
    if path.suffix == ".html":
        from edgeport.commands.verify_page import page

        text = page(told, artefacts=artefacts)
    else:
        text = json.dumps(told, indent=1, allow_nan=False) + "\n"
    with files.parents(path):
        files.write(path, text)
    note(f"every figure: {path}")


def _parse(arguments: argparse.Namespace) -> VerifyArgs:
    kept = [path for path in (arguments.bundle, arguments.stored) if path is not None]
    check_report(arguments.report, kept)
    return VerifyArgs(
        arguments.bundle,
        arguments.stored,
        arguments.backend,
        arguments.threads,
        arguments.device,
        gpu_options(arguments),
        ratios_of(arguments.max_ratio),
        arguments.min_signal,
        arguments.report,
        trusted(arguments),
        limits(arguments),
        arguments.url,
        arguments.time_limit,
        arguments.json,
    )
