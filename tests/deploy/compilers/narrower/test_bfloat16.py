"""bfloat16 in a graph: what float32 makes of it has the bits that torch gives in bfloat16."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper, parser

from edgeport.deploy.compilers.narrower.bfloat16 import widen_bfloat16
from edgeport.deploy.compilers.narrower.half_floats import in_bfloat16
from edgeport.deploy.compilers.narrower.rounding import round_each
from edgeport.deploy.compilers.onnx_files.onnx_messages import uses
from edgeport.runtimes.inputs import Array

ELEMENTWISE = """
    <ir_version: 10, opset_import: ["" : 20]>
    main (float[n] x) => (float[n] y) <float[1] large = {3e30}> {
        small = Constant <value: tensor = float[1] {1e-12}> ()
        a = Mul (x, large)
        b = Add (a, x)
        c = Relu (b)
        y = Mul (c, small)
    }
"""
BRANCHES = """
    <ir_version: 10, opset_import: ["" : 20]>
    main (float[n] x, bool c) => (float[n] y) {
        y = If (c) <
            then_branch = then () => (float[n] a) {
                k = Constant <value: tensor = float[1] {3e30}> ()
                v = Mul (x, x)  w = Add (v, x)  a = Mul (w, k)
            },
            else_branch = other () => (float[n] b) {
                k = Constant <value: tensor = float[1] {7e30}> ()
                v = Cast <to: int = 7> (x)  w = Cast <to: int = 1> (v)  b = Mul (w, k)
            }
        >
    }
"""


def both(text: str, folder: Path) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """In bfloat16, and what rounds as it does."""
    onnx.save_model(parser.parse_model(text), folder / "wide.onnx")
    narrow = in_bfloat16(folder / "wide.onnx", ())
    rounded = onnx.ModelProto()
    rounded.CopyFrom(narrow)
    round_each(rounded, TensorProto.BFLOAT16)
    onnx.checker.check_model(rounded, full_check=True)
    return narrow, rounded


def run(model: onnx.ModelProto, **inputs: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return [np.asarray(answer) for answer in session.run(None, inputs)]


def test_each_value_is_rounded_as_torch_does_it(tmp_path: Path) -> None:
    narrow, rounded = both(ELEMENTWISE, tmp_path)
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    t = torch.tensor(x).bfloat16()
    expected = (t * torch.tensor(3e30).bfloat16() + t).relu() * torch.tensor(1e-12).bfloat16()
    (y,) = run(rounded, x=x)
    np.testing.assert_array_equal(y, expected.float().numpy())
    assert uses(narrow, TensorProto.BFLOAT16)
    assert not uses(narrow, TensorProto.FLOAT16)


def test_what_float16_cannot_hold_stays(tmp_path: Path) -> None:
    narrow, _ = both(ELEMENTWISE, tmp_path)
    (large,) = narrow.graph.initializer
    (small,) = (node.attribute[0].t for node in narrow.graph.node if node.op_type == "Constant")
    for tensor, value in ((large, 3e30), (small, 1e-12)):
        assert tensor.data_type == TensorProto.BFLOAT16
        assert numpy_helper.to_array(tensor).item() == np.float32(value).astype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("taken", [True, False])
def test_branches_round_their_own_values(taken: bool, tmp_path: Path) -> None:
    _, rounded = both(BRANCHES, tmp_path)
    x = np.random.default_rng(1).uniform(-9, 9, 100).astype(np.float32)
    t = torch.tensor(x).bfloat16()
    then, other = torch.tensor([3e30, 7e30]).bfloat16()
    expected = (t * t + t) * then if taken else t.long().bfloat16() * other
    (y,) = run(rounded, x=x, c=np.array(taken))
    np.testing.assert_array_equal(y, expected.float().numpy())


MASKED = """
    <ir_version: 10, opset_import: ["" : 20]>
    main (float[n] x) => (float[n] y, float[2] m) {
        m = Constant <value: tensor = float[2] {-3.4028234663852886e38, 1e-12}> ()
        low, other = Split <num_outputs: int = 2> (m)
        masked = Add (x, low)
        y = Softmax (masked)
    }
"""


def test_what_is_finite_stays_finite(tmp_path: Path) -> None:
    """Also in a constant that is an output itself."""
    _, rounded = both(MASKED, tmp_path)
    y, m = run(rounded, x=np.ones(4, np.float32))
    np.testing.assert_array_equal(y, np.full(4, 0.25, np.float32))
    least = torch.finfo(torch.bfloat16).min
    assert m.tolist() == [least, torch.tensor(1e-12).bfloat16().item()]


POSITIONS = """
    <ir_version: 10, opset_import: ["" : 20]>
    main (float[n] x) => (float[n] y) <float first = {0}, float step = {1}> {
        n = Size (x)
        last = Cast <to: int = 1> (n)
        places = Range (first, last, step)
        y = Add (x, places)
    }
"""


def test_sizes_are_not_rounded(tmp_path: Path) -> None:
    _, rounded = both(POSITIONS, tmp_path)
    (y,) = run(rounded, x=np.zeros(301, np.float32))
    np.testing.assert_array_equal(y, torch.arange(301.0).bfloat16().float().numpy())


BOTH_KEEP = """
    <ir_version: 10, opset_import: ["" : 20]>
    main (float[n] x, bool c) => (float[n] y) {
        y = If (c) <
            then_branch = then () => (float[n] a) {
                p = Mul (x, x)  m = Max (p, x)  a = Add (m, x)
            },
            else_branch = other () => (float[n] b) {
                p = Add (x, x)  m = Max (p, x)  b = Mul (m, x)
            }
        >
    }
"""


@pytest.mark.parametrize("taken", [True, False])
def test_branches_cast_values_of_one_name(taken: bool, tmp_path: Path) -> None:
    """Each has what stays in float32: both make a ``p``, and both round their ``m``."""
    _, rounded = both(BOTH_KEEP, tmp_path)
    x = np.random.default_rng(3).uniform(-2, 2, 100).astype(np.float32)
    t = torch.tensor(x).bfloat16()
    expected = torch.maximum(t * t, t) + t if taken else torch.maximum(t + t, t) * t
    (y,) = run(rounded, x=x, c=np.array(taken))
    np.testing.assert_array_equal(y, expected.float().numpy())


LOOP = """
    <ir_version: 10, opset_import: ["" : 20]>
    main (float[n] x, int64 turns) => (float[n] y) <bool true = {1}> {
        y = Loop (turns, true, x) <
            body = turn (int64 i, bool go, float[n] v) => (bool on, float[n] w) {
                on = Identity (go)
                p = Mul (v, x)
                m = Max (p, v)
                w = Add (m, x)
            }
        >
    }
"""


def test_what_stays_in_float32_in_a_loop_is_cast_there(tmp_path: Path) -> None:
    _, rounded = both(LOOP, tmp_path)
    x = np.random.default_rng(2).uniform(0, 2, 100).astype(np.float32)
    (y,) = run(rounded, x=x, turns=np.array(3))
    t = v = torch.tensor(x).bfloat16()
    for _ in range(3):
        v = torch.maximum(v * t, v) + t
    np.testing.assert_array_equal(y, v.float().numpy())


def test_bfloat16_is_widened_everywhere(tmp_path: Path) -> None:
    narrow, _ = both(BRANCHES, tmp_path)
    assert widen_bfloat16(narrow)
    assert not uses(narrow, TensorProto.BFLOAT16)
    assert not widen_bfloat16(narrow)
