"""Bundles that an attacker, or a broken disk, would send: made from a good one, one by one.

Every case is a function that turns a good bundle of its own into a bad one. ``PAYLOAD`` writes a
file next to the bundle; a case that manages to run it has won.
"""

import hashlib
import io
import itertools
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from safetensors.numpy import load, save

from edgeport.runtimes import Range, Signature, TensorSpec
from edgeport.runtimes.bundles.packing import pack
from edgeport.runtimes.signature import METADATA_KEY

PWNED = "pwned"
"""The file that a payload writes into the working folder."""

SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("batch", 8)),),
    (TensorSpec("logits", "float32", ("batch", 3)), TensorSpec("label", "int64", ("batch",))),
    {"batch": Range(1, 64)},
)
"""Of the bundle that is damaged: an engine's file that declares it is run."""

INSPECT = ("inspect",)

Damage = Callable[[Path], Path | None]


@dataclass(frozen=True)
class Case:
    """One bad bundle.

    Attributes:
        damage: Changes the bundle at a path, in place; may return another path to open.
        blind: Commands that do not look at what is bad, and may find nothing.
        backend: The one that meets it.
    """

    name: str
    damage: Damage
    blind: tuple[str, ...] = ()
    backend: str = "ort-cpu"


def cases() -> list[Case]:
    """All that a bundle with an ONNX artefact and golden samples can be made into."""
    return [*_manifests(), *_files(), *_zips(), *_goldens(), *_models()]


def torch_cases() -> list[Case]:
    """Those of a bundle that holds TorchScript and ``.pt2`` too."""
    return [*_torchscripts(), *_programs()]


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = path / "manifest.json"
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def replace_artefact(path: Path, format_: str, data: bytes) -> None:
    """Put other bytes there, with the hash that belongs to them."""

    def change(manifest: dict[str, Any]) -> None:
        for entry in (*manifest["artefacts"], {**manifest["golden"], "format": "golden"}):
            if entry["format"] == format_:
                (path / entry["file"]).write_bytes(data)
                digest = hashlib.sha256(data).hexdigest()
                found = manifest["golden"] if format_ == "golden" else entry
                found.update(sha256=digest, size_bytes=len(data))

    edit(path, change)


def artefact_bytes(path: Path, format_: str) -> bytes:
    """What the manifest calls the artefact of a format."""
    manifest = json.loads((path / "manifest.json").read_text())
    entries = [*manifest["artefacts"], {**manifest["golden"], "format": "golden"}]
    file: str = next(entry["file"] for entry in entries if entry["format"] == format_)
    return (path / file).read_bytes()


def zip_member(data: bytes, end: str) -> bytes:
    """The first member of a zip file whose name ends so."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith(end)))


def _flipped(data: bytes, place: int, bit: int) -> bytes:
    place %= len(data)
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


# ---- the manifest


def _manifests() -> Iterator[Case]:
    def text(change: Callable[[bytes], bytes]) -> Damage:
        def damage(path: Path) -> None:
            file = path / "manifest.json"
            file.write_bytes(change(file.read_bytes()))

        return damage

    for share in range(30):
        cut = partial(lambda share, data: data[: len(data) * share // 31], share)
        yield Case(f"manifest cut at {share}/31", text(cut))
    for share in range(20):  # the highest bit: no UTF-8 any more
        flip = partial(lambda share, data: _flipped(data, len(data) * share // 20, 7), share)
        yield Case(f"manifest flipped at {share}/20", text(flip))
    whole: dict[str, bytes] = {
        "nothing": b"",
        "zeros": bytes(1000),
        "a list": b"[]",
        "deep lists": b"[" * 100_000,
        "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "a pickle": pickle.dumps({"schema_version": 2}),
        "another zip": b"PK\3\4" + bytes(100),
        "17 MB": b" " * (17 * 2**20),
        "UTF-16": '{"schema_version": 2}'.encode("utf-16"),
        "elf": b"\x7fELF" + bytes(200),
    }
    for name, data in whole.items():
        yield Case(f"manifest is {name}", text(partial(lambda data, _: data, data)))
    for old, new in (
        (b'"max_ratio": 8.0', b'"max_ratio": NaN'),
        (b'"max_ratio": 8.0', b'"max_ratio": 1e999'),
        (b'"max_ratio": 8.0', b'"max_ratio": ' + b"9" * 5000),
        (b'"name"', b'"producer"'),
        (b'"schema_version": 2', b'"schema_version": 4'),
        (b'"schema_version": 2', b'"schema_version": 99999999999999999999'),
        (b'"schema_version": 2', b'"schema_version": -1'),
        (b'"schema_version": 2', b'"schema_version": 2.0'),
        (b'"mlp', b'"\\u001b[2J'),
        (b'"mlp', b'"\\ud800'),
    ):
        swap = partial(lambda old, new, data: data.replace(old, new, 1), old, new)
        yield Case(f"manifest {old.decode()} -> {new[:30]!r}", text(swap))
    for name in (
        *("../x", "/etc/passwd", "a/../../x", "C:\\x", "\\\\host\\x", ".hidden", "a//b", ""),
        *("a\0b", "file:///etc/passwd", "~/x", "x" * 300, "manifest.json", "manifest.sig", "é"),
    ):
        for place in ("artefact", "golden"):
            yield Case(f"{place} is named {name[:20]!r}", partial(_rename, place, name))
    values: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
        ("no artefacts", lambda m: m.update(artefacts=[])),
        ("no golden", lambda m: m.pop("golden")),
        ("no samples", lambda m: m["golden"].update(samples=[])),
        ("more samples", lambda m: m["golden"]["samples"].append(m["golden"]["samples"][0])),
        ("a million samples", lambda m: m["golden"].update(samples=[{}] * 1_000_000)),
        ("a format", lambda m: m["artefacts"][0].update(format="pickle")),
        ("twice a format", lambda m: m["artefacts"].append(m["artefacts"][0])),
        ("other dtype", lambda m: m["signature"]["inputs"][0].update(dtype="float64")),
        ("no dtype", lambda m: m["signature"]["inputs"][0].update(dtype="object")),
        ("huge shape", lambda m: m["signature"]["inputs"][0].update(shape=[2**31 - 1] * 8)),
        ("larger shape", lambda m: m["signature"]["inputs"][0].update(shape=[2**63])),
        ("negative shape", lambda m: m["signature"]["inputs"][0].update(shape=[-1])),
        ("other input", lambda m: m["signature"]["inputs"][0].update(name="y")),
        ("escape", lambda m: m["signature"]["inputs"][0].update(name="\x1b]0;x\x07")),
        ("no inputs", lambda m: m["signature"].update(inputs=[])),
        ("other outputs", lambda m: m["signature"]["outputs"].reverse()),
        ("deep structure", lambda m: m["signature"].update(structure=_nested(100))),
        ("size of 2^60", lambda m: m["artefacts"][0].update(size_bytes=2**60)),
        ("golden of 2^60", lambda m: m["golden"].update(size_bytes=2**60)),
        ("size of -1", lambda m: m["artefacts"][0].update(size_bytes=-1)),
        ("hash of capitals", lambda m: m["artefacts"][0].update(sha256="A" * 64)),
        ("another hash", lambda m: m["artefacts"][0].update(sha256="0" * 64)),
        ("ratio of 0", lambda m: m["thresholds"].update(max_ratio=0)),
        ("ratio of 1e300", lambda m: m["thresholds"].update(max_ratio=1e300)),
        ("evidence", lambda m: m.update(evidence={"parity": m["golden"] | {"file": "gone"}})),
        ("evidence of 1", lambda m: m.update(evidence=1)),
    ]
    for name, change in values:
        unseen = ("other", "huge shape", "no samples", "more samples", "no inputs")
        blind: tuple[str, ...] = INSPECT if name.startswith(unseen) else ()
        blind = ("bench", "serve") if name == "evidence" else blind  # they read no reports
        yield Case(f"manifest has {name}", partial(_edited, change), blind)


def _nested(depth: int) -> dict[str, Any]:
    return {"output": "logits"} if depth == 0 else {"list": [_nested(depth - 1)]}


def _edited(change: Callable[[dict[str, Any]], object], path: Path) -> None:
    edit(path, change)


def _holes(place: Path) -> None:
    place.touch()
    os.truncate(place, 2**40)


def _rename(place: str, name: str, path: Path) -> None:
    def change(m: dict[str, Any]) -> None:
        (m["golden"] if place == "golden" else m["artefacts"][0]).update(file=name)

    edit(path, change)


# ---- files that are not those of the manifest


def _files() -> Iterator[Case]:
    for file in ("model.onnx", "golden.safetensors"):
        for share in range(10):

            def flip(path: Path, file: str = file, share: int = share) -> None:
                data = (path / file).read_bytes()
                (path / file).write_bytes(_flipped(data, len(data) * share // 10, share % 8))

            def cut(path: Path, file: str = file, share: int = share) -> None:
                os.truncate(path / file, (path / file).stat().st_size * share // 10)

            yield Case(f"{file} flipped at {share}/10", flip)
            yield Case(f"{file} cut at {share}/10", cut)
        puts: dict[str, Callable[[Path], object]] = {
            "missing": lambda place: None,
            "a folder": lambda place: place.mkdir(),
            "a pipe": os.mkfifo,
            "a link to itself": lambda place: place.symlink_to(place.name),
            "a link to nothing": lambda place: place.symlink_to("nothing"),
            "a link out": lambda place: place.symlink_to("/etc/passwd"),
            "a link to zeros": lambda place: place.symlink_to("/dev/zero"),
            "a terabyte of holes": _holes,
        }
        for name, put in puts.items():

            def change(path: Path, file: str = file, put: Callable[[Path], object] = put) -> None:
                (path / file).unlink()
                put(path / file)

            yield Case(f"{file} is {name}", change)


# ---- zip files


def _zips() -> Iterator[Case]:
    def zipped(change: Callable[[bytes], bytes]) -> Damage:
        def damage(path: Path) -> Path:
            file = path.with_name("one.edge")
            pack(path, file, zipped=True)
            file.write_bytes(change(file.read_bytes()))
            return file

        return damage

    for share in range(25):
        cut = partial(lambda share, data: data[: len(data) * share // 25], share)
        yield Case(f"zip cut at {share}/25", zipped(cut))
    for place in range(22):  # of the end record
        if place not in (20, 21):
            flip = partial(lambda place, data: _flipped(data, len(data) - 22 + place, 0), place)
            yield Case(f"zip end flipped at {place}", zipped(flip))
    for place in (0, 8, 10, 20, 24, 28, 30, 42, 46):  # of the first directory entry
        flip = partial(lambda place, data: _flipped(data, data.index(b"PK\1\2") + place, 0), place)
        yield Case(f"zip directory flipped at {place}", zipped(flip))
    for place in (0, 8, 26, 28, 30):  # of the first header
        yield Case(
            f"zip header flipped at {place}",
            zipped(partial(lambda place, data: _flipped(data, place, 0), place)),
        )
    yield Case("zip with text behind", zipped(lambda data: data + b"x"))
    yield Case("zip with text before", zipped(lambda data: b"#!/bin/sh\n" + data))
    yield Case("zip of nothing", zipped(lambda _: b"PK\5\6" + bytes(18)))
    yield Case("no zip but an image", zipped(lambda _: b"\x89PNG\r\n\x1a\n" + bytes(500)))
    yield Case("no zip but a pickle", zipped(lambda _: pickle.dumps([1] * 1000)))
    yield Case("no zip but a gzip", zipped(lambda _: b"\x1f\x8b" + zlib.compress(bytes(10**6))))
    tricks: dict[str, Callable[[zipfile.ZipFile], object]] = {
        "a parent path": lambda z: z.writestr("../pwned", "x"),
        "an absolute path": lambda z: z.writestr("/tmp/pwned", "x"),
        "a backslash": lambda z: z.writestr(_named("..\\pwned"), "x"),
        "a hidden name": lambda z: z.writestr(".bashrc", "x"),
        "a folder": lambda z: z.writestr("folder/", ""),
        "a link": lambda z: z.writestr(_named("link", 0o120777), "/etc/passwd"),
        "a device": lambda z: z.writestr(_named("device", 0o060600), ""),
        "a bomb": lambda z: z.writestr("bomb", bytes(10**8), zipfile.ZIP_DEFLATED),
        "bzip2": lambda z: z.writestr("bz", bytes(1000), zipfile.ZIP_BZIP2),
        "lzma": lambda z: z.writestr("lz", bytes(1000), zipfile.ZIP_LZMA),
        "2,000 members": _many,
        "a comment": lambda z: setattr(z, "comment", b"hello"),
        "a name that is no ASCII": lambda z: z.writestr("naïve", "x"),
        "a new line": lambda z: z.writestr("a\nb", "x"),
    }
    for name, trick in tricks.items():
        yield Case(f"zip with {name}", partial(_tricked, trick))
    for name, again in {"a manifest": "manifest.json", "a model": "model.onnx"}.items():
        yield Case(f"zip with twice {name}", partial(_twice, again))
    yield Case("zip that is encrypted", partial(_patched, 8, b"\1\0"))
    yield Case("zip of a size that lies", partial(_patched, 24, struct.pack("<L", 2**31)))
    yield Case("zip of sizes that lie", partial(_patched, 20, struct.pack("<2L", 2**31, 2**31)))
    yield Case("zip of an offset that lies", partial(_patched, 42, struct.pack("<L", 2**31)))
    yield Case("zip whose members overlap", _overlapping)
    yield Case("zip without a manifest", partial(_without, "manifest.json"))
    yield Case("zip without a model", partial(_without, "model.onnx"))
    yield Case("zip without samples", partial(_without, "golden.safetensors"))


def _many(archive: zipfile.ZipFile) -> None:
    for number in range(2000):
        archive.writestr(f"m{number}", "")


def _named(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("x")
    member.filename, member.external_attr = name, mode << 16
    return member


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of these members."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return made.getvalue()


def moments(folder: Path) -> dict[str, int]:
    """When every file below a folder was written last: equal if nobody touched one."""
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def contents(path: Path) -> dict[str, bytes]:
    """Of every file in a folder, by name."""
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def _tricked(trick: Callable[[zipfile.ZipFile], object], path: Path) -> Path:
    file = path.with_name("one.edge")
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in contents(path).items():
            archive.writestr(name, data)
        trick(archive)
    return file


def _twice(name: str, path: Path) -> Path:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _tricked(lambda archive: archive.writestr(name, "{}"), path)


def _without(name: str, path: Path) -> Path:
    (path / name).unlink()
    return _tricked(lambda _: None, path)


def _patched(place: int, new: bytes, path: Path) -> Path:
    file = _tricked(lambda _: None, path)
    data = file.read_bytes()
    entry = data.index(b"PK\1\2") + place
    file.write_bytes(data[:entry] + new + data[entry + len(new) :])
    return file


def _overlapping(path: Path) -> Path:
    """Two entries of the directory lead to one member, as in zip bombs without recursion."""
    file = _tricked(lambda archive: archive.writestr("model.onny", "x"), path)
    data = bytearray(file.read_bytes())
    entries = [i for i in range(len(data)) if data[i : i + 4] == b"PK\1\2"]
    first, last = entries[0], entries[-1]
    data[last + 42 : last + 46] = data[first + 42 : first + 46]
    file.write_bytes(bytes(data))
    return file


# ---- golden samples that fit their hash


def _goldens() -> Iterator[Case]:
    def golden(change: Callable[[bytes], bytes]) -> Damage:
        return lambda path: replace_artefact(path, "golden", change(artefact_bytes(path, "golden")))

    for share in range(15):
        cut = partial(lambda share, data: data[: len(data) * share // 15], share)
        yield Case(f"golden cut at {share}/15, hashed", golden(cut), blind=INSPECT)
    for number in (0, 7, 2**31, 2**63, 2**64 - 1):
        header = struct.pack("<Q", number)
        change = partial(lambda header, data: header + data[8:], header)
        yield Case(f"golden with a header of {number}", golden(change), blind=INSPECT)
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    headers: dict[str, Any] = {
        "overlap": {"0/input/x": entry, "0/eager/logits": entry},
        "a hole": {"0/input/x": {**entry, "data_offsets": [4, 12]}},
        "a huge shape": {"0/input/x": {**entry, "shape": [2**31 - 1] * 3}},
        "many axes": {"0/input/x": {**entry, "shape": [1] * 65}},
        "a negative size": {"0/input/x": {**entry, "shape": [-2]}},
        "an unknown dtype": {"0/input/x": {**entry, "dtype": "F8"}},
        "an object": {"0/input/x": {**entry, "dtype": "O"}},
        "no offsets": {"0/input/x": {**entry, "data_offsets": []}},
        "a list": [],
    }
    for name, value in headers.items():
        text = json.dumps(value).encode()
        data = struct.pack("<Q", len(text)) + text + bytes(8)
        yield Case(f"golden with {name}", golden(partial(lambda d, _: d, data)), blind=INSPECT)
    yield Case("golden is a pickle", golden(lambda _: _bomb()), blind=INSPECT)
    tensors: dict[str, Callable[[dict[str, Any]], object]] = {
        "no samples": lambda t: t.clear(),
        "no input": lambda t: t.pop("0/input/x"),
        "no output": lambda t: t.pop("1/eager/logits"),
        "another name": lambda t: t.update({"0/input/é": t["0/input/x"]}),
        "a path": lambda t: t.update({"0/input/../x": t["0/input/x"]}),
        "another sample": lambda t: t.update({"999999999/input/x": t["0/input/x"]}),
        "another shape": lambda t: t.update({"0/input/x": np.zeros((1, 9), np.float32)}),
        "another rank": lambda t: t.update({"0/input/x": np.zeros(8, np.float32)}),
        "another dtype": lambda t: t.update({"0/input/x": np.zeros((1, 8), np.int64)}),
        "too many rows": lambda t: t.update({"0/input/x": np.zeros((65, 8), np.float32)}),
        "another oracle": lambda t: t.update({"0/oracle/logits": np.zeros((2, 3))}),
        "other answers": lambda t: t.update(
            {f"0/{role}/logits": t[f"0/{role}/logits"] + 1 for role in ("eager", "oracle")}
        ),
        "all zero": lambda t: [t.update({k: np.zeros_like(v)}) for k, v in list(t.items())],
    }
    for name, each in tensors.items():

        def retold(data: bytes, each: Callable[[dict[str, Any]], object] = each) -> bytes:
            found = load(data)
            each(found)
            return save(found)

        later = name in (
            *("too many rows", "other answers", "no output", "another oracle", "all zero"),
        )
        yield Case(
            f"golden with {name}", golden(retold), ("inspect", "bench") if later else INSPECT
        )


class _Payload:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {PWNED}",)


def _bomb() -> bytes:
    return pickle.dumps(_Payload())


# ---- ONNX files that fit their hash


def _models() -> Iterator[Case]:
    def onnx(change: Callable[[bytes], bytes]) -> Damage:
        return lambda path: replace_artefact(path, "onnx", change(artefact_bytes(path, "onnx")))

    for share in range(20):
        cut = partial(lambda share, data: data[: len(data) * share // 20], share)
        yield Case(f"onnx cut at {share}/20, hashed", onnx(cut), blind=INSPECT)
    generator = random.Random(0)  # no secret
    for number in range(30):
        junk = generator.randbytes(generator.randrange(1, 2000))
        yield Case(f"onnx is noise {number}", onnx(partial(lambda j, _: j, junk)), blind=INSPECT)
    for name, data in {
        "a pickle": _bomb(),
        "zeros": bytes(5000),
        "ones": b"\xff" * 5000,
        "text": b"hello" * 100,
        "groups": b"\x0b" * 100_000,
        "a length of 2^63": b"\x3a" + b"\xff" * 8 + b"\x7f",
        "an elf": b"\x7fELF" + bytes(500),
    }.items():
        yield Case(f"onnx is {name}", onnx(partial(lambda d, _: d, data)), blind=INSPECT)
    for name, (build, seen) in _built().items():
        made = partial(lambda build, _: build(), build)
        yield Case(f"onnx with {name}", onnx(made), blind=() if seen else INSPECT)
    for location in (
        *("../outside.data", "/etc/passwd", "absent.data", "golden.safetensors/../x", ""),
        *("*/_ORT_MEM_ADDR_/*", "model.onnx", "~/x", "a" * 5000),
    ):
        build = partial(external, location)
        yield Case(f"onnx reads {location[:24]!r}", onnx(partial(lambda b, _: b(), build)))
    for link in ("hard", "soft"):
        yield Case(f"onnx reads a {link} link", partial(_linked, link))


def _built() -> Mapping[str, tuple[Callable[[], bytes], bool]]:
    """By name: a model, and whether it is refused before an engine sees it."""
    return {
        "functions that unfold for ever": (lambda: functions(30, recursive=False), True),
        "functions that unfold to 10^9": (lambda: functions(9, calls=10), True),
        "a function that calls itself": (lambda: functions(3, recursive=True), True),
        "40 graphs in one another": (lambda: deep(40), True),
        "20 graphs in one another": (lambda: deep(20), False),
        "an initialiser of 2^60": (lambda: _initialiser([2**30, 2**30]), False),
        "an initialiser of -1": (lambda: _initialiser([-1]), False),
        "an output of 2^50": (lambda: node("ConstantOfShape", sizes([2**25, 2**25])), False),
        "an output of 2^40": (lambda: node("ConstantOfShape", sizes([2**20, 2**20])), False),
        "a negative output": (lambda: node("ConstantOfShape", sizes([-5])), False),
        "an unknown operator": (lambda: node("Pwn", sizes([1])), False),
        "an unknown domain": (lambda: node("Pwn", sizes([1]), domain="evil"), False),
        "opset 999": (lambda: node("Identity", sizes([1]), opset=999), False),
        "opset 0": (lambda: node("Identity", sizes([1]), opset=0), False),
        "a loop without end": (endless, False),
        "no graph": (
            lambda: helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString(),
            False,
        ),
        "a cycle": (_cycle, False),
        "another signature": (lambda: node("Identity", sizes([1])), False),
    }


def _model(
    nodes: list[Any], initialisers: list[Any], functions: list[Any] | None = None, opset: int = 20
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
        ],
        initialisers,
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("f", 1)]
    model = helper.make_model(
        graph, opset_imports=imports, functions=functions or [], ir_version=10
    )
    helper.set_model_props(model, {METADATA_KEY: json.dumps(SIGNATURE.to_json())})
    data: bytes = model.SerializeToString()
    return data


def sizes(sizes: list[int]) -> Any:
    return numpy_helper.from_array(np.array(sizes, np.int64), "shape")


def node(kind: str, initialiser: Any, domain: str = "", opset: int = 20) -> bytes:
    nodes = [
        helper.make_node(kind, ["shape"], ["logits"], domain=domain),
        helper.make_node("Identity", ["shape"], ["label"]),
    ]
    return _model(nodes, [initialiser], opset=opset)


def _initialiser(dims: list[int]) -> bytes:
    tensor = TensorProto(name="shape", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"1234")
    return node("Identity", tensor)


def functions(count: int, *, calls: int = 2, recursive: bool = False) -> bytes:
    opset = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    functions = []
    for number in range(count):
        called = f"F{number + 1}" if number + 1 < count else ("F0" if recursive else "")
        names = ["x", *(f"v{i}" for i in range(calls - 1)), "y"]
        nodes = [
            helper.make_node(called or "Relu", [a], [b], domain="f" if called else "")
            for a, b in itertools.pairwise(names)
        ]
        functions.append(helper.make_function("f", f"F{number}", ["x"], ["y"], nodes, opset))
    return _model([helper.make_node("F0", ["x"], ["logits"], domain="f")], [], functions)


def deep(depth: int) -> bytes:
    """Graphs in the attribute of a node of a graph, and so on; written by hand: onnx refuses 34."""

    def field(number: int, content: bytes) -> bytes:
        size, left = b"", len(content)
        while left > 127:
            size, left = size + bytes([left & 127 | 128]), left >> 7
        return bytes([number << 3 | 2]) + size + bytes([left]) + content

    node = field(4, b"Relu")
    for _ in range(depth):
        node = field(4, b"If") + field(5, field(1, b"then_branch") + field(6, field(1, node)))
    return b"\x08\x0a" + field(7, field(1, node)) + field(8, b"\x10\x14")


def endless() -> bytes:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["still"]),
            helper.make_node("Sin", ["value"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 8]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["batch", 8]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["many", "true", "x"], ["end"], body=body),
        helper.make_node("Slice", ["end", "zero", "three", "one"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    constants = {"many": 2**62, "zero": [0], "three": [3], "one": [1]}
    tensors = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in constants.items()]
    tensors.append(numpy_helper.from_array(np.array(True), "true"))
    return _model(nodes, tensors)


def _cycle() -> bytes:
    return _model(
        [helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])], []
    )


def external(location: str, offset: int = 0) -> bytes:
    tensor = numpy_helper.from_array(np.zeros(64, np.float32), "shape")
    set_external_data(tensor, location, offset, 256)
    tensor.ClearField("raw_data")
    return node("Identity", tensor)


def _linked(kind: str, path: Path) -> None:
    """A file that is listed, with its right hash, and lies elsewhere."""
    secret = path.parent / "secret.data"
    secret.write_bytes(bytes(256))
    inside = path / "weights.data"
    (os.link if kind == "hard" else lambda a, b: Path(b).symlink_to(a))(secret, inside)
    replace_artefact(path, "onnx", external("weights.data"))
    digest = hashlib.sha256(secret.read_bytes()).hexdigest()
    stored = {"file": "weights.data", "sha256": digest, "size_bytes": 256}
    edit(path, lambda m: m["artefacts"][0].update(external=[stored]))


# ---- TorchScript and .pt2 files that fit their hash


def _rewritten(
    data: bytes,
    change: Callable[[str, bytes], bytes | None],
    more: Mapping[str, bytes] | None = None,
) -> bytes:
    """A torch archive whose members were changed."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for member in old.infolist():
            content = change(member.filename.partition("/")[2], old.read(member))
            if content is not None:
                new.writestr(member.filename, content)
        for name, content in (more or {}).items():
            new.writestr(f"{root}/{name}", content)
    return made.getvalue()


def _torch(format_: str, change: Callable[[bytes], bytes], path: Path) -> None:
    replace_artefact(path, format_, change(artefact_bytes(path, format_)))


def _torchscripts() -> Iterator[Case]:
    make = partial(Case, backend="libtorch")
    for share in range(8):
        cut = partial(lambda share, data: data[: len(data) * share // 8], share)
        yield make(f"torchscript cut at {share}/8", partial(_torch, "torchscript", cut))
    for number, (line, replaced) in enumerate(
        (
            (b'torch.save(input, "pwned")', None),
            (b'torch .\n      save(input, "pwned")', None),
            (b'f = torch.save\n    f(input, "pwned")', None),
            (b'x = torch.from_file("/etc/passwd", False, 10)', None),
            (b"x = ops.inductor.accumulate_grad_(input, input)", None),
            (b'x = ops.debugprims.load_tensor("a", [1], [1])', None),
        )
    ):
        del replaced
        insert = partial(_with_line, line)
        yield make(f"torchscript with code {number}", partial(_torch, "torchscript", insert))
    whole = {"a pickle": _bomb(), "nothing": b"", "zeros": bytes(9000), "text": b"def forward"}
    for name, data in whole.items():
        yield make(
            f"torchscript is {name}",
            partial(_torch, "torchscript", partial(lambda d, _: d, data)),
        )
    for member in ("data.pkl", "constants.pkl", "version"):
        change = partial(_replace_member, member, _bomb())
        yield make(
            f"torchscript with a pickle as {member}",
            partial(_torch, "torchscript", change),
            blind=INSPECT,
        )
    yield make(
        "torchscript that never ends",
        partial(_torch, "torchscript", partial(_with_line, b"while True:\n      print(1)")),
        blind=INSPECT,
    )


def _with_line(line: bytes, data: bytes) -> bytes:
    def change(name: str, content: bytes) -> bytes:
        if not (name.startswith("code/") and name.endswith(".py")):
            return content
        lines = content.split(b"\n")
        first = next(i for i, each in enumerate(lines) if b"forward" in each)
        end = next(i for i in range(first, len(lines)) if lines[i].rstrip().endswith(b":"))
        return b"\n".join([*lines[: end + 1], b"    " + line, *lines[end + 1 :]])

    return _rewritten(data, change)


def _replace_member(name: str, new: bytes, data: bytes) -> bytes:
    return _rewritten(data, lambda each, content: new if each == name else content)


def json_member(name: str, old: bytes, new: bytes, data: bytes) -> bytes:
    """A torch archive with other bytes in one member."""

    def change(each: str, content: bytes) -> bytes:
        return content.replace(old, new) if each == name else content

    return _rewritten(data, change)


def _programs() -> Iterator[Case]:
    make = partial(Case, backend="torch")
    for share in range(8):
        cut = partial(lambda share, data: data[: len(data) * share // 8], share)
        yield make(f"pt2 cut at {share}/8", partial(_torch, "pt2", cut))
    changes: dict[str, Callable[[bytes], bytes]] = {
        "sample inputs": partial(_replace_member, "data/sample_inputs/model.pt", _bomb()),
        "pickled weights": partial(
            json_member,
            "data/weights/model_weights_config.json",
            b'"use_pickle": false',
            b'"use_pickle": true',
        ),
        "an expression": partial(
            json_member,
            "models/model.json",
            b"Symbol('s",
            b"__import__('os').system('touch pwned') or Symbol('s",
        ),
        "a call": partial(
            json_member, "models/model.json", b"torch.ops.aten.relu.default", b"torch.os.system"
        ),
        "a file operator": partial(
            json_member,
            "models/model.json",
            b"torch.ops.aten.relu.default",
            b"torch.ops.aten.from_file.default",
        ),
        "a library": lambda data: _rewritten(
            data, lambda _, content: content, {"data/aotinductor/model/x.so": b"\x7fELF"}
        ),
        "an object": lambda data: _rewritten(
            data, lambda _, content: content, {"data/constants/custom_obj_0": _bomb()}
        ),
        "an old format": lambda data: _rewritten(
            data, lambda _, content: content, {"serialized_exported_program.json": b"{}"}
        ),
        "no model": lambda data: _rewritten(
            data, lambda name, content: None if name == "models/model.json" else content
        ),
        "deep JSON": partial(_replace_member, "models/model.json", b"[" * 100_000),
        "a bomb": lambda data: _bombed(data),
    }
    for name, change in changes.items():
        yield make(
            f"pt2 with {name}",
            partial(_torch, "pt2", change),
            blind=INSPECT if name == "no model" else (),
        )
    for name, data in {"a pickle": _bomb(), "nothing": b"", "text": b"import os"}.items():
        yield make(f"pt2 is {name}", partial(_torch, "pt2", partial(lambda d, _: d, data)))


def _bombed(data: bytes) -> bytes:
    made = io.BytesIO(_rewritten(data, lambda name, c: None if name == "models/model.json" else c))
    with zipfile.ZipFile(made, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/models/model.json", bytes(2 * 10**8), zipfile.ZIP_DEFLATED, 1)
    return made.getvalue()


def build(case: Case, good: Path, folder: Path) -> Path:
    """Make the bad bundle in a folder, and say what to open."""
    path = Path(shutil.copytree(good, folder / "bad.edge", symlinks=True))
    return case.damage(path) or path
