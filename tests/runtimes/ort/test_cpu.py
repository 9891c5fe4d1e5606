import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.runtimes import (
    ContractError,
    EngineError,
    FormatError,
    InputError,
    Options,
    Range,
    Signature,
    TensorSpec,
)
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.ort.cpu import OrtSession, open, probe
from edgeport.runtimes.signature import METADATA_KEY
from edgeport.runtimes.structure import Node

ONE = Options(threads=1)


def model(
    nodes: onnx.NodeProto | Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, int, Sequence[Any] | None]],
    outputs: Sequence[tuple[str, int, Sequence[Any] | None]],
    *,
    weights: Sequence[onnx.TensorProto] = (),
    metadata: str | None = None,
) -> bytes:
    graph = helper.make_graph(
        [nodes] if isinstance(nodes, onnx.NodeProto) else nodes,
        "g",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        list(weights),
    )
    opset = helper.make_opsetid("", 20)
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    if metadata is not None:
        helper.set_model_props(made, {METADATA_KEY: metadata})
    data: bytes = made.SerializeToString()
    return data


def absolute(
    dtype: int = TensorProto.FLOAT,
    shape: Sequence[Any] | None = ("batch", 2),
    metadata: str | None = None,
) -> bytes:
    node = helper.make_node("Abs", ["x"], ["y"])
    return model(node, [("x", dtype, shape)], [("y", dtype, shape)], metadata=metadata)


def absolute_at(path: Path, metadata: str | None = None) -> Path:
    path.write_bytes(absolute(metadata=metadata))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.onnx"


def test_it_computes_what_the_model_computes(
    packed: Path, samples: tuple[Golden, ...], signature: Signature
) -> None:
    with open(packed / "model.onnx", ONE) as session:
        assert session.signature == signature
        for sample in samples:
            answer = session.run(sample.inputs)
            assert list(answer) == ["logits", "label"]
            np.testing.assert_allclose(answer["logits"], sample.oracle["logits"], rtol=1e-5)
            np.testing.assert_array_equal(answer["label"], sample.eager["label"], strict=True)


def test_what_is_in_use_is_read_back(packed: Path) -> None:
    session = open(packed / "model.onnx", Options(threads=3))
    assert session.engine.threads == 3
    assert session.engine.version == onnxruntime.__version__
    assert (session.engine.provider, session.engine.device) == ("CPUExecutionProvider", "cpu")
    assert (session.engine.backend, session.engine.precision) == ("ort-cpu", "float32")


_THREADS = """
import sys
from pathlib import Path
from edgeport.runtimes.ort.cpu import open, Options
count = lambda: len(list(Path("/proc/self/task").iterdir()))
before = count()
session = open(Path(sys.argv[1]), Options(threads=int(sys.argv[2])))
print(count() - before + 1, session.engine.threads)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
@pytest.mark.parametrize("threads", [1, 3])
def test_the_process_has_the_threads_that_were_asked_for(packed: Path, threads: int) -> None:
    command = [sys.executable, "-c", _THREADS, str(packed / "model.onnx"), str(threads)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out == f"{threads} {threads}\n"


def test_a_session_is_shared_between_threads(packed: Path, samples: tuple[Golden, ...]) -> None:
    session = open(packed / "model.onnx", ONE)
    expected = [session.run(sample.inputs)["logits"] for sample in samples]

    def ask(number: int) -> bool:
        index = number % len(samples)
        return np.array_equal(session.run(samples[index].inputs)["logits"], expected[index])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(400)))


def test_another_signature_than_the_one_asked_for(packed: Path, signature: Signature) -> None:
    asked = Signature(signature.inputs, signature.outputs, {"batch": Range(1, 8)})
    assert open(packed / "model.onnx", Options(1, signature)).signature == signature
    with pytest.raises(
        ContractError, match=r"model\.onnx declares .*\n  but .*1\.\.8 was asked for"
    ):
        open(packed / "model.onnx", Options(1, asked))


def test_a_file_without_our_signature_has_its_graphs(path: Path) -> None:
    path.write_bytes(absolute(shape=("batch", None, 2)))
    (spec,) = open(path, ONE).signature.inputs
    assert spec == TensorSpec("x", "float32", ("batch", "x_1", 2))


@pytest.mark.parametrize(
    ("metadata", "kind", "message"),
    [
        ("{", FormatError, r"m\.onnx: not a signature: Expecting"),
        ("[]", FormatError, r"m\.onnx: not a signature: a value is \[\], expected an object"),
        (
            json.dumps(Signature((TensorSpec("x", "float32", ("batch", 3)),), ()).to_json()),
            ContractError,
            r"m\.onnx declares x: float32\[batch, 3\]\n  but its graph has x: .*\[batch, 2\]\n",
        ),
    ],
)
def test_a_signature_that_is_not_the_graphs(
    path: Path, metadata: str, kind: type[Exception], message: str
) -> None:
    path.write_bytes(absolute(metadata=metadata))
    with pytest.raises(kind, match=message):
        open(path, ONE)


def test_what_the_graph_does_not_say_is_the_declarations(path: Path) -> None:
    graph = open(absolute_at(path), ONE).signature
    nested: Node = {"dict": [["scores", {"output": "y"}]]}
    declared = Signature(graph.inputs, graph.outputs, {"batch": Range(1, 8)}, nested)
    session = open(absolute_at(path, metadata=json.dumps(declared.to_json())), ONE)
    assert session.signature == declared
    x = np.array([[-1, 2]], np.float32)
    rebuilt = session.signature.rebuild(session.run({"x": x}))
    np.testing.assert_equal(rebuilt, {"scores": np.abs(x)})
    with pytest.raises(
        ContractError, match=r"as {'scores': y} where .*\n  but .* y: \S+ 2\] where"
    ):
        open(path, Options(1, Signature(graph.inputs, graph.outputs, {"batch": Range(1, 8)})))


def test_the_graph_runs_as_it_was_written_if_that_is_asked_for(path: Path) -> None:
    path.write_bytes(absolute(shape=["n"]))
    levels = onnxruntime.GraphOptimizationLevel
    for optimize, level in ((True, levels.ORT_ENABLE_ALL), (False, levels.ORT_DISABLE_ALL)):
        session = open(path, Options(threads=1, optimize=optimize))
        assert session._session.get_session_options().graph_optimization_level == level


def test_no_optimiser_hides_a_dropout_in_training_mode(path: Path) -> None:
    # ONNX Runtime 1.31 deletes one that stands between two nodes: the answer looks right
    weights = [
        numpy_helper.from_array(np.array(0.5, np.float32), "ratio"),
        numpy_helper.from_array(np.array(True), "training"),
    ]
    nodes = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("Dropout", ["a", "ratio", "training"], ["d"], seed=1),
        helper.make_node("Abs", ["d"], ["y"]),
    ]
    x, y = ("x", TensorProto.FLOAT, ["n"]), ("y", TensorProto.FLOAT, ["n"])
    path.write_bytes(model(nodes, [x], [y], weights=weights))
    session = open(path, Options(threads=1, optimize=False))
    assert 0 in session.run({"x": np.ones(1000, np.float32)})["y"]


@pytest.mark.parametrize("data", [b"", b"junk", b"\x08\x0a" * 50, None])
def test_a_damaged_file(path: Path, data: bytes | None, mlp_onnx: bytes) -> None:
    path.write_bytes(mlp_onnx[: len(mlp_onnx) // 2] if data is None else data)
    with pytest.raises(
        EngineError,
        match=r"ONNX Runtime cannot open .*m\.onnx: \[ONNXRuntimeError\].*\n  fix: check",
    ):
        open(path, ONE)


def test_a_type_that_cannot_be_passed(path: Path) -> None:
    node = helper.make_node("StringNormalizer", ["x"], ["y"])
    path.write_bytes(
        model(node, [("x", TensorProto.STRING, [2])], [("y", TensorProto.STRING, [2])])
    )
    with pytest.raises(
        EngineError,
        match=r"m\.onnx: 'x' is a tensor\(string\), which edgeport cannot pass\n  fix: open",
    ):
        open(path, ONE)


@pytest.mark.parametrize("dtype", ["int8", "uint64", "float16", "float64", "bool", "int64"])
def test_other_dtypes_pass(path: Path, dtype: str) -> None:
    onnx_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node("Identity", ["x"], ["y"])
    path.write_bytes(model(node, [("x", onnx_type, [None])], [("y", onnx_type, [None])]))
    session = open(path, ONE)
    assert session.engine.precision == (dtype if "float" in dtype else "integer")
    given = np.array([0, 1, 1], dtype)
    np.testing.assert_array_equal(session.run({"x": given})["y"], given, strict=True)


def test_a_scalar_and_an_empty_output_are_arrays(path: Path) -> None:
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    path.write_bytes(model(node, [("x", TensorProto.FLOAT, ["n"])], [("y", TensorProto.FLOAT, [])]))
    answer = open(path, ONE).run({"x": np.ones(3, np.float32)})["y"]
    assert isinstance(answer, np.ndarray)
    assert answer.shape == ()
    path.write_bytes(absolute(shape=["n"]))
    ranged = Signature(
        (TensorSpec("x", "float32", ("n",)),),
        (TensorSpec("y", "float32", ("n",)),),
        {"n": Range(0)},
    )
    path.write_bytes(absolute(shape=["n"], metadata=json.dumps(ranged.to_json())))
    assert open(path, ONE).run({"x": np.ones(0, np.float32)})["y"].shape == (0,)


def test_an_input_that_does_not_fit(packed: Path) -> None:
    with (
        open(packed / "model.onnx", ONE) as session,
        pytest.raises(InputError, match="'x' is float"),
    ):
        session.run({"x": np.zeros((1, 8))})


def test_a_failure_while_it_runs_is_told_once(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    shape = numpy_helper.from_array(np.array([2, 3]), "shape")
    x, y = ("x", TensorProto.FLOAT, ["n"]), ("y", TensorProto.FLOAT, [2, 3])
    path.write_bytes(model(node, [x], [y], weights=[shape]))
    session = open(path, ONE)
    with pytest.raises(
        EngineError,
        match=r"ONNX Runtime failed: \[ONNXRuntimeError\].*Reshape.*\n  fix: edgeport v",
    ) as caught:
        session.run({"x": np.zeros(5, np.float32)})
    assert caught.value.__cause__ is not None
    assert capfd.readouterr() == ("", "")
    assert session.run({"x": np.zeros(6, np.float32)})["y"].shape == (2, 3)


def test_a_closed_session(packed: Path) -> None:
    session = open(packed / "model.onnx", ONE)
    session.close()
    session.close()
    with pytest.raises(EngineError, match=r"^the session is closed\n  fix: open it again$"):
        session.run({"x": np.zeros((1, 8), np.float32)})
    call = session.engine_call({"x": np.zeros((1, 8), np.float32)})
    with pytest.raises(EngineError, match="the session is closed"), call:
        pass
    assert isinstance(session, OrtSession)


def test_it_is_usable_here() -> None:
    assert probe().usable
    assert probe().version == onnxruntime.__version__


_FREED_IS_USED_AGAIN = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""By itself glibc does so or not by the layout of the heap: of large buffers, in either way."""


def pages_of(opening: str, path: Path) -> tuple[int, int]:
    """Faults while a model is opened, and how many kB are resident behind it."""
    code = f"""
import resource, sys
from pathlib import Path
import onnxruntime
from edgeport.runtimes import Options
from edgeport.runtimes.ort.cpu import open
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
path, before = sys.argv[1], resource.getrusage(resource.RUSAGE_SELF).ru_minflt
session = {opening}
fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, fields["VmRSS"].split()[0])
"""
    command = [sys.executable, "-c", code, str(path)]
    env = {**os.environ, **_FREED_IS_USED_AGAIN}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    faults, resident = done.stdout.split()
    return int(faults), int(resident)


def test_opening_takes_fewer_pages_than_onnx_runtime_and_closing_keeps_none(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(256, 256, 3, 3)).astype(np.float32)
    layers = [
        helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1])
        for i in range(8)
    ]
    shape = (1, 256, 4, 4)
    path = tmp_path / "m.onnx"
    path.write_bytes(
        model(
            layers,
            [("x0", TensorProto.FLOAT, shape)],
            [("x8", TensorProto.FLOAT, shape)],
            weights=[numpy_helper.from_array(values + i, f"w{i}") for i in range(8)],
        )
    )
    provider = 'providers=["CPUExecutionProvider"]'
    faults, resident = pages_of(f"onnxruntime.InferenceSession(path, options, {provider})", path)
    opening, weights = "open(Path(path), Options(threads=1))", 8 * values.nbytes // 1024
    ours, kept = pages_of(opening, path)
    assert ours < 0.9 * faults
    assert kept < resident - weights
    assert pages_of(f"{opening}.close()", path)[1] < kept - 0.8 * weights
