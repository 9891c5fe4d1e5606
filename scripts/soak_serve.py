"""What does a server bear? Each trial starts one, ill-treats it, and holds it to its bars.

    python -m scripts.serving.models models
    python -m scripts.soak_serve models --json soak.json
    python -m scripts.soak_serve models --only malformed,sigterm
    python -m scripts.soak_serve models --only soak --requests 100000

``malformed``  more than 100 wrong requests: raw sockets, JSON, binary, gRPC, HTTP/2
``half-open``  400 clients of each port that begin a request and never end it
``sigterm``    SIGTERM under 32 busy clients, 10 times
``aborted``    50 requests whose clients leave at once
``overload``   4 times the capacity for 30 s, of a model that takes about 20 ms
``soak``       a million requests: does memory grow?

Exit code 1 if a bar is missed.
"""

import argparse
import json
import shlex
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from edgeport.commands.terminal import note, table
from scripts.serving.server import Server, edgeport
from scripts.serving.trials import TRIALS, Finding, soak


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", type=Path, help="where scripts.serving.models put its bundles")
    parser.add_argument("--only", default=",".join(TRIALS), help="default: %(default)s")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the soak")
    parser.add_argument("--python", default=sys.executable, help="what runs the server")
    parser.add_argument("--no-grpc", action="store_true", help="leave gRPC out")
    parser.add_argument("--serve", default="", metavar="ARGS", help="more for edgeport serve")
    parser.add_argument("--log", type=Path, metavar="FILE", help="what the last server printed")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()

    def start(bundle: Path) -> AbstractContextManager[Server]:
        more = ["--threads", "1", *shlex.split(args.serve)]
        return edgeport([bundle], more, python=args.python, grpc=not args.no_grpc, log=args.log)

    trials = dict(TRIALS) | {"soak": partial(soak, count=args.requests)}
    findings: list[Finding] = []
    for name in args.only.split(","):
        note(name)
        findings += trials[name](start, args.models)
    rows = [
        [each.trial, each.what, each.figure, each.bar, "" if each.good else "MISSED"]
        for each in findings
    ]
    print(table(["trial", "what", "figure", "bar", ""], rows))
    if args.json:
        result = {"soak_version": 1, "findings": [asdict(each) for each in findings]}
        args.json.write_text(json.dumps(result))
    return 0 if all(each.good for each in findings) else 1


if __name__ == "__main__":
    raise SystemExit(main())
