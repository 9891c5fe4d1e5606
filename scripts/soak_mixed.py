"""Half an hour of clients of every kind at once: do memory and file handles stay as they are?

    python -m scripts.serving.models models
    python -m scripts.soak_mixed models --minutes 30 --json mixed.json

JSON, long JSON, binary, gzip, gRPC and its streams; clients that leave before their answer, that
give up in time, that never end what they began, that send nonsense; somebody who looks at health
and metrics, and somebody who loads a model again and again. Right answers are compared with the
same bundle in this process. Exit code 1 if an answer is wrong, or something grows.
"""

import argparse
import contextlib
import gzip
import http.client
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np

from edgeport.commands.terminal import note, table
from scripts.serving.grpc_load import INFER
from scripts.serving.reference import Reference
from scripts.serving.server import Server, edgeport
from scripts.serving.wire import Form, Requests, requests

SAMPLE_S: Final = 10.0
_PAUSE_S: Final = 0.02
_PAUSES_S: Final = {"leaves": 0.3, "loads again": 5.0}
"""Of those whose requests cost the server more than its other clients' together."""

_STREAM: Final = "/inference.GRPCInferenceService/ModelStreamInfer"
_GROWN: Final = {"MiB": 16.0, "files": 8.0, "threads": 4.0}
"""What the last third may have more than the second, in the median."""

Client = Callable[[], str]
"""Asks once, and says what came of it."""


class Clients:
    """What each kind of client does once.

    Args:
        server: Whom they ask.
        models: Where the bundles are.
    """

    def __init__(self, server: Server, models: Path) -> None:
        self._server = server
        self._forms: dict[Form, Requests] = {
            form: requests(form, Reference(models / "mlp.edge")) for form in ("json", "binary")
        }
        self._slow = requests("binary", Reference(models / "slow.edge"), 1).sent[0]
        self._every = requests("json", Reference(models / "every.edge"), 4)
        self._grpc = requests("grpc", Reference(models / "mlp.edge"))
        self._long = _infer_body(np.random.default_rng(0).normal(size=(2_500, 64)))
        self._channel = grpc.insecure_channel(server.grpc)

    def kinds(self) -> dict[str, Client]:
        """All of them, by name."""
        return {
            "json": lambda: self._ask(self._forms["json"]),
            "binary": lambda: self._ask(self._forms["binary"]),
            "every dtype": lambda: self._ask(self._every),
            "long json": lambda: self._post("/v2/models/mlp/infer", self._long),
            "gzip": lambda: self._post(
                "/v2/models/mlp/infer",
                gzip.compress(self._long, 1),
                {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"},
            ),
            "grpc": self._call,
            "grpc stream": self._stream,
            "grpc cancelled": self._cancel,
            "grpc deadline": lambda: self._call(0.0005),
            "leaves": self._leave,
            "never ends": self._half,
            "nonsense": lambda: self._post("/v2/models/mlp/infer", b'{"inputs": [{"name": 1}]}'),
            "timeout": lambda: self._post(
                "/v2/models/mlp/infer", self._long[:-1] + b', "parameters": {"timeout": 1}}'
            ),
            "health": lambda: str(self._server.get("/v2/health/ready")[0]),
            "metrics": lambda: str(self._server.get("/metrics")[0]),
            "loads again": lambda: self._post("/v2/repository/models/mlp/load", b"{}"),
        }

    def _ask(self, sent: Requests) -> str:
        """Over one connection, everything."""
        with socket.create_connection(("127.0.0.1", self._server.port), 60) as wire:
            for index, data in enumerate(sent.sent):
                wire.sendall(data)
                response = http.client.HTTPResponse(wire)
                response.begin()
                body = response.read()
                if response.status != 200:
                    return str(response.status)
                head = b"\r\n".join(f"{k}: {v}".encode() for k, v in response.getheaders())
                if not sent.is_right(index, head, body):
                    return "wrong"
        return "200"

    def _post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", path, body, headers or {})
            response = connection.getresponse()
            response.read()
            return str(response.status)

    def _call(self, timeout_s: float = 60) -> str:
        try:
            found = self._channel.unary_unary(INFER)(self._grpc.sent[0], timeout=timeout_s)
        except grpc.RpcError as e:
            return _code(e)
        return "OK" if self._grpc.is_right(0, b"", found) else "wrong"

    def _stream(self) -> str:
        sent = self._grpc.sent
        answers = self._channel.stream_stream(_STREAM)(iter(sent), timeout=60)
        try:
            return "OK" if len(list(answers)) == len(sent) else "wrong"
        except grpc.RpcError as e:
            return _code(e)

    def _cancel(self) -> str:
        call = self._channel.unary_unary(INFER).future(self._grpc.sent[0], timeout=60)
        return "cancelled" if call.cancel() else "too late"

    def _leave(self) -> str:
        """After it has asked for something that takes a while."""
        with socket.create_connection(("127.0.0.1", self._server.port), 60) as wire:
            wire.sendall(self._slow)
        return "left"

    def _half(self) -> str:
        with socket.create_connection(("127.0.0.1", self._server.port), 60) as wire:
            wire.sendall(self._forms["json"].sent[0][:-1])
            time.sleep(1)
        return "left"


def soak(server: Server, models: Path, seconds: float) -> tuple[list[list[float]], Counter[str]]:
    """Let all clients ask.

    Returns:
        Seconds, MiB, open files and threads of all processes, again and again; and what came of
        the requests.
    """
    outcomes: Counter[str] = Counter()
    stop = threading.Event()

    def live(name: str, client: Client) -> None:
        while not stop.wait(_PAUSES_S.get(name, _PAUSE_S)):
            try:
                outcome = client()
            except (OSError, http.client.HTTPException) as e:
                outcome = f"lost: {type(e).__name__}"
            outcomes[f"{name}: {outcome}"] += 1

    kinds = Clients(server, models).kinds().items()
    threads = [threading.Thread(target=live, args=each) for each in kinds]
    for thread in threads:
        thread.start()
    start, samples = time.monotonic(), []
    while (now := time.monotonic() - start) < seconds:
        samples.append([now, *_held(server)])
        stop.wait(min(SAMPLE_S, seconds / 10))
    stop.set()
    for thread in threads:
        thread.join()
    time.sleep(1)
    return samples, outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", type=Path, help="where scripts.serving.models put its bundles")
    parser.add_argument("--minutes", type=float, default=30.0, help="default: %(default)g")
    parser.add_argument("--log", type=Path, metavar="FILE", help="what the server printed")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    bundles = [args.models / f"{name}.edge" for name in ("mlp", "every", "slow")]
    more = ["--threads", "1", "--repository-control", "--max-queue-rows", "100000"]
    with edgeport(bundles, more, python=sys.executable, grpc=True, log=args.log) as server:
        before = server.processes()
        note(f"{args.minutes:g} minutes")
        samples, outcomes = soak(server, args.models, args.minutes * 60)
        same, after = server.processes() == before, _held(server)
    figures = np.array(samples)
    second, last = (np.median(part, 0) for part in np.array_split(figures, 3)[1:])
    rows = [
        [what, *(f"{value:.1f}" for value in (figures[0, i], second[i], last[i], after[i - 1]))]
        for i, what in enumerate(_GROWN, 1)
    ]
    print(table(["of the server", "first", "second third", "last third", "quiet again"], rows))
    print(table(["client: answer", "times"], [[k, f"{outcomes[k]:,}"] for k in sorted(outcomes)]))
    grown = [w for i, (w, most) in enumerate(_GROWN.items(), 1) if last[i] > second[i] + most]
    bad = [each for each in outcomes if "wrong" in each or "lost" in each]
    print("grown:", ", ".join(grown) or "nothing", "| wrong or lost:", ", ".join(bad) or "nothing")
    if args.json:
        result: dict[str, Any] = {"mixed_version": 1, "samples": samples, "outcomes": outcomes}
        args.json.write_text(json.dumps(result))
    return 0 if same and not grown and not bad else 1


def _held(server: Server) -> list[float]:
    files = threads = 0
    for pid in server.processes():
        with contextlib.suppress(OSError):
            files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
            threads += len(list(Path(f"/proc/{pid}/task").iterdir()))
    return [server.rss_bytes() / 2**20, files, threads]


def _infer_body(x: np.ndarray[Any, Any]) -> bytes:
    entry = {"name": "x", "datatype": "FP32", "shape": x.shape, "data": x.tolist()}
    return json.dumps({"inputs": [entry]}).encode()


def _code(error: grpc.RpcError) -> str:
    call: Any = error  # which a call raises is one
    return str(call.code().name)


if __name__ == "__main__":
    raise SystemExit(main())
