"""``edgeport serve``: answer requests over HTTP, once the models have proved themselves."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from edgeport.commands.options import positive
from edgeport.commands.terminal import note, show
from edgeport.commands.trust import Limits, add_trust_options, limits, trusted


@dataclass(frozen=True, slots=True)
class ServeArgs:
    """What ``edgeport serve`` was asked."""

    bundles: tuple[Path, ...]
    host: str
    port: int
    backend: str
    threads: int | None
    trusted: tuple[Path, ...] | None
    limits: Limits


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "serve", help="answer requests over HTTP (Open Inference Protocol v2)"
    )
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="what to serve")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="0 for a free one (default: %(default)s)"
    )
    parser.add_argument("--backend", default="ort-cpu", help="which engine (default: %(default)s)")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads in one operator (default: all CPUs)"
    )
    add_trust_options(parser)
    parser.set_defaults(
        run=lambda a: run(
            ServeArgs(tuple(a.bundles), a.host, a.port, a.backend, a.threads, trusted(a), limits(a))
        )
    )
    return parser


def run(args: ServeArgs) -> int:
    """Serve until a signal comes."""
    from edgeport.runtimes.serve import Serving, serve  # needs the extra: only when it is wanted

    def announce(serving: Serving) -> None:
        names = ", ".join(serving.models)
        show(f"serving {names} on {serving.url} ({serving.backend})")

    note("repeating the golden samples")
    serve(
        args.bundles,
        host=args.host,
        port=args.port,
        backend=args.backend,
        threads=args.threads,
        trusted=args.trusted,
        limits=args.limits,
        ready=announce,
    )
    return 0
