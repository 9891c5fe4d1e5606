import itertools
from collections.abc import Callable
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeport.runtimes.weights import external


def tensor(location: str, *, embedded: bool = False) -> TensorProto:
    made = TensorProto(name="location", data_type=TensorProto.FLOAT, dims=[2])
    if embedded:
        made.raw_data = b"\x0a\x08location\x12\x01x"  # looks like an entry, and is a weight
        return made
    made.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "8")):
        made.external_data.add(key=key, value=value)
    return made


def test_the_table_leads_to_every_tensor_of_the_format() -> None:
    holds: dict[str, dict[int, str]] = {}
    waiting = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        if message.name not in holds:
            inner = {f.number: f.message_type for f in message.fields if f.message_type}
            holds[message.name] = {number: each.name for number, each in inner.items()}
            waiting += inner.values()
    leading = {"TensorProto"}
    for _ in holds:
        leading |= {name for name, inner in holds.items() if leading & {*inner.values()}}
    expected = {
        name: {number: each for number, each in holds[name].items() if each in leading}
        for name in leading
    }
    expected["TensorProto"] = {13: "StringStringEntryProto"}
    assert expected == external._HOLDS


def graph_of(location: str) -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], [tensor(location)])


def put_initializer(m: onnx.ModelProto, name: str) -> None:
    m.graph.initializer.append(tensor(name))


def put_attribute(m: onnx.ModelProto, name: str) -> None:
    m.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor(name)))


def put_branch(m: onnx.ModelProto, name: str) -> None:
    m.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=graph_of(name)))


def put_branches(m: onnx.ModelProto, name: str) -> None:
    m.graph.node.append(helper.make_node("Switch", ["x"], ["y"], cases=[graph_of(name)]))


def put_function(m: onnx.ModelProto, name: str) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor(name))
    opset = helper.make_opsetid("", 20)
    m.functions.append(helper.make_function("d", "f", [], ["c"], [node], [opset]))


def put_sparse(m: onnx.ModelProto, name: str) -> None:
    m.graph.sparse_initializer.add().indices.CopyFrom(tensor(name))


def put_training(m: onnx.ModelProto, name: str) -> None:
    m.training_info.add().algorithm.CopyFrom(graph_of(name))


PLACES: list[Callable[[onnx.ModelProto, str], None]] = [
    *(put_initializer, put_attribute, put_branch, put_branches),
    *(put_function, put_sparse, put_training),
]


def read(data: bytes) -> set[str]:
    return set(external.locations(data))


def empty() -> onnx.ModelProto:
    graph = helper.make_graph([], "location", [], [], [tensor("", embedded=True)])
    made: onnx.ModelProto = helper.make_model(graph, doc_string="location")
    helper.set_model_props(made, {"location": "no file"})
    return made


def test_weights_inside_name_no_file() -> None:
    assert read(empty().SerializeToString()) == set()


@pytest.mark.parametrize("put", PLACES)
def test_a_file_is_found_wherever_a_tensor_may_be(
    put: Callable[[onnx.ModelProto, str], None],
) -> None:
    made = empty()
    put(made, "weights/a.data")
    assert read(made.SerializeToString()) == {"weights/a.data"}
    for number, other in enumerate(PLACES):
        other(made, f"../é{number}")
    assert read(made.SerializeToString()) == {
        "weights/a.data",
        *(f"../é{number}" for number in range(len(PLACES))),
    }


def field(number: int, content: bytes) -> bytes:
    """A field with a length, encoded as nobody but a forger does: numbers longer than they are."""
    tag, size = number << 3 | 2, len(content)
    return bytes([tag | 0x80, 0x80, 0x80, 0x80, 0, size | 0x80, 0x80, 0]) + content


def test_forged_encodings_hide_nothing() -> None:
    entry = field(2, b"hidden") + field(1, b"location")  # the wrong way round
    forged = field(13, b"\x0b\x10\x01\x0c" + entry)  # behind a group, which protobuf skips
    data = b"\x1d1234\x191234abcd" + field(7, field(5, forged))
    assert read(data) == {"hidden"}
    parsed = onnx.ModelProto.FromString(data)
    (found,) = parsed.graph.initializer[0].external_data
    assert (found.key, found.value) == ("location", "hidden")
    # a tag of more than 32 bits: ONNX Runtime's protobuf drops the rest, Python's refuses it
    assert read(data.replace(b"\x80\x80\x80\x00", b"\x80\x80\x80\x70")) == {"hidden"}


@pytest.mark.parametrize(
    "data", [b"", b"junk", b"\xff" * 10_000_000, b"\x3a\x80", b"\x3a\xff\xff\xff\xff\x07", b"\x0f"]
)
def test_what_is_no_onnx_names_nothing(data: bytes) -> None:
    assert read(data) == set()


SMALL = empty()
put_branch(SMALL, "w.data")
BYTES = SMALL.SerializeToString()


@given(st.integers(0, len(BYTES) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_it_sees_what_protobuf_sees(place: int, inserted: bytes, removed: int) -> None:
    data = BYTES[:place] + inserted + BYTES[place + removed :]
    found = read(data)
    try:
        parsed = onnx.ModelProto.FromString(data)
    except Exception:  # DecodeError, wherever the installed protobuf keeps it
        return
    assert found >= set(locations(parsed))


def locations(message: Any) -> list[str]:
    """Every location in a parsed message, by protobuf's own account."""
    found = []
    for each, value in message.ListFields():
        values = [value] if each.message_type and hasattr(value, "ListFields") else value
        if each.name == "external_data":
            found += [_text(entry.value) for entry in value if entry.key == "location"]
        elif each.message_type:
            found += itertools.chain.from_iterable(map(locations, values))
    return found


def _text(value: str | bytes) -> str:
    """Some versions of protobuf give what is no UTF-8 as bytes."""
    return value if isinstance(value, str) else value.decode(errors="replace")
