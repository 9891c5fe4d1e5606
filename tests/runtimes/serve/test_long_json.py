"""Long arrays are read in pieces, and mean what they mean when they are read at once."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgeport.runtimes import InputError, Signature, TensorSpec
from edgeport.runtimes.serve import long_json
from edgeport.runtimes.serve.long_json import Numbers, loads_long
from edgeport.runtimes.serve.wire import parse_request

SIGNATURE = Signature(
    (
        TensorSpec("x", "float32", ("n", 2)),
        TensorSpec("i", "int16", ("n",)),
        TensorSpec("b", "bool", ("n",)),
    ),
    (TensorSpec("y", "float32", ("n",)),),
)
ENTRIES: dict[str, Any] = {
    "x": {"name": "x", "datatype": "FP32", "shape": [3, 2], "data": [1.5, -2, 3e4, 0, 5, 6]},
    "nested": {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2.25], [-3, 4]]},
    "i": {"name": "i", "datatype": "INT16", "shape": [4], "data": [1, -2, 300, 4]},
    "b": {"name": "b", "datatype": "BOOL", "shape": [3], "data": [True, False, True]},
}
BODIES = [
    *(json.dumps({"inputs": [entry]}) for entry in ENTRIES.values()),
    json.dumps({"inputs": [ENTRIES["x"], ENTRIES["i"]], "id": '"data": [1, 2, 3, 4]'}, indent=1),
    json.dumps({"parameters": {"data": [1, 2, 3]}, "inputs": [ENTRIES["i"]]}),
]


def outcome(body: str) -> Any:
    """What a body means; of one that is refused only that it is."""
    try:
        inputs = parse_request(body.encode(), "m", "", SIGNATURE).request.inputs
    except InputError:
        return None
    return {name: (array.dtype, repr(array.tolist())) for name, array in inputs.items()}  # NaN


@st.composite
def spoiled(draw: st.DrawFn) -> str:
    body = draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(body)))
        stop = start + draw(st.integers(0, 2))
        more = draw(st.sampled_from([*'[],"{}019.e-+ \\', "], [", "NaN", "true", '"data": [', ""]))
        body = body[:start] + more + body[stop:]
    return body


@settings(
    max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(spoiled())
@example(BODIES[0].replace("6]", "6, ]"))
@example(BODIES[0].replace("6]", "6],]"))
@example(BODIES[1].replace("], [", "], 5 ["))
@example(BODIES[1].replace("], [", "] 5, ["))
@example(BODIES[2].replace("300", "30000000"))
@example(BODIES[0].replace('"data"', '"data": [1, 2, 3], "data"'))
@example(BODIES[0].replace("[1.5", f'["{long_json._MARK}0", 1.5'))
def test_pieces_mean_what_the_whole_means(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    whole = outcome(body)
    with monkeypatch.context() as patch:
        patch.setattr(long_json, "LONG_BYTES", 4)
        assert outcome(body) == whole


@pytest.mark.parametrize("nested", [False, True])
def test_a_long_array_is_cut_out(nested: bool) -> None:
    x = np.random.default_rng(0).normal(size=(9_000, 2)).astype(np.float32)
    data = x.astype(float).tolist() if nested else x.astype(float).ravel().tolist()
    entry = {"name": "x", "datatype": "FP32", "shape": x.shape, "data": data}
    body = json.dumps({"inputs": [entry]}).encode()
    (found,) = loads_long(body)["inputs"]
    assert isinstance(found["data"], Numbers)
    assert len(list(found["data"].pieces())) > 2
    assert np.array_equal(parse_request(body, "m", "", SIGNATURE).request.inputs["x"], x)


def test_what_is_wrong_far_behind_is_named_as_ever() -> None:
    numbers: list[object] = [1] * 40_000
    numbers[39_000] = None
    entry = {"name": "i", "datatype": "INT16", "shape": [40_000], "data": numbers}
    with pytest.raises(InputError, match="value 39000 of input 'i' is null, expected an integer"):
        parse_request(json.dumps({"inputs": [entry]}).encode(), "m", "", SIGNATURE)


def test_many_arrays_that_do_not_end_take_no_long() -> None:
    body = b'{"inputs": [' + b'"data": [' * 200_000
    with pytest.raises(InputError, match="the body is nested deeper than 64 levels"):
        loads_long(body)
