"""Every injector has a place for its fault here, alters a copy there, and leaves the model."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from scripts.faults.fixed_rules import FIXED, passes
from scripts.faults.kinds import KINDS

GRAPH = """
<ir_version: 10, opset_import: ["": 20]>
all (float[n, 4] x, float[n, 2, 6, 6] image, float[n, 5, 3] series, int64[n] i)
  => (float[n, 4] y, float[n, 4] z, int64[n] q)
<float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17},
 float[4] b = {1, 2, 3, 4}, float half = {0.5}, float[4] gain = {1, 2, 3, 4},
 int64[1] axes = {1}, int64[1] from = {1}, int64[1] to = {3}, int64 first = {0}, int64 two = {2},
 int64[8] pads = {0, 0, 1, 0, 0, 0, 0, 0}, float[4] scales = {1, 1, 2, 2},
 float[4] twice = {1, 1, 2, 2}>
{
    hidden = Gemm(x, w, b)
    active = Relu(hidden)
    again = MatMul(active, w)
    scaled = Mul(again, half)
    shares = Softmax<axis = 1>(scaled)
    norm = LayerNormalization<epsilon = 0.00001>(shares, gain, b)
    gelu = Gelu<approximate = "none">(norm)
    y = Add(gelu, hidden)
    z = Identity(norm)
    padded = Pad(image, pads)
    conv = Conv<pads = [1, 1, 1, 1]>(padded, k)
    pooled = AveragePool<kernel_shape = [2, 2], pads = [1, 1, 0, 0]>(conv)
    resized = Resize<mode = "nearest", nearest_mode = "floor">(pooled, , scales)
    linear = Resize<mode = "linear">(resized, , twice)
    part = Slice(linear, from, to, axes)
    one = Gather<axis = 1>(part, first)
    both = Concat<axis = 1>(part, linear)
    mean = ReduceMean(both, axes)
    long, last, cell = LSTM<hidden_size = 2>(series, lw, lr)
    quotient = Div(i, two)
    below = Less(i, first)
    odd = Equal(quotient, i)
    off = And(below, odd)
    step = Cast<to = 7>(off)
    q = Sub(quotient, step)
}
"""


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """One node of each kind that a fault wants; it is not run."""
    parsed: onnx.ModelProto = onnx.parser.parse_model(GRAPH)
    draw = np.random.default_rng(0).normal
    shapes = {"k": (2, 2, 3, 3), "lw": (1, 8, 3), "lr": (1, 8, 2)}
    parsed.graph.initializer.extend(
        numpy_helper.from_array(draw(size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    )
    return parsed


@pytest.mark.parametrize("kind", KINDS)
def test_an_injector_alters_a_copy(kind: str, model: onnx.ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    found = list(KINDS[kind](model, np.random.default_rng(0)))
    assert found
    assert len({detail for detail, _ in found}) == len(found)
    for _, altered in found:
        assert altered.SerializeToString(deterministic=True) != before
        assert [output.name for output in altered.graph.output] == ["y", "z", "q"]
        onnx.checker.check_model(altered)
    assert model.SerializeToString(deterministic=True) == before


def test_a_model_without_a_place_for_a_fault_gets_none() -> None:
    empty = helper.make_model(onnx.parser.parse_graph("g (bool[n] a) => (bool[n] b) {b = Not(a)}"))
    assert not [k for k, inject in KINDS.items() if [*inject(empty, np.random.default_rng(0))]]


RIGHT = np.array([1.0, -2.0, np.nan, 0.0], np.float32)


@pytest.mark.parametrize("rule", FIXED)
def test_a_fixed_rule_passes_the_same_and_refuses_another(rule: str) -> None:
    right = np.array([1.0, -2.0, 3.0, 0.0], np.float32)
    assert passes(rule, {"y": right.copy()}, {"y": right})
    assert not passes(rule, {"y": right[::-1].copy()}, {"y": right})
    assert not passes(rule, {"y": right[:3]}, {"y": right})


def test_fixed_rules_turn_where_they_say() -> None:
    eager = {"y": np.array([1.0, 100.0], np.float32)}
    near = {"y": np.array([1.0 + 1.5e-5, 100.0], np.float32)}
    assert passes("allclose 1e-5", near, eager)  # 1e-5 + 1e-5 x 1
    assert not passes("abs and rel 1e-5", near, eager)
    assert passes("torch 5e-3, 1e-1", near, eager)
    assert not passes("torch 5e-3, 1e-1", {"y": np.array([1.0, 100.01], np.float32)}, eager)
    assert passes("cosine 0.997", {"y": np.array([9.0, 120.0], np.float32)}, eager)


def test_nan_is_a_difference_only_where_one_side_has_it() -> None:
    for rule in ("allclose 1e-5", "abs and rel 1e-5", "torch 5e-3, 1e-1"):
        assert passes(rule, {"y": RIGHT.copy()}, {"y": RIGHT})
        assert not passes(rule, {"y": np.nan_to_num(RIGHT)}, {"y": RIGHT})
