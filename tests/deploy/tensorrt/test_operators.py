"""What stands in the place of an operator computes the same, and TensorRT-RTX builds it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from edgeport.deploy.tensorrt.operators import widen_bytes, write_out
from edgeport.runtimes import Range, Signature, TensorSpec
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.tensorrt.building import build
from edgeport.runtimes.tensorrt.library import Library
from edgeport.runtimes.tensorrt.order import Bounds, Built, Order

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'

WRITTEN = {
    "the largest of all": "g (float[N] x) => (int64 y) { y = ArgMax<axis=0, keepdims=0>(x) }",
    "the least, its axis kept": "g (float[N] x) => (int64[1] y) { y = ArgMin<axis=-1>(x) }",
    "sums by index": """g (float[4,3] data, int64[N,3] index, float[N,3] x) => (float[4,3] y) {
        y = ScatterElements<axis=0, reduction="add">(data, index, x) }""",
    "sums by index in rows": """g (float[N,4] data, int64[N,7] index, float[N,7] x)
        => (float[N,4] y) { y = ScatterElements<axis=-1, reduction="add">(data, index, x) }""",
    "sums of one axis": """g (int64[M] data, int64[N] index, int64[N] x) => (int64[M] y) {
        y = ScatterElements<reduction="add">(data, index, x) }""",
    "sums of rows": """g (float[M,2,3] data, int64[N,1] index, float[N,2,3] x)
        => (float[M,2,3] y) { y = ScatterND<reduction="add">(data, index, x) }""",
    "sums of numbers": """g (float[4] data, int64[N,1] index, float[N] x) => (float[4] y) {
        y = ScatterND<reduction="add">(data, index, x) }""",
    "the greatest": """g (float[4] data, int64[N,1] index, float[N] x) => (float[4] y) {
        y = ScatterND<reduction="max">(data, index, x) }""",
    "the least": """g (int64[4] data, int64[N] index, int64[N] x) => (int64[4] y) {
        y = ScatterElements<reduction="min">(data, index, x) }""",
    "products": """g (float[4] data, int64[N] index, float[N] x) => (float[4] y) {
        y = ScatterElements<reduction="mul">(data, index, x) }""",
    "half a spectrum": """g (float[N,10,1] x) => (float[N,6,2] y) <int64 axis={1}> {
        y = DFT<onesided=1>(x, , axis) }""",
    "a spectrum cut off": """g (float[N,10,1] x) => (float[N,8,2] y)
        <int64 n={8}, int64 axis={-2}> { y = DFT(x, n, axis) }""",
    "a spectrum of more": """g (float[N,9,2] x) => (float[N,12,2] y)
        <int64 n={12}, int64 axis={1}> { y = DFT(x, n, axis) }""",
    "complex, back": """g (float[N,9,2] x) => (float[N,9,2] y) <int64 axis={1}> {
        y = DFT<inverse=1>(x, , axis) }""",
    "patches put together": """g (float[N,12,25] x) => (float[N,2,6,7] y)
        <int64[2] image={6,7}, int64[2] block={2,3}> {
        y = Col2Im<strides=[1,1]>(x, image, block) }""",
    "patches with steps": """g (float[N,4,12] x) => (float[N,1,6,9] y)
        <int64[2] image={6,9}, int64[2] block={2,2}> {
        y = Col2Im<strides=[2,2]>(x, image, block) }""",
    "patches with gaps": """g (float[N,9,9] x) => (float[N,1,7,7] y)
        <int64[2] image={7,7}, int64[2] block={3,3}> {
        y = Col2Im<dilations=[2,2]>(x, image, block) }""",
    "bytes": """g (uint8[N,4,5,3] x) => (float[N,3,4,5] y) {
        t = Transpose<perm=[0,3,1,2]>(x)  y = Cast<to=1>(t) }""",
    "bytes that are given back": """g (uint8[N,6] x) => (uint8[N,3] y, int32[N,6] z)
        <int64[1] from={1}, int64[1] to={4}> { y = Slice(x, from, to, from)  z = Cast<to=6>(x) }""",
}

LEFT = {
    "of several axes": "g (float[N,3] x) => (int64[3] y) { y = ArgMax<axis=0, keepdims=0>(x) }",
    "no sum": """g (float[4,3] data, int64[N,3] index, float[N,3] x) => (float[4,3] y) {
        y = ScatterElements<axis=0>(data, index, x) }""",
    "a part": """g (float[4,3] data, int64[N,2] index, float[N,2] x) => (float[4,3] y) {
        y = ScatterElements<axis=0, reduction="add">(data, index, x) }""",
    "rows, no sum": """g (float[4] data, int64[N,1] index, float[N] x) => (float[4] y) {
        y = ScatterND(data, index, x) }""",
    "by two numbers": """g (float[4,3] data, int64[N,2] index, float[N] x) => (float[4,3] y) {
        y = ScatterND<reduction="add">(data, index, x) }""",
    "another axis": """g (float[8,N,1] x) => (float[8,N,2] y) <int64 axis={0}> {
        y = DFT(x, , axis) }""",
    "a free length": """g (float[2,N,1] x) => (float[2,N,2] y) <int64 axis={1}> {
        y = DFT(x, , axis) }""",
    "a computed image": """g (float[N,12,20] x, int64[2] image) => (float[N,2,H,W] y)
        <int64[2] block={2,3}> { y = Col2Im(x, image, block) }""",
    "steps and gaps": """g (float[N,4,12] x) => (float[N,1,6,9] y)
        <int64[2] image={6,9}, int64[2] block={2,2}> {
        y = Col2Im<strides=[2,2], dilations=[1,2]>(x, image, block) }""",
    "bytes that are computed with": """g (uint8[N] x) => (uint8[N] y) { y = Add(x, x) }""",
}


def inputs_of(model: onnx.ModelProto) -> dict[str, Array]:
    generator, made = np.random.default_rng(1), {}
    for value in model.graph.input:
        held = value.type.tensor_type
        shape = [each.dim_value or {"N": 5, "M": 4}[each.dim_param] for each in held.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(held.elem_type)
        numbers = generator.integers(0, 4, shape) if dtype != "f4" else generator.normal(size=shape)
        made[value.name] = numbers.astype(dtype)
    return made


def answers(model: onnx.ModelProto) -> list[Array]:
    onnx.checker.check_model(model, full_check=True)
    session: Any = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: list[Array] = session.run(None, inputs_of(model))
    return found


def spec_of(value: onnx.ValueInfoProto) -> TensorSpec:
    held = value.type.tensor_type
    shape = tuple(each.dim_param or each.dim_value for each in held.shape.dim)
    return TensorSpec(value.name, str(helper.tensor_dtype_to_np_dtype(held.elem_type)), shape)


def at(spec: TensorSpec, size: int) -> tuple[int, ...]:
    return tuple(size if isinstance(each, str) else each for each in spec.shape)


def is_built(model: onnx.ModelProto, folder: Path) -> bool:
    onnx.save(model, folder / "m.onnx")
    inputs, outputs = (
        tuple(map(spec_of, each)) for each in (model.graph.input, model.graph.output)
    )
    names = {each for spec in inputs for each in spec.shape if isinstance(each, str)}
    signature = Signature(inputs, outputs, {name: Range(3, 8) for name in names})
    shapes = {spec.name: Bounds(at(spec, 3), at(spec, 4), at(spec, 8)) for spec in inputs}
    order = Order("tensorrt-rtx", str(folder / "m.onnx"), str(folder / "m.rtx"), signature, shapes)
    return isinstance(build(order, 60), Built)


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_what_is_written_out_is_the_same(text: str, tmp_path: Path, rtx: Library) -> None:
    model = onnx.parser.parse_model(HEAD + text)
    before = answers(model)
    assert not is_built(model, tmp_path)  # if it is, this can go
    assert write_out(model, "tensorrt-rtx") != widen_bytes(model)
    for one, other in zip(before, answers(model), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=2e-5, strict=True)
    assert is_built(model, tmp_path)


@pytest.mark.parametrize("text", LEFT.values(), ids=LEFT)
def test_what_is_not_the_same_is_left(text: str) -> None:
    model = onnx.parser.parse_model(HEAD + text)
    before = model.SerializeToString()
    assert not write_out(model, "tensorrt-rtx")
    assert not widen_bytes(model)
    assert model.SerializeToString() == before


def test_what_is_narrow_is_transformed_in_float32(tmp_path: Path, rtx: Library) -> None:
    """Its sizes are not written down either: they are inferred."""
    model = onnx.parser.parse_model(
        HEAD
        + """g (float[N,9,9] x) => (float[N,1,7,14] z)
        <int64[2] image={7,7}, int64[2] block={3,3}, int64 axis={3}, int64[1] last={-1}> {
        h = Cast<to=16>(x)  y = Col2Im<dilations=[2,2]>(h, image, block)
        u = Unsqueeze(y, last)  s = DFT(u, , axis)  f = Cast<to=1>(s)
        shape = Constant<value_ints=[0, 1, 7, 14]>()  z = Reshape(f, shape) }"""
    )
    assert not is_built(model, tmp_path)
    assert write_out(model, "tensorrt-rtx")
    assert not {"DFT", "Col2Im"} & {node.op_type for node in model.graph.node}
    assert is_built(model, tmp_path)


def test_tensorrt_has_a_plugin_for_sums_by_index() -> None:
    model = onnx.parser.parse_model(HEAD + WRITTEN["sums by index"])
    assert not write_out(model, "tensorrt")
    assert write_out(onnx.parser.parse_model(HEAD + WRITTEN["sums of rows"]), "tensorrt")


def test_half_a_spectrum_back() -> None:
    """ONNX Runtime 1.31 has it, and onnx 1.23 infers another shape."""
    for count in (9, 10):
        text = f"""g (float[N,{count // 2 + 1},2] x) => (float[N,{count},1] y)
            <int64 n={{{count}}}, int64 axis={{1}}> {{
            y = DFT<inverse=1, onesided=1>(x, n, axis) }}"""
        model = onnx.parser.parse_model(HEAD + text)
        x = inputs_of(model)["x"]
        assert write_out(model, "tensorrt-rtx")
        session: Any = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        expected = np.fft.irfft(x[..., 0] + 1j * x[..., 1], count, axis=1)[..., None]
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5, atol=1e-6)
