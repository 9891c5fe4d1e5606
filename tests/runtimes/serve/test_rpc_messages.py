"""The table of messages against the descriptors of tritonclient 2.73, kept in the JSON file."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgeport.runtimes.serve.rpc import messages

THEIRS = json.loads((Path(__file__).parent / "inference_fields.json").read_text())


def described(descriptor: Any) -> dict[str, Any]:
    """Name -> fields (number, type, repeated) of a message and those inside; numbers of enums."""
    found = {
        descriptor.full_name: {f.name: [f.number, f.type, f.is_repeated] for f in descriptor.fields}
    }
    for enum in descriptor.enum_types:
        found[enum.full_name] = {value.name: value.number for value in enum.values}
    for inside in descriptor.nested_types:
        found |= described(inside)
    return found


def test_names_numbers_and_types_of_fields_are_those_of_tritons_client() -> None:
    ours: dict[str, Any] = {}
    for name in messages._ALL:
        descriptor = getattr(messages, name).DESCRIPTOR
        if descriptor.file.package == "inference":
            ours |= described(descriptor)
    assert ours == {name: fields for name, fields in THEIRS.items() if name != "inference.DataType"}


def test_datatypes_of_a_configuration_have_their_numbers() -> None:
    enum = messages.ModelInput.DESCRIPTOR.file.enum_types_by_name["DataType"]
    assert {value.name: value.number for value in enum.values} == THEIRS["inference.DataType"]


def test_a_parameter_holds_one_value() -> None:
    parameter = messages.InferParameter(int64_param=3)
    parameter.string_param = "x"
    assert parameter.WhichOneof("parameter_choice") == "string_param"
    assert parameter.int64_param == 0


def test_health_is_that_of_grpc() -> None:
    response = messages.HealthCheckResponse(status="NOT_SERVING")
    assert response.SerializeToString() == b"\x08\x02"
    assert response.DESCRIPTOR.full_name == "grpc.health.v1.HealthCheckResponse"


def test_what_is_not_described_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'TraceSettingRequest'"):
        _ = messages.TraceSettingRequest
