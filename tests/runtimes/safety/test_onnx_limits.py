import time

import hostile
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeport.runtimes.safety import onnx_limits
from edgeport.runtimes.safety.onnx_limits import DEEPEST, check_onnx


def chain(nodes: int) -> bytes:
    found = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(nodes)]
    value = helper.make_tensor_value_info("v0", TensorProto.FLOAT, [1])
    data: bytes = helper.make_model(helper.make_graph(found, "g", [value], [])).SerializeToString()
    return data


def test_a_usual_model_passes(mlp_onnx: bytes) -> None:
    check_onnx(mlp_onnx)
    check_onnx(b"")
    check_onnx(b"junk that an engine refuses")


def test_as_many_nodes_as_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_limits, "MOST_NODES", 50)
    check_onnx(chain(50))
    with pytest.raises(ValueError, match="it has more than 50 nodes"):
        check_onnx(chain(51))


def test_nodes_of_many_kinds_with_bodies_are_counted_once() -> None:
    """Quadratic, these took 6 s; the time is of this process alone."""
    body = helper.make_attribute("body", helper.make_graph([], "b", [], []))
    nodes = [helper.make_node(f"N{i}", [], []) for i in range(16_000)]
    for node in nodes:
        node.attribute.append(body)
    data = helper.make_model(helper.make_graph(nodes, "g", [], [])).SerializeToString()
    began = time.process_time()
    check_onnx(data)
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("count", "calls", "message"),
    [
        (4, 10, None),
        (9, 10, "it unfolds to more than 1,000,000 nodes"),
        (40, 2, "it unfolds to more than 1,000,000 nodes"),
    ],
)
def test_functions_are_counted_unfolded(count: int, calls: int, message: str | None) -> None:
    data = hostile.functions(count, calls=calls)
    if message is None:
        check_onnx(data)
    else:
        with pytest.raises(ValueError, match=message):
            check_onnx(data)


def test_a_function_that_calls_itself() -> None:
    with pytest.raises(ValueError, match="its function b'F0' calls itself"):
        check_onnx(hostile.functions(1, recursive=True))


def test_graphs_in_graphs() -> None:
    check_onnx(hostile.deep(DEEPEST))
    with pytest.raises(ValueError, match=f"its graphs nest more than {DEEPEST} deep"):
        check_onnx(hostile.deep(DEEPEST + 1))


def test_more_than_protobuf_takes(monkeypatch: pytest.MonkeyPatch, mlp_onnx: bytes) -> None:
    monkeypatch.setattr(onnx_limits, "LARGEST_BYTES", 10)
    with pytest.raises(
        ValueError, match=rf"it has {len(mlp_onnx)} bytes, at most 10 can be parsed"
    ):
        check_onnx(mlp_onnx)


@given(st.integers(0, 10**6), st.binary(max_size=4), st.integers(0, 4))
def test_damage_is_counted_without_an_accident(place: int, new: bytes, removed: int) -> None:
    data = hostile.functions(3, calls=3)
    place %= len(data)
    changed = data[:place] + new + data[place + removed :]
    try:
        check_onnx(changed)
    except ValueError:
        return
    try:
        model = onnx.ModelProto.FromString(changed)
    except Exception:  # DecodeError, wherever the installed protobuf keeps it
        return
    assert len(model.graph.node) <= onnx_limits.MOST_NODES
