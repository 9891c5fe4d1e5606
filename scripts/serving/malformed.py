"""Requests that no server may answer with 200 or with 5xx, and no server may die of."""

import gzip
import http.client
import json
import socket
import zlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

from scripts.serving.server import Server

_GOOD: Final = {"name": "x", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}
_RAW: Final = {"name": "x", "datatype": "FP32", "shape": [1, 64]}


def outcomes(server: Server, model: str) -> Iterator[tuple[str, str, bool]]:
    """Send each: its name, what came of it, and whether that is right.

    Right is a status of 400 to 499, or for gRPC a status that blames the client; in raw HTTP the
    connection may also be closed without a word where no request can be made out.
    """
    path = f"/v2/models/{model}/infer"
    for name, body in bodies().items():
        status = _post(server, path, body)
        yield f"JSON: {name}", str(status), 400 <= status < 500
    for name, (head, tail) in binaries().items():
        status = _post(
            server, path, head + tail, {"Inference-Header-Content-Length": str(len(head))}
        )
        yield f"binary: {name}", str(status), 400 <= status < 500
    for name, (headers, body) in headed().items():
        status = _post(server, path, body, headers)
        yield f"headers: {name}", str(status), 400 <= status < 500
    for name, data in raws(path).items():
        found = _raw(server, data)
        right = found == b"" or (found.startswith(b"HTTP/1.1 4"))
        yield f"raw: {name}", found[:12].decode("latin-1") or "closed", right
    if server.grpc_port is not None:
        yield from _grpc(server, model)


def bodies() -> Mapping[str, bytes]:
    """Bodies of an inference that are wrong."""

    def request(**changes: Any) -> bytes:
        return json.dumps({"inputs": [{**_GOOD, **changes}]}).encode()

    def without(key: str) -> bytes:
        kept = {name: value for name, value in _GOOD.items() if name != key}
        return json.dumps({"inputs": [kept]}).encode()

    whole = request()
    found = {
        "nothing": b"",
        "a space": b" ",
        "no JSON": b"hello",
        "a number": b"1",
        "null": b"null",
        "a list": b"[]",
        "a string": b'"x"',
        "an empty object": b"{}",
        "no UTF-8": b'{"inputs": "\xff\xfe"}',
        "a lone surrogate as UTF-8": b'{"inputs": "\xed\xa0\x80"}',
        "a byte order mark": b"\xef\xbb\xbf" + whole,
        "cut off": whole[:-20],
        "trailing bytes": whole + b"x",
        "two documents": whole + whole,
        "trailing comma": whole[:-1] + b",}",
        "200,000 brackets": b"[" * 200_000,
        "50,000 objects deep": b'{"a":' * 50_000,
        "deep data": request(data=None).replace(b"null", b"[" * 500 + b"1" + b"]" * 500),
        "inputs null": b'{"inputs": null}',
        "inputs an object": b'{"inputs": {}}',
        "inputs empty": b'{"inputs": []}',
        "an input that is null": b'{"inputs": [null]}',
        "an input that is a list": b'{"inputs": [[]]}',
        "inputs twice": b'{"inputs": [], ' + whole[1:],
        "an input twice": json.dumps({"inputs": [_GOOD, _GOOD]}).encode(),
        "an input too many": json.dumps({"inputs": [_GOOD, {**_GOOD, "name": "y"}]}).encode(),
        "outputs a string": whole[:-1] + b', "outputs": "y"}',
        "outputs unknown": whole[:-1] + b', "outputs": [{"name": "no such"}]}',
        "outputs without name": whole[:-1] + b', "outputs": [{}]}',
        "id a number": whole[:-1] + b', "id": 7}',
        "parameters a list": whole[:-1] + b', "parameters": [1]}',
        "ragged": request(data=[[1] * 63, [1]]),
        "ragged, right count": request(data=[[1] * 32, [1] * 32]),
        "a million numbers": request(data=[1] * 1_000_000),
        "shared memory": request(parameters={"shared_memory_region": "r"}),
        "classification of a string": json.dumps(
            {
                "inputs": [_GOOD],
                "outputs": [{"name": "output_0", "parameters": {"classification": "3"}}],
            }
        ).encode(),
        "BYTES for FP32": request(datatype="BYTES", data=["a"] * 64),
    }
    for key in _GOOD:
        found[f"without {key}"] = without(key)
    kinds: dict[str, list[object]] = {
        "name": ["", "y", "X", None, 1, ["x"], {}, "x\0", "x" * 10_000],
        "datatype": ["", "FP64", "fp32", "FLOAT", "INT32", "BF16", None, 32, ["FP32"]],
        "shape": [
            [], [64], [1, 63], [1, 65], [0, 64], [1, 64, 1], [-1, 64], [1, -64], [10**9, 64],
            [2**63, 64], [2**64, 0], [1.5, 64], [1.0, 64], ["1", 64], [True, 64], [None, 64],
            None, "1,64", 64, {}, [[1, 64]], [1] * 40, [2**31, 2**31, 2**31],
        ],
        "data": [
            [], [1] * 63, [1] * 65, None, 1, "1", {}, [None] * 64, ["1"] * 64, [True] * 64,
            [[]] * 64, [{}] * 64, [1e39] * 64, [10**400] * 64, [1, "a"] * 32, [[1], 1] * 32,
        ],
    }  # fmt: skip  # one kind a line
    for key, values in kinds.items():
        for value in values:
            text = json.dumps(value)
            found[f"{key} {text if len(text) < 30 else text[:27] + '...'}"] = request(
                **{key: value}
            )
    return found


def binaries() -> Mapping[str, tuple[bytes, bytes]]:
    """JSON heads and the bytes behind them that are wrong."""

    def head(**parameters: Any) -> bytes:
        return json.dumps({"inputs": [{**_RAW, "parameters": parameters}]}).encode()

    both = json.dumps({"inputs": [{**_GOOD, "parameters": {"binary_data_size": 256}}]}).encode()
    data = bytes(256)
    return {
        "too few bytes": (head(binary_data_size=256), data[:-1]),
        "too many bytes": (head(binary_data_size=256), data + b"x"),
        "size too small": (head(binary_data_size=255), data),
        "size too large": (head(binary_data_size=2**40), data),
        "size negative": (head(binary_data_size=-1), data),
        "size a string": (head(binary_data_size="256"), data),
        "size a fraction": (head(binary_data_size=256.5), data),
        "size true": (head(binary_data_size=True), data),
        "size null": (head(binary_data_size=None), data),
        "no size": (head(), data),
        "data as well": (both, data),
        "head cut off": (head(binary_data_size=256)[:-3], data),
        "no head": (b"", data[:-1]),
    }


def headed() -> Mapping[str, tuple[Mapping[str, str], bytes]]:
    """Headers that are wrong for their body."""
    whole = json.dumps({"inputs": [_GOOD]}).encode()
    length, coding = "Inference-Header-Content-Length", "Content-Encoding"
    packed = gzip.compress(whole)
    return {
        "header length negative": ({length: "-1"}, whole),
        "header length beyond the body": ({length: str(len(whole) + 1)}, whole),
        "header length huge": ({length: "9" * 40}, whole),
        "header length a word": ({length: "ten"}, whole),
        "header length empty": ({length: ""}, whole),
        "header length with a plus": ({length: f"+{len(whole)}"}, whole),
        "gzip that is none": ({coding: "gzip"}, whole),
        "gzip cut off": ({coding: "gzip"}, packed[:-4]),
        "gzip with a tail": ({coding: "gzip"}, packed + b"tail"),
        "gzip that is deflate": ({coding: "gzip"}, zlib.compress(whole)),
        "an unknown encoding": ({coding: "br"}, whole),
        "a bomb": ({coding: "gzip"}, gzip.compress(bytes(200 * 2**20), 9)),
    }


def raws(path: str) -> Mapping[str, bytes]:
    """Bytes that are no request of HTTP/1.1, or break its rules."""
    line = f"POST {path} HTTP/1.1\r\nHost: a\r\n".encode()
    chunked = line + b"Transfer-Encoding: chunked\r\n\r\n"
    return {
        "noise": bytes(range(256)),
        "zeros": bytes(1000),
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "a line without end": b"GET /" + b"a" * 100_000,
        "a header without end": line + b"X: " + b"a" * 200_000,
        "10,000 headers": line + b"X: a\r\n" * 20_000 + b"\r\n",
        "HTTP/3": b"GET / HTTP/3.0\r\n\r\n",
        "an unknown verb": b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        "a header without colon": line + b"oops\r\n\r\n",
        "a folded header": line + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "a space before the colon": line + b"Content-Length : 3\r\n\r\nabc",
        "two lengths": line + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "length and chunks": line
        + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "length negative": line + b"Content-Length: -1\r\n\r\n",
        "length a word": line + b"Content-Length: ten\r\n\r\n",
        "length above all": line + b"Content-Length: 99999999999999999999\r\n\r\n",
        "length above the limit": line + b"Content-Length: 9999999999\r\n\r\n",
        "chunk size a word": chunked + b"zz\r\nabc\r\n0\r\n\r\n",
        "chunk size too large": chunked + b"fffffffffffffffff\r\nabc",
        "chunk without end": chunked + b"3\r\nabcde\r\n0\r\n\r\n",
        "unknown transfer coding": line + b"Transfer-Encoding: gzip\r\n\r\nabc",
        "upgrade": line + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "a path with zero": b"GET /v2/\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "a path out of the server": b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    }


def _post(server: Server, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("POST", path, body, dict(headers or {}))
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200 and list(json.loads(answer)) != ["error"]:
            return 0
        return response.status
    except (OSError, http.client.HTTPException, ValueError):
        return 0
    finally:
        connection.close()


def _raw(server: Server, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), 15) as wire:
        try:
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
            return wire.recv(4096)
        except OSError:
            return b""


def _grpc(server: Server, model: str) -> Iterator[tuple[str, str, bool]]:
    from edgeport.runtimes.serve.rpc import frames as f

    grpc: Any = import_module("grpc")
    blamed = ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED")
    with grpc.insecure_channel(server.grpc) as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for name, data in _messages(model).items():
            try:
                ask(data, timeout=20)
                code = "OK"
            except grpc.RpcError as e:
                code = e.code().name
            yield f"gRPC: {name}", code, code in blamed
        strange = channel.unary_unary("/inference.GRPCInferenceService/NoSuch")
        try:
            strange(b"", timeout=20)
            code = "OK"
        except grpc.RpcError as e:
            code = e.code().name
        yield "gRPC: an unknown method", code, code == "UNIMPLEMENTED"
    hello = f.PREFACE + f.settings({})
    for name, data in {
        "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "noise": bytes(range(256)) * 10,
        "noise behind the preface": hello + bytes(range(255, 0, -1)) * 10,
        "a frame too long": hello + f.head(f.DATA, 0, 1, 2**24 - 1),
        "a continuation of nothing": hello + f.frame(f.CONTINUATION, 4, 1, b""),
        "100 continuations": hello
        + f.frame(f.HEADERS, 0, 1, b"")
        + f.frame(f.CONTINUATION, 0, 1, b"") * 100,
        "headers that are none": hello + f.frame(f.HEADERS, 5, 1, b"\xff" * 50),
        "an even stream": hello + f.frame(f.HEADERS, 5, 2, b"\x82"),
        "a window of 2^31": hello + f.settings({f.INITIAL_WINDOW_SIZE: 2**31}),
        "data of no stream": hello + f.frame(f.DATA, 0, 7, b"abc"),
    }.items():
        with socket.create_connection(("127.0.0.1", server.grpc_port), 15) as wire:
            wire.sendall(data)
            found = b""
            while part := _received(wire):
                found += part
        yield f"HTTP/2: {name}", "GOAWAY" if b"\x07\0\0\0\0\0" in found else "closed", True


def _received(wire: socket.socket) -> bytes:
    """What comes until the server closes; being left open for so long raises."""
    try:
        return wire.recv(65_536)
    except ConnectionError:
        return b""


def _messages(model: str) -> Mapping[str, bytes]:
    from edgeport.runtimes.serve.rpc import messages

    def request(raw: Any = (bytes(256),), **changes: Any) -> bytes:
        data: bytes = messages.ModelInferRequest(
            model_name=model, inputs=[{**_RAW, **changes}], raw_input_contents=raw
        ).SerializeToString()
        return data

    return {
        "nothing": b"",
        "noise": b"\xff" * 100,
        "cut off": request()[:-3],
        "another model": request().replace(model.encode(), b"?" * len(model)),
        "too few bytes": request([bytes(255)]),
        "too many bytes": request([bytes(257)]),
        "no bytes": request([]),
        "bytes for two": request([bytes(256), bytes(256)]),
        "raw and typed": request(contents={"fp32_contents": [0.5] * 64}),
        "typed in another field": request([], contents={"fp64_contents": [0.5] * 64}),
        "a negative size": request(shape=[-1, 64]),
        "a huge size": request(shape=[10**12, 64]),
        "another rank": request(shape=[64]),
        "40 axes": request(shape=[1] * 40),
        "another datatype": request([bytes(512)], datatype="FP64"),
        "an unknown datatype": request(datatype="FLOAT"),
        "another name": request(name="y"),
        "shared memory": request(parameters={"shared_memory_region": {"string_param": "r"}}),
    }
