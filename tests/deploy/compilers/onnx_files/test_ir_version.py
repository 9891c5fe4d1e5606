from collections.abc import Callable

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgeport.deploy.compilers.onnx_files.ir_version import stamp
from edgeport.deploy.compilers.targets import OnnxRequest
from edgeport.runtimes import ContractError


def identity(opset: int, ir_version: int) -> onnx.ModelProto:
    model: onnx.ModelProto = onnx.parser.parse_model(
        f"""<ir_version: {ir_version}, opset_import: ["": {opset}]>
        g (float[n] x) => (float[n] y) {{ y = Identity(x) }}"""
    )
    return model


def test_stamp_lowers_what_needs_nothing_newer() -> None:
    model = identity(opset=20, ir_version=13)
    model.metadata_props.add(key="edgeport.signature", value="{}")  # of the model: always there
    stamp(model, OnnxRequest(20, 9, "ort-1.17"))
    assert model.ir_version == 9
    onnx.checker.check_model(model, full_check=True)
    onnxruntime.InferenceSession(model.SerializeToString())


def float8_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT8E4M3FN


def float8_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT8E5M2)


def int4_constant(model: onnx.ModelProto) -> None:
    tensor = TensorProto(data_type=TensorProto.INT4)
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def int2_cast_in_a_body(model: onnx.ModelProto) -> None:
    cast = helper.make_node("Cast", ["x"], ["z"], to=TensorProto.INT2)
    body = helper.make_graph([cast], "body", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=body))


def float6_value(model: onnx.ModelProto) -> None:
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT6E2M3, [1])
    model.graph.value_info.append(value)


def function(model: onnx.ModelProto) -> None:
    model.functions.add(name="twice", domain="local")


def function_with_defaults(model: onnx.ModelProto) -> None:
    model.functions.add(name="f").attribute_proto.add(name="alpha", f=1.0)


def overload(model: onnx.ModelProto) -> None:
    model.graph.node[0].overload = "second"


def note(model: onnx.ModelProto) -> None:
    model.graph.node[0].metadata_props.add(key="namespace", value="net")


def devices(model: onnx.ModelProto) -> None:
    model.configuration.add(name="two", num_devices=2)


@pytest.mark.parametrize(
    ("add", "since", "feature"),
    [
        (function, 8, "functions of a ModelProto"),
        (float8_input, 9, "float8e4m3fn"),
        (float8_weights, 9, "float8e5m2"),
        (function_with_defaults, 9, "attribute_proto of a FunctionProto"),
        (int4_constant, 10, "int4"),
        (overload, 10, "overload of a NodeProto"),
        (note, 10, "metadata of a NodeProto"),
        (devices, 11, "configuration of a ModelProto"),
        (int2_cast_in_a_body, 13, "int2"),
        (float6_value, 14, "float6e2m3"),
    ],
)
def test_stamp_refuses_what_came_later(
    add: Callable[[onnx.ModelProto], None], since: int, feature: str
) -> None:
    model = identity(opset=13, ir_version=7)
    add(model)
    stamp(model, OnnxRequest(13, since))
    assert model.ir_version == since
    with pytest.raises(ContractError) as caught:
        stamp(model, OnnxRequest(13, since - 1))
    assert caught.value.problem == (
        f"the model uses {feature}, which came with ONNX IR version {since}, "
        f"asked for version {since - 1}"
    )
    assert caught.value.remedy.startswith(f"export a module without {feature}, ")
    assert model.ir_version == since
