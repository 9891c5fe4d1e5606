"""Do unmodified clients of Triton and KServe get what they ask for?

    python -m venv clients
    clients/bin/pip install numpy onnxruntime 'tritonclient[http,grpc]' kserve
    python -m scripts.serving.models models
    clients/bin/python -m scripts.serve_conformance models --python .venv/bin/python

Starts the server with ``--python``, which is to have edgeport[serve,grpc,ort]; the clients are
those of the Python that runs this. Every answer is
compared with the same bundle run in this process. Exit code 1 if any call fails.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from edgeport.commands.terminal import note, table
from scripts.serving import kserve_clients, plain_http, triton_clients
from scripts.serving.checks import Checks, Result, Target
from scripts.serving.reference import Reference
from scripts.serving.server import edgeport


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", type=Path, help="where scripts.serving.models put its bundles")
    parser.add_argument("--python", default=sys.executable, help="what runs the server")
    parser.add_argument("--no-grpc", action="store_true", help="leave gRPC out")
    parser.add_argument("--control", action="store_true", help="load and unload models too")
    parser.add_argument("--log", type=Path, metavar="FILE", help="what the server prints")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--serve", default="", metavar="ARGS", help="more for edgeport serve")
    args = parser.parse_args()
    bundles = [args.models / f"{name}.edge" for name in ("every", "mlp")]
    more, grpc = shlex.split(args.serve), not args.no_grpc
    more += ["--repository-control"] * args.control
    with edgeport(bundles, more, python=args.python, grpc=grpc, log=args.log) as server:
        done: list[Checks] = []
        for client in (plain_http, triton_clients, kserve_clients):
            note(client.__name__)
            where = (server.http, server.grpc if grpc else None, bundles, args.control)
            # a process each: two libraries that describe the same messages don't load into one
            with ProcessPoolExecutor(1, get_context("spawn")) as child:
                done += child.submit(_check, client.__name__, *where).result()
    results = [result for checks in done for result in checks.results]
    print(_table(done))
    failed = [result for result in results if result.failure]
    for result in failed:
        print(f"{result.client}: {result.call}: {result.failure}")
    if args.json:
        args.json.write_text(_json(results))
    return 1 if failed else 0


def _check(
    client: str, http: str, grpc: str | None, bundles: Sequence[Path], control: bool
) -> list[Checks]:
    every, mlp = (Reference(path) for path in bundles)
    found: list[Checks] = import_module(client).run(Target(http, grpc, every, mlp, control))
    return found


def _table(done: Sequence[Checks]) -> str:
    rows = []
    for checks in done:
        failed = sum(result.failure is not None for result in checks.results)
        rows.append([checks.client, str(len(checks.results)), str(failed)])
    return table(["client", "calls", "failed"], rows, right=(1, 2))


def _json(results: Sequence[Result]) -> str:
    return json.dumps({"conformance_version": 1, "results": [asdict(each) for each in results]})


if __name__ == "__main__":
    raise SystemExit(main())
