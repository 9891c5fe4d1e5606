"""Bundles that need no torch, and ``edgeport serve`` as a process, for tests of servers."""

import contextlib
import http.client
import json
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import handmade
import numpy as np
import onnx
from onnx import TensorProto, helper

from edgeport.runtimes import Signature, TensorSpec
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.signature import DTYPES

Arrays = Mapping[str, np.ndarray[Any, Any]]

WEIGHT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
DEADLINE_S = 60


# ---- bundles


def pack(
    path: Path, data: bytes, signature: Signature, inputs: Arrays, outputs: Arrays,
    format_: str = "onnx",
) -> Path:  # fmt: skip
    """Make a bundle of one artefact and one golden sample."""
    sample = Golden("real", "real", inputs, outputs, {})
    allowed = Thresholds(constant_outputs=tuple(outputs))  # one sample shows no change
    handmade.bundle(path, signature, {format_: data}, [sample], allowed)
    return path


def onnx_bytes(nodes: list[Any], signature: Signature, constants: Arrays) -> bytes:
    inputs, outputs = (
        [helper.make_tensor_value_info(s.name, ONNX_TYPES[s.dtype], s.shape) for s in specs]
        for specs in (signature.inputs, signature.outputs)
    )
    weights = [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


ONNX_TYPES = {dtype: helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) for dtype in DTYPES}


def digits(folder: Path) -> Path:
    """x: (batch, 4) -> logits = x @ WEIGHT + 1, label = argmax."""
    signature = Signature(
        (TensorSpec("x", "float32", ("batch", 4)),),
        (TensorSpec("logits", "float32", ("batch", 3)), TensorSpec("label", "int64", ("batch",))),
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"]),
        helper.make_node("Add", ["xw", "b"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    data = onnx_bytes(nodes, signature, {"w": WEIGHT, "b": np.ones(3, np.float32)})
    x = np.array([[0.5, -1, 2, 0]], np.float32)
    logits = x @ WEIGHT + 1
    outputs = {"logits": logits, "label": logits.argmax(1)}
    return pack(folder / "digits.edge", data, signature, {"x": x}, outputs)


def slow(folder: Path) -> Path:
    """rounds: (1,) int64 -> the same after that many products of large matrices: busy at will."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["m", "eye"], ["next"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("m", TensorProto.FLOAT, [256, 256]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [256, 256]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["rounds", "", "eye"], ["m"], body=body),
        helper.make_node("ReduceSum", ["m"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["sum64"], to=TensorProto.INT64),
        helper.make_node("Mul", ["rounds", "sum64"], ["rows"]),
    ]
    one = (TensorSpec("rounds", "int64", (1,)),)
    signature = Signature(one, (TensorSpec("rows", "int64", (1,)),))
    data = onnx_bytes(nodes, signature, {"eye": np.eye(256, dtype=np.float32)})
    inputs, outputs = {"rounds": np.array([2])}, {"rows": np.array([512])}
    return pack(folder / "slow.edge", data, signature, inputs, outputs)


def picky(folder: Path) -> Path:
    """index: (rows,) int64 -> what a table of three holds there; the engine refuses any other."""
    signature = Signature(
        (TensorSpec("index", "int64", ("rows",)),), (TensorSpec("held", "float32", ("rows",)),)
    )
    nodes = [helper.make_node("Gather", ["table", "index"], ["held"])]
    data = onnx_bytes(nodes, signature, {"table": np.array([5, 6, 7], np.float32)})
    outputs = {"held": np.array([6], np.float32)}
    return pack(folder / "picky.edge", data, signature, {"index": np.array([1])}, outputs)


def photo(folder: Path) -> Path:
    """image: (batch, height, width, 3) uint8 -> the mean of each colour."""
    signature = Signature(
        (TensorSpec("image", "uint8", ("batch", "height", "width", 3)),),
        (TensorSpec("mean", "float32", ("batch", 3)),),
    )
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real", "axes"], ["mean"], keepdims=0),
    ]
    data = onnx_bytes(nodes, signature, {"axes": np.array([1, 2])})
    image = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    mean = image.mean((1, 2), np.float32)
    return pack(folder / "photo.edge", data, signature, {"image": image}, {"mean": mean})


def stiff(folder: Path) -> Path:
    """size: (1,) int64 -> three numbers in that shape; for any but 3 the engine fails."""
    signature = Signature(
        (TensorSpec("size", "int64", (1,)),), (TensorSpec("shaped", "float32", (3,)),)
    )
    nodes = [helper.make_node("Reshape", ["table", "size"], ["shaped"])]
    table = np.array([5, 6, 7], np.float32)
    data = onnx_bytes(nodes, signature, {"table": table})
    inputs, outputs = {"size": np.array([3])}, {"shaped": table}
    return pack(folder / "stiff.edge", data, signature, inputs, outputs)


# ---- a server and its clients


@dataclass(frozen=True, slots=True)
class Server:
    process: subprocess.Popen[str]
    line: str
    port: int

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        with contextlib.closing(connection):
            return ask(connection, method, path, body, **headers)

    def infer(self, body: Any, model: str = "digits") -> tuple[int, Any]:
        return self.ask("POST", f"/v2/models/{model}/infer", body)


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes | None) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, data, named)
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "application/json"
    return response.status, json.loads(response.read())


def run_serve(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgeport", "serve", *map(str, arguments)]


@contextlib.contextmanager
def serving(*arguments: object, log: Path | None = None) -> Iterator[Server]:
    command = run_serve(*arguments, "--port", 0, "--threads", 1)
    with contextlib.ExitStack() as stack:
        stderr = None if log is None else stack.enter_context(log.open("wb"))
        process = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        )
        try:
            assert process.stdout
            assert select.select([process.stdout], [], [], DEADLINE_S)[0], "never became ready"
            line = process.stdout.readline()
            port = re.search(r":(\d+) ", line)
            assert port, f"ended with {process.wait(DEADLINE_S)}"
            yield Server(process, line, int(port[1]))
        finally:
            process.kill()


def tensor(**changes: Any) -> dict[str, Any]:
    whole = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4.5], **changes}
    return {key: value for key, value in whole.items() if value is not ...}


def request(*inputs: Any, **more: Any) -> dict[str, Any]:
    return {"inputs": list(inputs or [tensor()]), **more}


def failing(*arguments: object) -> tuple[int, str]:
    ended = subprocess.run(
        run_serve(*arguments), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


@contextlib.contextmanager
def connections(server: Server, count: int) -> Iterator[list[http.client.HTTPConnection]]:
    with contextlib.ExitStack() as stack:
        found = [
            http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
            for _ in range(count)
        ]
        for connection in found:
            stack.enter_context(contextlib.closing(connection))
        yield found


def slow_request(server: Server, seconds: float) -> bytes:
    def body(rounds: int) -> bytes:
        rounds_ = tensor(name="rounds", datatype="INT64", shape=[1], data=[rounds])
        return json.dumps(request(rounds_)).encode()

    start = time.monotonic()
    assert server.infer(body(200), "slow")[0] == 200
    found = body(int(200 * seconds / (time.monotonic() - start)) + 1)
    assert server.infer(found, "slow")[0] in (200, 504)  # it is known to be slow from now on
    return found


def wait_until_refused(port: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 0.1).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return
        except TimeoutError:  # nobody is heard any more, and refused only a moment later
            continue
    raise AssertionError("still accepting")


def wait_until(condition: Callable[[], object], seconds: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def workers(server: Server) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def cpu_ticks(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return 0


def wait_until_busy(server: Server, ask_it: Callable[[], object]) -> None:
    """Ask, and wait until the only worker has computed for a while."""
    (worker,) = workers(server)
    before = cpu_ticks(worker)
    ask_it()
    wait_until(lambda: cpu_ticks(worker) >= before + 3)
