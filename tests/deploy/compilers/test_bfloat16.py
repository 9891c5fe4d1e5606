"""bfloat16 in a graph: what float32 makes of it has the bits that torch gives in bfloat16."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, parser

from edgeport.deploy.compilers.bfloat16 import (
    put_in_bfloat16,
    round_as_bfloat16,
    widen_bfloat16,
)
from edgeport.deploy.compilers.narrowing import in_float16
from edgeport.deploy.compilers.onnx_messages import uses
from edgeport.runtimes import ContractError
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
            then_branch = then () => (float[n] a) { v = Mul (x, x)  a = Add (v, x) },
            else_branch = other () => (float[n] b) {
                v = Cast <to: int = 7> (x)  w = Cast <to: int = 1> (v)  b = Mul (w, x)
            }
        >
    }
"""


def both(text: str, folder: Path) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """In bfloat16, and what rounds as it does."""
    wide = parser.parse_model(text)
    onnx.save_model(wide, folder / "wide.onnx")
    narrow = in_float16(folder / "wide.onnx", ())
    put_in_bfloat16(narrow, wide)
    rounded = onnx.ModelProto()
    rounded.CopyFrom(narrow)
    round_as_bfloat16(rounded)
    onnx.checker.check_model(rounded, full_check=True)
    return narrow, rounded


def run(model: onnx.ModelProto, **inputs: Array) -> Array:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (answer,) = session.run(None, inputs)
    assert isinstance(answer, np.ndarray)
    return answer


def test_each_value_is_rounded_as_torch_does_it(tmp_path: Path) -> None:
    narrow, rounded = both(ELEMENTWISE, tmp_path)
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    t = torch.tensor(x).bfloat16()
    expected = (t * torch.tensor(3e30).bfloat16() + t).relu() * torch.tensor(1e-12).bfloat16()
    np.testing.assert_array_equal(run(rounded, x=x), expected.float().numpy())
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
    expected = t * t + t if taken else t.long().bfloat16() * t
    np.testing.assert_array_equal(run(rounded, x=x, c=np.array(taken)), expected.float().numpy())


def test_float16_in_places_is_refused(tmp_path: Path) -> None:
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1])
    model = helper.make_model(helper.make_graph([cast], "main", [x], [y]))
    with pytest.raises(ContractError, match=r"in float16 in places.*\n  fix: leave \.half\(\)"):
        put_in_bfloat16(model, model)


def test_bfloat16_is_widened_everywhere(tmp_path: Path) -> None:
    narrow, _ = both(BRANCHES, tmp_path)
    assert widen_bfloat16(narrow)
    assert not uses(narrow, TensorProto.BFLOAT16)
    assert not widen_bfloat16(narrow)
