"""Rounded weights stand for what another file holds in floats."""

from collections.abc import Mapping

import numpy as np
import pytest

from edgeport.runtimes.inputs import Array
from edgeport.runtimes.weights.of_artefact import Weight
from edgeport.runtimes.weights.rounded import as_floats

WHOLE = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)


def held(arrays: Mapping[str, Array]) -> dict[str, Weight]:
    return {n: Weight(n, str(a.dtype), a.shape, a.tobytes()) for n, a in arrays.items()}


def rounded(axis: int | None, name: str = "w") -> dict[str, Array]:
    """As ONNX Runtime's tools write it."""
    steps = np.abs(WHOLE).max(axis=1 - axis if axis is not None else None) / 63
    along = steps if axis is None else np.expand_dims(steps, 1 - axis)
    return {
        f"{name}_quantized": np.round(WHOLE / along).astype(np.int8),
        f"{name}_scale": steps.astype(np.float32),
        f"{name}_zero_point": np.zeros(steps.shape, np.int8),
    }


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("turned", [False, True])
def test_a_square_weight_whichever_way_it_lies(axis: int | None, turned: bool) -> None:
    parts = rounded(axis)
    if turned:
        parts["w_quantized"] = np.ascontiguousarray(parts["w_quantized"].T)
    found = as_floats(held(parts), held({"w": WHOLE}))
    assert found.keys() == {"w"}
    values = found["w"].values()
    assert values is not None
    assert np.abs(values - WHOLE).max() < 0.03


def test_a_recurrent_layer_has_a_scale_for_each_direction() -> None:
    whole = np.stack([WHOLE, 3 * WHOLE])  # (directions, gates, features)
    steps = np.abs(whole).max(axis=2) / 63
    integers = np.round(whole / steps[..., None]).astype(np.int8).swapaxes(1, 2)
    parts = {"w_quantized": np.ascontiguousarray(integers), "w_scale": steps.astype(np.float32)}
    (found,) = as_floats(held(parts), held({"w": whole})).values()  # zero points go by another name
    values = found.values()
    assert values is not None
    assert np.abs(values - whole).max() < 0.1


def test_a_bias_has_a_scale_of_another_name() -> None:
    bias = np.array([0.5, -2], np.float32)
    parts = {
        "b_quantized": np.array([5, -20], np.int32),
        "b_quantized_scale": np.array([0.1], np.float32),
        "b_quantized_zero_point": np.array(0, np.int32),
    }
    (found,) = as_floats(held(parts), held({"b": bias})).values()
    assert found.values() == pytest.approx(bias)


@pytest.mark.parametrize(
    "parts",
    [
        {"w_quantized": rounded(0)["w_quantized"]},
        {"w_quantized": np.zeros((2, 2, 2), np.int8), "w_scale": np.ones((2, 2, 2), np.float32)},
        rounded(0) | {"w_scale": np.ones(3, np.float32)},
        rounded(0) | {"w_zero_point": np.zeros(3, np.int8)},
        rounded(0) | {"w_quantized": np.zeros((4, 4), np.int8)},
        rounded(0) | {"w": WHOLE},
        rounded(0, "another"),
    ],
)
def test_what_does_not_fit_stays_as_it_is(parts: dict[str, Array]) -> None:
    assert as_floats(held(parts), held({"w": WHOLE})) == held(parts)


def test_bytes_that_do_not_fit_their_shape() -> None:
    weights = held(rounded(0))
    weights["w_quantized"] = Weight("w_quantized", "int8", (8, 8), b"12")
    assert as_floats(weights, held({"w": WHOLE})) == weights
