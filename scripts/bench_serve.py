"""How fast a server answers, and what an answer costs it, every answer checked.

    python -m scripts.serving.models models
    python -m scripts.bench_serve models/mlp.edge --json serve.json
    python -m scripts.bench_serve models/mlp.edge --peers peers/bin/python

Requests of one row over so many connections at once (closed loop), then at random times at so
many a second (open loop; latency counts from when a request was due). All servers run side by
side with one thread in the engine, and are asked in turn, round after round; a figure is the
median of its rounds. ``CPU`` is what the server's processes took, a request. Each answer is
compared with that of the same bundle in this process. The load comes from this machine, so the
rates are of a shared one; CPU is the robust figure. ``--peers`` is a Python with mlserver,
litserve and onnxruntime. Exit code 1 if an answer was wrong or missing.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

from edgeport.commands.terminal import note, table
from scripts.serving import grpc_load, peers
from scripts.serving.load import Outcome, closed_loop, open_loop
from scripts.serving.reference import Reference
from scripts.serving.server import Server, edgeport
from scripts.serving.wire import Form, Requests, requests

OPEN_CONNECTIONS = 128


@dataclass(frozen=True, slots=True)
class Subject:
    """A server, and a form of requests that it takes."""

    name: str
    server: Server
    requests: Requests

    @property
    def label(self) -> str:
        return f"{self.name} {self.requests.form}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--forms", default="json,binary,grpc", help="default: %(default)s")
    parser.add_argument("--connections", default="1,8,32", help="default: %(default)s")
    parser.add_argument("--rates", default="2000", help="of the open loop, requests/s")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one figure of one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="what runs edgeport")
    parser.add_argument("--peers", metavar="PYTHON", help="what runs MLServer and LitServe")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--serve", default="", metavar="ARGS", help="more for edgeport serve")
    args = parser.parse_args()
    reference = Reference(args.bundle)
    forms = cast(list[Form], args.forms.split(","))
    with ExitStack() as stack:
        more = ["--threads", "1", *shlex.split(args.serve)]
        server = stack.enter_context(
            edgeport([args.bundle], more, python=args.python, grpc="grpc" in forms)
        )
        subjects = [Subject("edgeport", server, requests(form, reference)) for form in forms]
        if args.peers:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for name, form, peer in peers.start(args.peers, args.bundle, folder, stack):
                subjects.append(Subject(name, peer, requests(form, reference)))
        rounds = [
            found
            for number in range(args.rounds)
            for found in _round(
                subjects, _numbers(args.connections), _numbers(args.rates), args.seconds, number
            )
        ]
    figures = _medians(rounds)
    print(_table(figures))
    result = json.dumps({"serve_version": 1, "rounds": args.rounds, "figures": figures})
    if args.json:
        args.json.write_text(result)
    return 1 if any(figure["wrong"] or figure["missing"] for figure in figures) else 0


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def _round(
    subjects: Sequence[Subject],
    connections: Sequence[int],
    rates: Sequence[int],
    seconds: float,
    number: int,
) -> Iterator[dict[str, Any]]:
    for subject in subjects:
        note(f"round {number + 1}: {subject.label}")
        sent, server = subject.requests, subject.server
        for count in connections:
            ask: Callable[[], Outcome] = (
                partial(grpc_load.closed_loop, server.grpc, sent, count, seconds)
                if sent.form == "grpc"
                else partial(closed_loop, server.port, sent, count, seconds)
            )
            yield _measured(subject, f"{count} connections", ask)
        for rate in rates if sent.form != "grpc" else ():
            ask = partial(
                open_loop, server.port, sent, rate, seconds, OPEN_CONNECTIONS, seed=number
            )
            yield _measured(subject, f"{rate}/s at random", ask)


def _measured(subject: Subject, load: str, run: Callable[[], Outcome]) -> dict[str, Any]:
    before_s = subject.server.cpu_s()
    outcome = run()
    cpu_s = subject.server.cpu_s() - before_s
    answers = sum(count for status, count in outcome.statuses.items() if status)
    return {
        "server": subject.label,
        "load": load,
        "per_s": outcome.right_per_s,
        "cpu_us": cpu_s / max(answers, 1) * 1e6,
        "p50_ms": outcome.latency_ms(50),
        "p99_ms": outcome.latency_ms(99),
        "wrong": outcome.wrong,
        "missing": sum(n for status, n in outcome.statuses.items() if status != 200),
    }


def _medians(rounds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    figures = []
    for key in dict.fromkeys((each["server"], each["load"]) for each in rounds):
        same = [each for each in rounds if (each["server"], each["load"]) == key]
        figure = {"server": key[0], "load": key[1]}
        for name in ("per_s", "cpu_us", "p50_ms", "p99_ms"):
            figure[name] = median(each[name] for each in same)
        for name in ("wrong", "missing"):
            figure[name] = sum(each[name] for each in same)
        figures.append(figure)
    return figures


def _table(figures: Sequence[dict[str, Any]]) -> str:
    header = ["server", "load", "right/s", "CPU µs", "p50 ms", "p99 ms", "wrong", "missing"]
    rows = [
        [
            figure["server"],
            figure["load"],
            f"{figure['per_s']:,.0f}",
            f"{figure['cpu_us']:.0f}",
            f"{figure['p50_ms']:.2f}",
            f"{figure['p99_ms']:.2f}",
            str(figure["wrong"]),
            str(figure["missing"]),
        ]
        for figure in figures
    ]
    return table(header, rows, right=range(2, 8))


if __name__ == "__main__":
    raise SystemExit(main())
