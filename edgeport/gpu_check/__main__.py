"""``python -m edgeport.gpu_check``: prove, time and soak every GPU backend of a machine.

Exit codes: 0 all that could be checked passed; 1 something failed; 2 usage; 3 there is no GPU, or
no backend that can use it, and nothing was written; 130 interrupted, and what there was is written.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from edgeport import __version__
from edgeport.commands.terminal import note, show
from edgeport.runtimes.errors import EdgeportError, UsageError

from .budget import Budget
from .check import Check
from .journal import Journal
from .machine import Machine, look
from .models import Model, find
from .report import Report

EXPORT_SHARE: Final = 0.3
"""Of the time, where there are no bundles yet."""

REPORT_EVERY_S: Final = 5.0

CUT_OFF: Final = "the check was cut off before it"
"""In a report that is written on the way; the last one takes its place."""

MakeModels: TypeAlias = Callable[[Path, float], None]
"""Fills a folder with bundles, in some minutes."""


@dataclass(frozen=True, slots=True)
class CheckArgs:
    """What was asked.

    Attributes:
        models: A folder of bundles; ``None`` to make them.
    """

    models: Path | None
    output: Path
    minutes: float
    device: str


def main(argv: Sequence[str] | None = None, make_models: MakeModels | None = None) -> int:
    """Check, and write the report.

    Args:
        argv: What follows the command; ``None`` for this process's own.
        make_models: Makes bundles where no folder of them was named.
    """
    a = _parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):  # of whoever lends the machine, of a terminal
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        return run(CheckArgs(a.models, a.output, a.minutes, a.device), make_models)
    except EdgeportError as e:
        print(f"gpu-check: {e}", file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        print("gpu-check: interrupted; nothing was written", file=sys.stderr)
        return 130


def run(
    args: CheckArgs,
    make_models: MakeModels | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Check, and write the report.

    Args:
        args: What was asked.
        make_models: Makes bundles where no folder of them was named.
        clock: In seconds; a test may stop it, and then every step is reached.

    Raises:
        EdgeportError: The check cannot begin, or a row or the report cannot be kept.
    """
    machine = look(args.device)
    budget = Budget.start(args.minutes, clock)
    models, unread = find(args.models or _made(args, make_models))
    journal = Journal(args.output, _subject(machine, models))
    copies = args.output / "models"
    written_at = time.monotonic()

    def kept() -> None:
        """Write the report of what there is, for whoever finds it if this is killed."""
        nonlocal written_at
        if time.monotonic() - written_at >= REPORT_EVERY_S:
            told(CUT_OFF).write(args.output)
            written_at = time.monotonic()

    def told(cut_off: str | None) -> Report:
        rows = check.rows() if cut_off is None else check.rows(cut_off)
        return Report.of(machine, models, unread, rows, args.minutes, cut_off is not None)

    check = Check(machine, models, copies, journal, budget, note, kept)
    if journal.rows:
        note(f"going on: {len(journal.rows)} steps are done already")
    interrupted = None
    try:
        told(CUT_OFF).write(args.output)
        check.run()
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # one is enough: the report is being written
        interrupted = "interrupted"
    journal.close()
    report = told(interrupted)
    for path in report.write(args.output):
        note(f"written: {path}")
    show(report.summary)
    return 130 if interrupted else report.exit_code


def _made(args: CheckArgs, make_models: MakeModels | None) -> Path:
    if make_models is None:
        raise UsageError("no models were named", remedy="name a folder of bundles: --models FOLDER")
    folder = args.output / "zoo"
    if not folder.exists():  # a check that goes on takes the models that it began with
        make_models(folder, EXPORT_SHARE * args.minutes)
    return folder


def _subject(machine: Machine, models: Sequence[Model]) -> dict[str, object]:
    """What must be the same for a check to be continued."""
    gpu = machine.card.gpu if machine.card else None
    return {
        "gpu_check_version": 1,
        "edgeport": __version__,
        "device": machine.device,
        "gpu": machine.cuda if gpu is None else gpu.uuid,
        "driver": None if gpu is None else gpu.driver,
        "backends": {name: machine.backends[name].version for name in machine.usable},
        "models": {model.name: model.digest for model in models},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpu-check",
        description="Prove, time and soak every GPU backend of this machine, and write "
        "gpu-report.html and gpu-report.json. What was cut off goes on with the same --output.",
    )
    parser.add_argument(
        "--models",
        type=Path,
        metavar="FOLDER",
        help="bundles, NAME.edge (default for scripts/gpu-check: the zoo, exported first)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("gpu-check"), metavar="FOLDER",
        help="where steps and report are kept (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, default=40.0, metavar="M",
        help="for everything, and a minute more for what hangs; three tenths, and at most 10 "
        "minutes, are the soak's; 6 are enough for a first look (%(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--device", default="cuda:0", metavar="NAME",
        help="cuda:N; cpu rehearses the check, and says nothing about a GPU (%(default)s)",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
