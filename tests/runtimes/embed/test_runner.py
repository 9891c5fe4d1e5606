"""A C program that runs a bundle's model: built here, and compared with Python bit for bit."""

import hashlib
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import handmade
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgeport.runtimes import (
    BackendMissingError,
    Bundle,
    EngineError,
    ExistingFileError,
    Options,
    Range,
    Signature,
    StorageError,
    TensorSpec,
    UsageError,
)
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.embed import compiler, runner
from edgeport.runtimes.embed.compiler import compile_c, find_compiler
from edgeport.runtimes.embed.runner import build_runner, source_of
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import DTYPES, METADATA_KEY

LIBRARY = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory, every_dtype: Path) -> Path:
    """For a model with an input and an output of every dtype."""
    path = tmp_path_factory.mktemp("runner") / "run"
    build_runner(Bundle.read(every_dtype), path)
    return path


@pytest.fixture(scope="session")
def every_dtype(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``out/DTYPE`` = ``in "DTYPE"``; a free size, a fixed one, and an output that has no axes."""
    signature = Signature(
        tuple(TensorSpec(f'in "{dtype}"', dtype, ("größe", 3)) for dtype in DTYPES),
        (
            *(TensorSpec(f"out/{dtype}", dtype, ("größe", 3)) for dtype in DTYPES),
            TensorSpec("sum", "float32", ()),
        ),
        {"größe": Range(0, 9)},
    )
    nodes = [
        helper.make_node("Identity", [i.name], [o.name])
        for i, o in zip(signature.inputs, signature.outputs, strict=False)
    ]
    nodes.append(helper.make_node("ReduceSum", ['in "float32"'], ["sum"], keepdims=0))
    sides = [
        [
            helper.make_tensor_value_info(
                s.name, helper.np_dtype_to_tensor_dtype(np.dtype(s.dtype)), s.shape
            )
            for s in specs
        ]
        for specs in (signature.inputs, signature.outputs)
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "every", sides[0], sides[1]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    helper.set_model_props(model, {METADATA_KEY: json.dumps(signature.to_json())})
    inputs = {spec.name: draw(spec.dtype, 4) for spec in signature.inputs}
    answers = {o.name: x for o, x in zip(signature.outputs, inputs.values(), strict=False)}
    answers["sum"] = inputs['in "float32"'].sum()
    golden = Golden("drawn", "random", inputs, answers, {})

    path: Path = tmp_path_factory.mktemp("bundles") / "every.edge"
    handmade.bundle(path, signature, {"onnx": model.SerializeToString()}, [golden])
    return path


def draw(dtype: str, rows: int) -> Array:
    values = np.random.default_rng(rows).integers(0, 2 if dtype == "bool" else 100, (rows, 3))
    array: Array = (values / 7 if "float" in dtype else values).astype(dtype)
    return array


def call(program: Path, model: Path, folder: Path, inputs: Mapping[str, Array]) -> dict[str, Any]:
    arguments = []
    for place, (name, array) in enumerate(inputs.items()):
        np.save(folder / f"{place}.npy", array)
        arguments.append(f"{name}={folder / f'{place}.npy'}")
    done = run(program, model, *arguments, "-o", folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return {file.stem: np.load(file) for file in folder.glob("*.npy") if not file.stem.isdigit()}


def run(program: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [str(program), *map(str, arguments), "--library", str(LIBRARY)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("rows", [0, 1, 9])
def test_every_dtype_and_size_comes_back(
    rows: int, program: Path, every_dtype: Path, tmp_path: Path
) -> None:
    inputs = {f'in "{dtype}"': draw(dtype, rows) for dtype in DTYPES}
    found = call(program, every_dtype / "model.onnx", tmp_path, inputs)
    with Bundle.read(every_dtype).open("ort-cpu", Options(threads=1)) as session:
        expected = session.run(inputs)
    assert len(found) == len(expected) == len(DTYPES) + 1
    for name, answer in expected.items():
        np.testing.assert_array_equal(found[name.replace("/", "_")], answer, strict=True)


def test_an_mlp_answers_what_the_session_answers(packed: Path, tmp_path: Path) -> None:
    program = tmp_path / "run-mlp"
    build_runner(Bundle.read(packed), program)
    with Bundle.read(packed).open("ort-cpu", Options(threads=1)) as session:
        for rows in (1, 5, 64):
            x = np.random.default_rng(rows).normal(size=(rows, 8)).astype(np.float32)
            found = call(program, packed / "model.onnx", tmp_path, {"x": x})
            for name, answer in session.run({"x": x}).items():
                np.testing.assert_array_equal(found[name], answer, strict=True)


def spoiled(name: str, array: Array) -> bytes:
    """An npy file with something wrong in it."""
    import io

    buffer = io.BytesIO()
    np.save(buffer, array)
    data = buffer.getvalue()
    return {
        "cut": data[:-1],
        "longer": data + b"\0",
        "header": data[:20],
        "magic": b"PICKLE" + data[6:],
        "huge": data.replace(b"(1, 3)", b"(9999999999999999999, 3)"),
        "many": data.replace(b"(1, 3)", b"(4294967296, 4294967296, 4294967296)"),
        "minus": data.replace(b"(1, 3)", b"(-1, 3)"),
        "names": data.replace(b"'shape'", b"'size '"),
        "empty": b"",
    }[name]


def test_a_size_that_follows_others(tmp_path: Path) -> None:
    shapes = {"a": ("n", 2), "b": ("m", 2), "c": ("2*n+m-1", 2)}
    specs = tuple(TensorSpec(name, "float32", shape) for name, shape in shapes.items())
    signature = Signature(specs, (TensorSpec("y", "float32", ("2*n+m-1", 2)),))
    sides = [
        [helper.make_tensor_value_info(s.name, TensorProto.FLOAT, s.shape) for s in side]
        for side in (signature.inputs, signature.outputs)
    ]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["y"])], "sum", sides[0], sides[1]
    )
    opset = helper.make_opsetid("", 20)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(signature.to_json())})
    rows = {"a": 3, "b": 1, "c": 6}
    inputs = {name: np.full((count, 2), count, np.float32) for name, count in rows.items()}
    golden = Golden("drawn", "random", inputs, {"y": inputs["c"]}, {})
    path = tmp_path / "sum.edge"
    handmade.bundle(path, signature, {"onnx": model.SerializeToString()}, [golden])
    build_runner(Bundle.read(path), tmp_path / "run")
    answers = call(tmp_path / "run", path / "model.onnx", tmp_path, inputs)
    assert np.array_equal(answers["y"], inputs["c"])
    np.save(tmp_path / "2.npy", inputs["c"][:5])
    files = [f"{name}={tmp_path / f'{place}.npy'}" for place, name in enumerate(inputs)]
    done = run(tmp_path / "run", path / "model.onnx", *files, "-o", tmp_path)
    assert (done.returncode, done.stderr) == (2, "run: 2*n+m-1 is 5, expected 6\n")


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((1, 3)), "holds '<f8', expected '<f4'"),
        (np.zeros((1, 3), ">f4"), "holds '>f4', expected '<f4'"),
        (np.zeros((1, 4), np.float32), 'input "in "float32"": axis 1 is 4, expected 3'),
        (np.zeros((10, 3), np.float32), "axis 0 is 10, expected größe in 0..9"),
        (np.zeros((2, 3), np.float32), 'größe is 1 and, in input "in "float32"", 2'),
        (np.zeros(3, np.float32), "has 1 axes, expected 2"),
        (np.asfortranarray(np.zeros((2, 3), np.float32)), "is in Fortran order"),
        ("cut", "does not hold the 12 bytes that its shape needs"),
        ("longer", "does not hold the 12 bytes that its shape needs"),
        ("header", "is cut short"),
        ("magic", "is not an npy file"),
        ("huge", "has a shape that cannot be read"),
        ("many", "has a shape that is too large"),
        ("minus", "has a shape that cannot be read"),
        ("names", "has no 'shape' in its header"),
        ("empty", "is not an npy file"),
        ("absent", "cannot read"),
    ],
)
def test_wrong_inputs(
    array: Array | str, problem: str, program: Path, every_dtype: Path, tmp_path: Path
) -> None:
    arguments = []
    for place, dtype in enumerate(DTYPES):
        np.save(tmp_path / f"{place}.npy", draw(dtype, 1))
        arguments.append(f'in "{dtype}"={tmp_path / f"{place}.npy"}')
    file = tmp_path / f"{DTYPES.index('float32')}.npy"
    if isinstance(array, str):
        file.unlink()
        if array != "absent":
            file.write_bytes(spoiled(array, draw("float32", 1)))
    else:
        np.save(file, array)
    done = run(program, every_dtype / "model.onnx", *arguments, "-o", tmp_path)
    assert done.returncode == 2
    assert problem in done.stderr
    assert done.stderr.startswith("run: ")
    assert not list(tmp_path.glob("out_*"))


def test_a_header_that_ends_anywhere_is_read_no_further(
    mlp_program: tuple[Path, Path], tmp_path: Path
) -> None:
    program, model = tmp_path / "run", mlp_program[1]
    source = mlp_program[0].with_name("run-mlp.c")
    command = ["cc", "-fsanitize=address,undefined", "-o", str(program), str(source), "-ldl"]
    subprocess.run(command, check=True)
    np.save(tmp_path / "x.npy", np.zeros((1, 8), np.float32))
    header = (tmp_path / "x.npy").read_bytes()[10:].partition(b"}")[0].rstrip(b" ,")
    for length in range(len(header)):
        cut = length.to_bytes(2, "little") + header[:length]
        (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\1\0" + cut)
        done = run(program, model, f"x={tmp_path / 'x.npy'}", "-o", tmp_path)
        assert (done.returncode, "Sanitizer" in done.stderr) == (2, False), done.stderr


def test_a_signal_in_the_middle_of_a_file_leaves_none(
    mlp_program: tuple[Path, Path], tmp_path: Path
) -> None:
    """The kernel sends one to who writes more than it may."""
    program, model = mlp_program
    np.save(tmp_path / "x.npy", np.zeros((40, 8), np.float32))
    arguments = [str(model), f"x={tmp_path / 'x.npy'}", "-o", str(tmp_path / "out")]
    command = f"ulimit -c 0; ulimit -f 0; exec {shlex.join([str(program), *arguments])}"
    done = subprocess.run(
        ["sh", "-c", f"{command} --library {shlex.quote(str(LIBRARY))}"],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGXFSZ
    assert list((tmp_path / "out").iterdir()) == []


def test_two_at_once_write_into_one_folder(mlp_program: tuple[Path, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 8), np.float32))
    program, model = mlp_program
    command = [program, model, f"x={tmp_path / 'x.npy'}", "-o", tmp_path, "--library", LIBRARY]
    words = [str(word) for word in command]
    for _ in range(8):
        running = [subprocess.Popen(words) for _ in range(3)]
        assert [each.wait() for each in running] == [0, 0, 0]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["label.npy", "logits.npy", "x.npy"]


def test_it_tells_what_it_takes_and_gives(mlp_program: tuple[Path, Path]) -> None:
    done = subprocess.run([mlp_program[0], "--help"], capture_output=True, text=True, check=True)
    usage, *specs = done.stdout.splitlines()
    assert usage.startswith("usage: run-mlp MODEL.onnx INPUT=FILE.npy ...")
    assert specs[:2] == ["input x: '<f4', (batch, 8)", "output logits: '<f4', (batch, 3)"]


def test_the_folder_is_made(mlp_program: tuple[Path, Path], tmp_path: Path) -> None:
    program, model = mlp_program
    np.save(tmp_path / "x.npy", np.zeros((1, 8), np.float32))
    for folder in ("a/b//c", "a/b/"):
        done = run(program, model, f"x={tmp_path / 'x.npy'}", "-o", tmp_path / folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / folder / "logits.npy").is_file()


def test_a_size_that_is_no_multiple_of_the_step(every_dtype: Path, tmp_path: Path) -> None:
    bundle = Bundle.read(every_dtype)
    signature = replace(bundle.manifest.signature, ranges={"größe": Range(0, 9, step=4)})
    stepped = replace(bundle, manifest=replace(bundle.manifest, signature=signature))
    build_runner(stepped, tmp_path / "run")
    for rows, code in ((8, 0), (6, 2)):
        arguments = []
        for place, dtype in enumerate(DTYPES):
            np.save(tmp_path / f"{place}.npy", draw(dtype, rows))
            arguments.append(f'in "{dtype}"={tmp_path / f"{place}.npy"}')
        done = run(tmp_path / "run", every_dtype / "model.onnx", *arguments, "-o", tmp_path)
        assert done.returncode == code, done.stderr
    assert "axis 0 is 6, expected größe in steps of 4" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        ([], 2, "usage: run-mlp MODEL.onnx INPUT=FILE.npy ... -o FOLDER"),
        (["{model}", "-o", "."], 2, 'input "x" is missing: pass x=FILE.npy'),
        (["{model}", "x={x}", "-o", ""], 2, "usage: run-mlp MODEL.onnx"),
        (
            ["{model}", "y={x}", "-o", "."],
            2,
            "y={x} is no input of this model: run-mlp --help tells them",
        ),
        (["{model}", "x={x}", "x={x}", "-o", "."], 2, 'input "x" is given twice'),
        (["{model}", "x={x}", "-o"], 2, "-o needs a value"),
        (["{model}", "x={x}", "-o", "{x}"], 2, "cannot write {x}/logits.npy: Not a directory"),
        (["{model}", "x={x}", "-o", "{x}/a"], 2, "cannot write {x}/a: Not a directory"),
        (["{model}", "x={x}", "-o", "/proc/a"], 3, "cannot write /proc/a: No such file"),
        ([".", "x={x}", "-o", "."], 2, "cannot read .: Is a directory"),
        (["{model}", "x={x}", "-o", ".", "--threads", "0"], 2, "expected 1 to 1024"),
        (["{x}", "x={x}", "-o", "."], 1, "is not the file that was packed: its sha256 differs"),
        (["absent", "x={x}", "-o", "."], 2, "cannot read absent"),
        (["{model}", "x={x}", "-o", ".", "--library", "/absent.so"], 3, "fix: pass --library"),
        (["{model}", "x={x}", "-o", ".", "--library", "libc.so.6"], 3, "is not ONNX Runtime"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], code: int, problem: str, mlp_program: tuple[Path, Path], tmp_path: Path
) -> None:
    program, model = mlp_program
    np.save(tmp_path / "x.npy", np.zeros((1, 8), np.float32))
    names = {"{model}": str(model), "{x}": str(tmp_path / "x.npy")}

    def named(text: str) -> str:
        return re.sub(r"\{\w+\}", lambda found: names[found[0]], text)

    command = [str(program), *map(named, arguments)]
    if "--library" not in command and len(command) > 1 and command[-1] != "-o":
        command += ["--library", str(LIBRARY)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert named(problem) in done.stderr


@pytest.fixture(scope="session")
def mlp_program(
    tmp_path_factory: pytest.TempPathFactory, mlp_onnx: bytes, signature: Signature
) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("mlp")
    bundle = handmade.bundle(folder / "mlp.edge", signature, {"onnx": mlp_onnx})
    build_runner(Bundle.read(bundle), folder / "run-mlp")
    return folder / "run-mlp", bundle / "model.onnx"


def test_a_graph_that_does_not_fit_its_manifest_is_told(packed: Path, tmp_path: Path) -> None:
    """The hash is right, so ONNX Runtime's own words are passed on."""
    model = onnx.load(packed / "model.onnx")
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.FLOAT
    data = model.SerializeToString()
    (packed / "model.onnx").write_bytes(data)
    manifest = json.loads((packed / "manifest.json").read_text())
    manifest["artefacts"][0] |= {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
    }
    (packed / "manifest.json").write_text(json.dumps(manifest))
    build_runner(Bundle.read(packed), tmp_path / "run")
    np.save(tmp_path / "x.npy", np.zeros((1, 8), np.float32))
    done = run(tmp_path / "run", packed / "model.onnx", f"x={tmp_path / 'x.npy'}", "-o", tmp_path)
    assert done.returncode == 1
    assert "model.onnx: " in done.stderr
    assert "int64" in done.stderr


def test_the_places_in_the_api_are_those_of_the_header() -> None:
    lines = Path(__file__).with_name("ort_api.txt").read_text().splitlines()
    members = [line for line in lines if not line.startswith("#")]
    text = Path(runner.__file__).with_name("runner.c").read_text()
    used = re.findall(r"\b([A-Z]\w+) = (\d+)", text.split("API_VERSION")[1].split("};")[0])
    assert len(used) == 17
    for name, place in used:
        assert members[int(place)] == name


def test_nothing_is_overwritten(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "run.c").write_text("mine")
    with pytest.raises(ExistingFileError, match=r"run\.c exists already"):
        build_runner(Bundle.read(packed), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_folder_for_temporary_files_is_needed(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    build_runner(Bundle.read(packed), tmp_path / "made" / "run")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["run", "run.c"]


def with_signature(bundle: Path, **changes: Any) -> Bundle:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["signature"] |= changes
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return Bundle.read(bundle)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"inputs": [], "ranges": {}}, "takes no input"),
        (
            {"inputs": [{"name": "x", "dtype": "bool", "shape": [1] * 33}], "ranges": {}},
            "'x' has 33 axes, the program can read 32",
        ),
        (
            {"outputs": [{"name": n, "dtype": "bool", "shape": []} for n in ("a/b", "a_b")]},
            "two outputs would be written to one file: a_b, a_b",
        ),
    ],
)
def test_signatures_that_do_not_fit(changes: dict[str, Any], problem: str, packed: Path) -> None:
    with pytest.raises(UsageError, match=problem):
        source_of(with_signature(packed, **changes), "run")


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiler, "_zig", lambda: None)
    with pytest.raises(BackendMissingError, match="looked for cc, gcc, clang, zig") as caught:
        find_compiler()
    assert caught.value.remedy == "pip install ziglang"
    other = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    with pytest.raises(BackendMissingError, match=f"{other}-linux-gnu-gcc, zig"):
        find_compiler(f"{other}-linux")
    with pytest.raises(UsageError, match="no target is named 'z80'"):
        find_compiler("z80")
    monkeypatch.setenv("CC", "gcc -DNAME='x")
    with pytest.raises(UsageError, match='CC is "gcc -DNAME=\'x": No closing quotation'):
        find_compiler()


def test_the_users_compiler_comes_first_and_its_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "cc -pedantic")
    assert find_compiler() == ["cc", "-pedantic"]
    (tmp_path / "bad.c").write_text("int main(void) { return x; }\n")
    with pytest.raises(EngineError, match=r"cc failed: .*error: .*undeclared"):
        compile_c(tmp_path / "bad.c", tmp_path / "bad")


@pytest.mark.parametrize(
    ("name", "kind", "problem"),
    [
        ("absent-cc -O", BackendMissingError, "the compiler absent-cc cannot be started: No such"),
        ("true", EngineError, "true failed: it made no program"),
        ("false", EngineError, "false failed: it made no program"),
    ],
)
def test_a_compiler_that_is_none_leaves_nothing(
    name: str,
    kind: type[Exception],
    problem: str,
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CC", name)
    with pytest.raises(kind, match=problem):
        build_runner(Bundle.read(packed), tmp_path / "made" / "run")
    assert not (tmp_path / "made").exists()
    monkeypatch.setenv("CC", " ")
    assert find_compiler() != []


def test_a_compiler_without_room_is_told_with_the_place(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", f"sh -c {shlex.quote('cat /dev/zero > /dev/full')}")
    problem = f"cannot write {tmp_path / 'run'}: No space left on device"
    with pytest.raises(StorageError, match=f"^{re.escape(problem)}") as raised:
        build_runner(Bundle.read(packed), tmp_path / "run")
    assert raised.value.remedy == "choose another place, free some space or get permission"
    assert list(tmp_path.glob("**/*run*")) == []


@pytest.mark.slow
def test_zig_builds_for_aarch64(packed: Path, tmp_path: Path) -> None:
    """The program's header says so: ELF, 64 bits, EM_AARCH64 (183)."""
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, "ziglang"], check=True)
    command = [sys.executable, "-m", "edgeport", "build-runner", str(packed)]
    options = ["--target", "aarch64-linux", "-o", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run([*command, *options], env=environment, check=True)
    head = (tmp_path / "run").read_bytes()[:20]
    assert head[:5] == b"\x7fELF\x02"
    assert int.from_bytes(head[18:20], "little") == 183
