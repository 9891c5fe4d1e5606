"""float16 on the CPU as a GPU computes it: the bits that torch gives in float16."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, parser

from edgeport.deploy.compilers.narrower.half_floats import in_bfloat16, in_float16
from edgeport.deploy.compilers.narrower.rounding import round_each
from edgeport.deploy.proof.float16_reach import nodes_beyond_float16
from edgeport.runtimes.inputs import Array

LOUD = """
    <ir_version: 10, opset_import: ["" : 20]>
    main (float[n] x) => (float[n] y) <float[1] large = {3000.0}, float[1] small = {0.001}> {
        [first] a = Mul (x, large)
        [second] b = Mul (a, large)
        [third] c = Mul (b, small)
        [fourth] y = Mul (c, small)
    }
"""
LOUD_IN_BRANCH = """
    <ir_version: 10, opset_import: ["" : 20]>
    main (float[n] x, bool c) => (float[n] y)
    <float[1] large = {3000.0}, float[1] small = {0.001}> {
        a = Mul (x, large)
        y = If (c) <
            then_branch = then () => (float[n] t) {
                [second] b = Mul (a, large)
                [third] d = Mul (b, small)
                [fourth] t = Mul (d, small)
            },
            else_branch = other () => (float[n] o) {
                p = Mul (a, small)
                q = Mul (p, large)
                o = Mul (q, small)
            }
        >
    }
"""
STEEP = """
    <ir_version: 10, opset_import: ["" : 20]>
    main (float[n] x, bool c) => (float[n] y) <float[1] one = {1.0}> {
        [first] a = Abs (x)
        [second] b = Log (a)
        [third] y = If (c) <
            then_branch = then () => (float[n] t) { [fourth] t = Mul (b, one) },
            else_branch = other () => (float[n] o) { [fifth] o = Reciprocal (a) }
        >
    }
"""
MIXED = """
    <ir_version: 10, opset_import: ["" : 20]>
    main (float[n] x, float16[n] h, bool c) => (float16[n] y) {
        a = Cast <to = 10> (x)
        y = If (c) <
            then_branch = then () => (float16[n] t) { t = Add (a, h) },
            else_branch = other () => (float16[n] o) { o = Mul (a, h) }
        >
    }
"""
GIVEN_BACK = """
    <ir_version: 10, opset_import: ["" : 20]>
    main (float[n] x, bool c) => (float[n] y) <float[1] one = {1.0}> {
        w = Mul (x, one)
        v = If (c) <
            then_branch = then () => (float[1] t) <float[1] t = {0.1}> { },
            else_branch = other () => (float[1] o) { o = Mul (one, one) }
        >
        y = Add (w, v)
    }
"""


def run(model: onnx.ModelProto, **inputs: Array) -> Array:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, inputs)[0])


def written(text: str, folder: Path) -> Path:
    onnx.save_model(parser.parse_model(text), folder / "wide.onnx")
    return folder / "wide.onnx"


def test_what_the_cpu_keeps_between_kernels_is_rounded(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    model = in_float16(written(LOUD, tmp_path), ())
    large, small = torch.tensor(3000.0).half(), torch.tensor(0.001).half()
    expected = (torch.tensor(x).half() * large * large * small * small).float().numpy()
    assert np.isinf(expected).mean() > 0.9
    assert np.isfinite(run(model, x=x)).all()  # as a GPU does not
    round_each(model, TensorProto.FLOAT16)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(run(model, x=x), expected)


def test_nodes_that_meet_what_float16_does_not_hold(tmp_path: Path) -> None:
    wide = written(LOUD, tmp_path)
    x = np.linspace(-3, 3, 50, dtype=np.float32)
    assert nodes_beyond_float16(wide, [{"x": 1e-3 * x}]) == []
    assert nodes_beyond_float16(wide, [{"x": 1e-3 * x}, {"x": x}]) == ["second", "third"]
    assert nodes_beyond_float16(wide, [{"x": np.full(50, np.inf, np.float32)}]) == []
    kept = in_float16(wide, ["second", "third"])
    round_each(kept, TensorProto.FLOAT16)
    exact = x.astype(np.float64) * 9
    np.testing.assert_allclose(run(kept, x=x), exact, rtol=2e-3)


def test_small_numbers_matter_to_what_makes_much_of_them(tmp_path: Path) -> None:
    wide = written(STEEP, tmp_path)
    x = np.array([1.0, 0.5, 3.0], np.float32)
    near = np.array([1.0, 0.5, 1e-7], np.float32)
    c = np.array(True)
    assert nodes_beyond_float16(wide, [{"x": x, "c": c}]) == []
    assert nodes_beyond_float16(wide, [{"x": near, "c": c}]) == ["first", "second", "fifth"]


def test_inputs_that_float16_does_not_hold(tmp_path: Path) -> None:
    x = np.array([1e5, 2e5], np.float32)
    beyond = ["first", "second", "third", "fourth"]
    assert nodes_beyond_float16(written(LOUD, tmp_path), [{"x": x}]) == beyond
    x = np.array([1e-9, 2e-9], np.float32)
    assert nodes_beyond_float16(written(LOUD, tmp_path), [{"x": x}])[0] == "first"


def test_places_that_hold_no_number_hide_no_other(tmp_path: Path) -> None:
    x = np.array([np.nan, np.inf, 1.0, 2.0], np.float32)
    assert nodes_beyond_float16(written(LOUD, tmp_path), [{"x": x}]) == ["second", "third"]


def test_inputs_and_outputs_in_float16_stay_so(tmp_path: Path) -> None:
    model = in_float16(written(MIXED, tmp_path), ())
    round_each(model, TensorProto.FLOAT16)
    onnx.checker.check_model(model, full_check=True)
    h = np.array([0.1, 3.0], np.float16)
    y = run(model, x=np.array([0.3, 2.0], np.float32), h=h, c=np.array(True))
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, np.array([0.3, 2.0], np.float16) + h)


def test_nodes_of_a_branch_that_stay_in_float32(tmp_path: Path) -> None:
    wide = written(LOUD_IN_BRANCH, tmp_path)
    x = np.linspace(-3, 3, 50, dtype=np.float32)
    model = in_float16(wide, ["second", "third"])
    onnx.checker.check_model(model, full_check=True)
    round_each(model, TensorProto.FLOAT16)
    for c in (True, False):
        found = run(model, x=x, c=np.array(c))
        np.testing.assert_allclose(found, x.astype(np.float64) * 9, rtol=2e-3)


@pytest.mark.parametrize(
    ("narrowed", "dtype", "tenth"),
    [(in_float16, TensorProto.FLOAT16, 0.09998), (in_bfloat16, TensorProto.BFLOAT16, 0.1001)],
)
def test_a_constant_that_a_branch_gives_back(
    narrowed: Any, dtype: int, tenth: float, tmp_path: Path
) -> None:
    model = narrowed(written(GIVEN_BACK, tmp_path), ())
    onnx.checker.check_model(model, full_check=True)
    round_each(model, dtype)
    onnx.checker.check_model(model, full_check=True)
    y = run(model, x=np.zeros(2, np.float32), c=np.array(True))
    np.testing.assert_allclose(y, [tenth, tenth], rtol=1e-4)
