"""Branches that TensorRT-RTX fails on by itself are written as it takes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeport.deploy.tensorrt.branches import flatten, own_constants
from edgeport.runtimes import Range, Signature, TensorSpec
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.tensorrt.building import build
from edgeport.runtimes.tensorrt.library import Library
from edgeport.runtimes.tensorrt.order import Bounds, Built, Order

HEAD = """<ir_version: 10, opset_import: ["" : 20]>
g (float[N,4] x) => (float[N,4] y)
<float zero={0.0}, float big={5.0}, float one={1.0}, bool true={1}> {
  sum = ReduceSum<keepdims=0>(x)  is_more = Greater(sum, zero)
  most = ReduceMax<keepdims=0>(x)  is_large = Greater(most, big)
"""
WITHIN = """
  y = If (is_more) <
    then_branch = then () => (float[N,4] a) { a = Mul(x, big) },
    else_branch = other () => (float[N,4] b) {
      c = If (is_large) <
        then_branch = inner () => (float[N,4] d) { h = Sub(x, one)  d = Abs(h) },
        else_branch = last () => (float[N,4] e) { h = Add(x, one)  e = Neg(h) }
      >
      b = Mul(c, one)
    }
  >
}"""
TURNS = """
      b = Loop ("", is_large, x) <
        body = turn (int64 i, bool before, float[N,4] p) => (bool after, float[N,4] q) {
          q = Sub(p, big)  m = ReduceMax<keepdims=0>(q)
          more = Greater(m, big)  after = Equal(more, true)
        }
      >
"""
LOOP = """
  y = If (is_more) <
    then_branch = then () => (float[N,4] a) {
      is_so = Equal(is_large, true)  f = Cast<to=1>(is_so)  a = Mul(x, f)
    },
    else_branch = other () => (float[N,4] b) {
      TURNS
    }
  >
}""".replace("TURNS", TURNS)
INPUTS = [
    np.array([[1, 2, 3, 4]], np.float32),
    np.array([[-1, -2, -3, 3]], np.float32),
    np.array([[-10, -20, -3, 6], [1, 0, 2, 3]], np.float32),
]


def parsed(body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD + body)


def answers(model: onnx.ModelProto, inputs: Sequence[Array] = INPUTS) -> list[Array]:
    onnx.checker.check_model(model, full_check=True)
    session: Any = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return [session.run(None, {"x": x})[0] for x in inputs]


def is_built(model: onnx.ModelProto, folder: Path) -> bool:
    onnx.save(model, folder / "m.onnx")
    spec = ("N", 4)
    signature = Signature(
        (TensorSpec("x", "float32", spec),), (TensorSpec("y", "float32", spec),), {"N": Range(1, 8)}
    )
    shapes = {"x": Bounds((1, 4), (2, 4), (8, 4))}
    order = Order("tensorrt-rtx", str(folder / "m.onnx"), str(folder / "m.rtx"), signature, shapes)
    return isinstance(build(order, 60), Built)


def test_a_branch_within_a_branch_is_a_choice(tmp_path: Path, rtx: Library) -> None:
    model = parsed(WITHIN)
    before = answers(model)
    assert not is_built(model, tmp_path)  # if it is, this can go
    assert flatten(model)
    for one, other in zip(before, answers(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert is_built(model, tmp_path)
    assert not flatten(model)


@pytest.mark.parametrize(
    "taken",
    [
        "k = Cast<to=7>(most)  g = Gather<axis=1>(h, k)  f = Unsqueeze(g, axis)",
        "j = Cast<to=7>(most)  i = Constant<value_ints=[0]>()  k = Unsqueeze(j, i)"
        "  f = Gather<axis=-1>(h, k)",
        "k = Cast<to=7>(x)  f = GatherElements<axis=1>(h, k)",
    ],
)
def test_places_of_the_side_that_is_not_chosen_may_be_nowhere(
    taken: str, tmp_path: Path, rtx: Library
) -> None:
    head = HEAD.replace("bool true={1}", "int64[1] axis={1}")
    model = onnx.parser.parse_model(head + WITHIN.replace("e = Neg(h)", f"{taken}  e = Mul(h, f)"))
    inputs = [np.array([[-1, -2, -3, 2]], np.float32), *INPUTS]
    before = answers(model, inputs)
    assert flatten(model)
    for one, other in zip(before, answers(model, inputs), strict=True):
        np.testing.assert_array_equal(one, other)
    assert is_built(model, tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(float[N,4] e)", "(float[M,4] e)"),
        ("(float[N,4] e)", "(float e)"),
        ("h = Sub(x, one)  d = Abs(h)", TURNS.replace("b =", "d =")),
    ],
)  # fmt: skip  # one line each
def test_both_sides_are_computed_only_where_that_is_the_same(old: str, new: str) -> None:
    assert old in WITHIN
    assert not flatten(parsed(WITHIN.replace(old, new)))


def test_places_of_several_axes_may_be_nowhere() -> None:
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 20]>
        g (float[3,4] x, int64[2,1] at, bool c, bool d) => (float[2,4] y) {
            y = If (c) <
                then_branch = then () => (float[2,4] a) { a = GatherND(x, at) },
                else_branch = other () => (float[2,4] b) {
                    b = If (d) <
                        then_branch = inner () => (float[2,4] e) { e = GatherND(x, at) },
                        else_branch = last () => (float[2,4] f) {
                            one = Constant<value = float[1] {1.0}>()
                            to = Constant<value = int64[2] {2, 4}>()
                            f = Expand(one, to)
                        }
                    >
                }
            >
        }""")
    inputs = {"x": np.arange(12, dtype=np.float32).reshape(3, 4), "c": np.array(False)}

    def taken(*places: int, is_taken: bool) -> Array:
        session: Any = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        at, d = np.array(places).reshape(2, 1), np.array(is_taken)
        found: Array = session.run(None, {**inputs, "at": at, "d": d})[0]
        return found

    before = taken(2, -3, is_taken=True)
    assert flatten(model)
    np.testing.assert_array_equal(taken(2, -3, is_taken=True), before)
    np.testing.assert_array_equal(taken(7, -9, is_taken=False), np.ones((2, 4)))


def test_each_side_has_constants_of_its_own(tmp_path: Path, rtx: Library) -> None:
    model = parsed(LOOP)
    before = answers(model)
    assert not is_built(model, tmp_path)  # if it is, this can go
    assert own_constants(model)
    for one, other in zip(before, answers(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert is_built(model, tmp_path)
    assert not own_constants(model)


def test_nothing_is_done_where_nothing_branches() -> None:
    model = parsed("y = Mul(x, big)}")
    assert not flatten(model)
    assert not own_constants(model)
