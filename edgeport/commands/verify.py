"""``edgeport verify``: does every engine of this machine compute what the module computed?"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from edgeport.commands.options import add_engine_options
from edgeport.commands.parity_table import render
from edgeport.commands.terminal import show
from edgeport.runtimes import BackendMissingError, Bundle, Report, UsageError, verify


@dataclass(frozen=True, slots=True)
class VerifyArgs:
    """What ``edgeport verify`` was asked."""

    bundle: Path
    backends: tuple[str, ...] | None
    threads: int | None
    url: str | None
    as_json: bool


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("verify", help="prove a bundle on every backend usable here")
    parser.add_argument("bundle", type=Path, help="a bundle: NAME.edge")
    add_engine_options(parser)
    parser.add_argument(
        "--url", help="not here, but through a server: http://HOST:PORT[/v2/models/NAME]"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(
        run=lambda a: run(VerifyArgs(a.bundle, a.backend, a.threads, a.url, a.json)),
    )
    return parser


def run(args: VerifyArgs) -> int:
    """Verify and print the report; 1 if anything failed, as an error if nothing could run."""
    report = _report(args)
    show(json.dumps(report.to_json()) if args.as_json else render(report))
    if report.nothing_ran:
        raise BackendMissingError(
            "no backend of this bundle is usable here, so nothing was verified",
            remedy="; ".join(dict.fromkeys(b.remedy for b in report.backends if b.remedy)),
        )
    return 0 if report.passed else 1


def _report(args: VerifyArgs) -> Report:
    bundle = Bundle.read(args.bundle)
    if args.url is None:
        return verify(bundle, args.backends, threads=args.threads)
    if args.backends or args.threads:
        raise UsageError(
            "--url was given with --backend or --threads, which are the server's to choose",
            remedy="leave them out",
        )
    from edgeport.runtimes.endpoint import verify_endpoint

    return verify_endpoint(bundle, args.url)
