"""Weights that ONNX Runtime takes from where they lie."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from edgeport.runtimes import EngineError, Options
from edgeport.runtimes.formats.protobuf import header
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.ort.loading import load, settings_of
from edgeport.runtimes.ort.mapped_weights import opened, without_weights

LARGE = 50_000


def model_of(**weights: Array) -> onnx.ModelProto:
    """``y = x`` + the sum of each of its weights."""
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    nodes = [
        helper.make_node("Cast", [name], [f"{name}/f"], to=TensorProto.FLOAT) for name in weights
    ]
    nodes += [helper.make_node("ReduceSum", [f"{n}/f"], [f"{n}/s"], keepdims=0) for n in weights]
    nodes.append(helper.make_node("Sum", ["x", *(f"{name}/s" for name in weights)], ["y"]))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    opset = helper.make_opsetid("", 20)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return model


def ones(dtype: str = "float32", size: int = LARGE) -> Array:
    found: Array = (np.arange(size) % 3 == 0).astype(dtype)
    return found


def answer(model: bytes | str, settings: onnxruntime.SessionOptions | None = None) -> Array:
    session = onnxruntime.InferenceSession(model, settings)
    found: Any = session.run(None, {"x": np.zeros(2, np.float32)})
    return np.asarray(found[0])


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8", "int64", "bool"])
def test_the_session_answers_the_same(dtype: str) -> None:
    model = model_of(a=ones(dtype, 2**18), small=ones(size=30), b=ones())
    data = model.SerializeToString()
    apart = without_weights(data)
    assert apart is not None
    assert len(apart) < 2000
    settings = onnxruntime.SessionOptions()
    settings.add_external_initializers_from_files_in_memory(["weights"], [data], [len(data)])
    np.testing.assert_array_equal(answer(apart, settings), answer(data))


def test_what_is_read_as_it_is() -> None:
    """No large weights; external ones; values in another field; a field of another length."""
    assert without_weights(model_of(a=ones(size=30)).SerializeToString()) is None
    model = model_of(a=ones())
    data = model.SerializeToString()
    (tensor,) = model.graph.initializer
    tensor.external_data.add(key="location", value="w")
    assert without_weights(model.SerializeToString()) is None
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    assert without_weights(model.SerializeToString()) is None
    plain = model_of(a=ones())
    plain.graph.initializer[0].ClearField("raw_data")
    plain.graph.initializer[0].float_data.extend(ones())
    assert without_weights(plain.SerializeToString()) is None
    assert without_weights(data + data) is None
    assert without_weights(b"") is None
    size = LARGE * 4
    short = bytes([0x4A, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
    assert data.count(short) == 1
    longer = short[:-1] + bytes([short[-1] | 0x80, 0])  # the same length in one more byte
    assert without_weights(data.replace(short, longer)) is None


def with_tensor(tensor: bytes) -> bytes:
    """The model of one weight, whose tensor is written by hand."""
    model = model_of(a=ones())
    del model.graph.initializer[:]
    graph: bytes = model.graph.SerializeToString() + header(5, len(tensor)) + tensor
    model.ClearField("graph")
    rest: bytes = model.SerializeToString()
    return rest + header(7, len(graph)) + graph


def test_values_that_protobuf_does_not_see() -> None:
    """In a group that nobody knows, beside other values; in front of an end that is cut off."""
    (tensor,) = model_of(a=ones()).graph.initializer
    raw = header(9, 4 * LARGE) + tensor.raw_data
    tensor.ClearField("raw_data")
    shape = tensor.SerializeToString()
    tensor.float_data.extend(2 * ones())
    assert without_weights(with_tensor(shape + raw)) is not None
    grouped = with_tensor(tensor.SerializeToString() + b"\xa3\x06" + raw + b"\xa4\x06")
    assert answer(grouped)[0] == 2 * ones().sum()
    assert without_weights(grouped) is None
    cut = without_weights(with_tensor(shape + raw + b"\xa2\x06\x10"))
    assert cut is not None
    with pytest.raises(DecodeError):
        onnx.load_from_string(cut)


def test_no_cut_or_changed_byte_ends_the_process() -> None:
    data = model_of(a=ones(), b=ones("int8", 2**17)).SerializeToString()
    for end in range(0, len(data), len(data) // 50):
        without_weights(data[:end])
    generator = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(data)
        changed[int(generator.integers(0, 700))] = int(generator.integers(0, 256))
        without_weights(bytes(changed))


def private(data: bytes) -> Path:
    handle = os.memfd_create("model")
    os.write(handle, data)
    return Path(f"/proc/self/fd/{handle}")


def test_a_private_copy_is_not_read_again(tmp_path: Path) -> None:
    data = model_of(a=ones(size=2**20 + 64)).SerializeToString()
    path = private(data)
    settings = onnxruntime.SessionOptions()
    with opened(path, settings) as model:
        assert isinstance(model, bytes)
    session = load(path, Options(threads=1), settings_of(Options()), "CPUExecutionProvider", {})
    found: Any = session.run(None, {"x": np.zeros(2, np.float32)})
    assert found[0][0] == ones(size=2**20 + 64).sum()
    file = tmp_path / "model.onnx"
    file.write_bytes(data)
    with opened(file, settings) as model:
        assert model == str(file)  # another process may cut it off
    small = private(model_of(a=ones()).SerializeToString())
    with opened(small, settings) as model:
        assert model == str(small)


def test_a_broken_file_is_refused_as_before() -> None:
    data = model_of(a=ones(size=2**20 + 64)).SerializeToString()
    with pytest.raises(EngineError, match="ONNX Runtime cannot open"):
        load(private(data[:-9]), Options(), settings_of(Options()), "CPUExecutionProvider", {})
