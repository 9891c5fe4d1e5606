"""``edgeport serve``: answer requests over HTTP, once the models have proved themselves."""

import argparse
import contextlib
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.commands.options import (
    DEFAULT_BACKEND_TEXT,
    add_gpu_options,
    gpu_options,
    positive,
    size,
)
from edgeport.commands.terminal import show
from edgeport.commands.trust import Limits, add_trust_options, limits, trusted
from edgeport.runtimes.devices import GpuOptions
from edgeport.runtimes.errors import StorageError

if TYPE_CHECKING:
    from edgeport.runtimes.serve import Settings


@dataclass(frozen=True, slots=True)
class ServeArgs:
    """What ``edgeport serve`` was asked."""

    bundles: tuple[Path, ...]
    model_dir: Path | None
    host: str
    port: int
    grpc_port: int | None
    backend: str | None
    threads: int | None
    device: str | None
    gpu: GpuOptions
    workers: int
    max_queue_rows: int
    max_body_bytes: int
    deadline_s: float
    run_limit_s: float
    max_delay_s: float
    repository_control: bool
    trusted: tuple[Path, ...] | None
    limits: Limits


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "serve",
        help="answer requests over HTTP (Open Inference Protocol v2)",
        epilog="example: edgeport serve digits.edge --port 8000 --grpc-port 8001",
    )
    _add_what_and_where(parser)
    parser.add_argument("--backend", help=f"which engine {DEFAULT_BACKEND_TEXT}")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads in one operator (default: all CPUs)"
    )
    add_gpu_options(parser)
    parser.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="processes that answer, each with all models (default: %(default)s)",
    )
    _add_bounds(parser)
    parser.add_argument(
        "--repository-control",
        action="store_true",
        help="let clients load and unload models: only where you trust all of them",
    )
    add_trust_options(parser)
    parser.set_defaults(run=lambda a: run(_args(a)))
    return parser


def _add_what_and_where(parser: argparse.ArgumentParser) -> None:
    """Declare the models, and the ports at which they answer."""
    parser.add_argument("bundles", nargs="*", type=Path, metavar="BUNDLE", help="what to serve")
    parser.add_argument(
        "--model-dir",
        type=Path,
        metavar="DIR",
        help="serve what is in it too: NAME.edge, or NAME/VERSION.edge",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="0 for a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--grpc-port", type=int, metavar="PORT", help="answer gRPC too (default: HTTP alone)"
    )


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    """Declare what a client may take, and for how long."""
    parser.add_argument(
        "--max-queue-rows",
        type=positive,
        default=1024,
        metavar="N",
        help="rows that may wait for one model; what comes then gets 503 (default: %(default)s)",
    )
    parser.add_argument(
        "--deadline",
        type=duration,
        default=1.0,
        metavar="TIME",
        help="how long a request may wait: 500ms, 2s (default: 1s)",
    )
    parser.add_argument(
        "--run-limit",
        type=duration,
        default=120.0,
        metavar="TIME",
        help="how long a model may compute before it is taken to hang (default: 120s)",
    )
    parser.add_argument(
        "--max-delay-ms",
        type=milliseconds,
        default=0.0,
        metavar="MS",
        help="rows wait so long for those of other requests, to run together (default: 0)",
    )
    parser.add_argument(
        "--max-body",
        type=size,
        default=2**26,
        metavar="SIZE",
        help="longest body: 512KiB, 64MiB (default: 64MiB)",
    )


def run(args: ServeArgs) -> int:
    """Serve until a signal comes."""
    from edgeport.runtimes.serve import (  # needs the extra: only when it is wanted
        Serving,
        serve,
    )

    def announce(serving: Serving) -> None:
        names = ", ".join(serving.models) or "no model"
        with contextlib.suppress(StorageError):  # as ``log``
            show(f"serving {names} on {serving.url} ({serving.backend})")
            for door in doors:
                show(f"gRPC on {args.host}:{door.port}")

    doors = []
    if args.grpc_port is not None:
        from edgeport.runtimes.serve.rpc import CallLimits, Door

        call_limits = CallLimits(message_bytes=args.max_body_bytes)
        doors.append(Door(args.host, args.grpc_port, args.workers, call_limits))
    with contextlib.ExitStack() as stack:
        for door in doors:
            stack.callback(door.close)
        serve(
            args.bundles,
            model_dir=args.model_dir,
            host=args.host,
            port=args.port,
            workers=args.workers,
            settings=replace(_settings(args), transports=[door.start for door in doors]),
            rehearsal=args.limits,
            ready=announce,
            tell=log,
        )
    return 0


def _settings(args: ServeArgs) -> "Settings":
    """Of HTTP alone."""
    from edgeport.runtimes.serve import Bounds, Settings, TransportLimits
    from edgeport.runtimes.session import Options, default_backend

    return Settings(
        backend=args.backend or default_backend(args.device),
        options=Options(threads=args.threads, device=args.device, gpu=args.gpu),
        trusted=args.trusted,
        bounds=Bounds(
            rows=args.max_queue_rows,
            deadline_s=args.deadline_s,
            run_s=args.run_limit_s,
            delay_s=args.max_delay_s,
        ),
        limits=TransportLimits(body_bytes=args.max_body_bytes),
        control=args.repository_control,
    )


def log(text: str) -> None:
    """Tell an operator on stderr, with the time; a full disk must not end the server."""
    with contextlib.suppress(OSError):
        os.write(2, f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n".encode())


def duration(text: str) -> float:
    """Read a time in seconds: ``"500ms"``, ``"2s"``, ``"2"``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|)", text)
    seconds = float(match[1]) * (1e-3 if match[2] == "ms" else 1) if match else 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"expected a time such as 500ms or 2s, got {text!r}")
    return seconds


def milliseconds(text: str) -> float:
    """Read a number of milliseconds, and return seconds."""
    try:
        seconds = float(text) / 1e3
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"expected milliseconds from 0 to 60000, got {text!r}")
    return seconds


def _args(a: argparse.Namespace) -> ServeArgs:
    return ServeArgs(
        tuple(a.bundles), a.model_dir, a.host, a.port, a.grpc_port, a.backend, a.threads, a.device,
        gpu_options(a), a.workers, a.max_queue_rows, a.max_body, a.deadline, a.run_limit,
        a.max_delay_ms, a.repository_control, trusted(a), limits(a),
    )  # fmt: skip
