"""What TensorRT says, in the user's terms."""

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from torch import nn

from edgeport.deploy.tensorrt.refusal import diagnose
from edgeport.runtimes.tensorrt.order import Problem, Refused

HERE = Path(__file__)


def code(path: str) -> str:
    lines = HERE.read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if line.startswith(f"# {path}"))
    return f"{HERE}:{number}"


# layers.0  a line of the user's code


def debug_map(*nodes: tuple[str, str, str | None]) -> str:
    return json.dumps(
        {
            "debug_map_version": 1,
            "nodes": [
                {"node": name, "operator": operator, "module": path, "source": code("layers.0")}
                for name, operator, path in nodes
            ],
        }
    )


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU())


@pytest.mark.parametrize(
    ("operator", "text", "problem", "remedy"),
    [
        ("Det", "false", "RTX has no Det", "by its cofactors"),
        (
            "NonZero", "Assertion failed: creator && x: NonZero plugin creator version 1 was not f",
            "RTX has no NonZero", r"torch\.where\(mask, x, 0\)",
        ),
        ("Mine", 'creator && "Plugin not found, are"', "RTX has no Mine", "with operators that"),
        (
            "ScatterElements", "Unsupported reduction type",
            "RTX cannot take ScatterElements as it is: Unsupported reduction type", "one_hot",
        ),
        (
            "Add", "a: X requires inputs with type kFLOAT. But type is UInt8.",
            "RTX has no Add of uint8", r"x\.int\(\) or x\.float\(\)",
        ),
        (
            "Transpose", "I::g: (n: first input has type UInt8 but must have type Float, Half.)",
            "RTX has no Transpose of uint8", r"x\.int\(\) or x\.float\(\)",
        ),
        (
            "Concat", "status.is_success(): Found unsupported input type of UINT8",
            "RTX has no Concat of uint8", r"x\.int\(\) or x\.float\(\)",
        ),
        ("Loop", "first\nsecond", "RTX cannot take Loop as it is: first$", "with operators that"),
    ],
)  # fmt: skip  # as it reads
def test_a_refusal_names_operator_layer_line_and_remedy(
    operator: str, text: str, problem: str, remedy: str
) -> None:
    refused = Refused("parse", (Problem(text, "node_1", operator),))
    found = diagnose("RTX", refused, debug_map(("node_1", operator, "0")), model())
    assert found.layer == "0 (Linear)"
    assert found.operator == f"{operator}, ONNX node node_1"
    assert found.source is not None
    assert found.source.endswith("# layers.0  a line of the user's code")
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(found.problem)
    with pytest.raises(AssertionError, match=remedy):
        raise AssertionError(found.remedy)


def test_a_constant_of_a_dtype_that_tensorrt_has_not(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.UINT64, [2])
    y = helper.make_tensor_value_info("y", TensorProto.UINT64, [2])
    by = helper.make_tensor("val_2", TensorProto.UINT64, [], [3])
    shift = helper.make_node("BitShift", ["x", "val_2"], ["y"], "node_shift", direction="LEFT")
    graph = helper.make_graph([shift], "g", [x], [y], [by])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    said = "In node -1 with name:  and operator:  (importInitializers): UNSUPPORTED_NODE: Failed to"
    refused = Refused("parse", (Problem(f"{said} import initializer: val_2"),))
    nodes = debug_map(("node_shift", "BitShift", "0"))
    found = diagnose("RTX", refused, nodes, model(), file=tmp_path / "m.onnx")
    assert found.problem == "RTX has no BitShift of uint64"
    assert found.operator == "BitShift, ONNX node node_shift"
    assert found.layer == "0 (Linear)"
    assert "x * 8 in place of x << 3" in found.remedy
    other = Refused("parse", (Problem(f"{said} import initializer: val_9"),))
    found = diagnose("RTX", other, nodes, model(), file=tmp_path / "m.onnx")
    assert found.problem.startswith("RTX cannot take the graph as it is: In node -1")


def test_a_search_in_one_dimension() -> None:
    text = "/ArgMax: at least 2 dimensions are required for input."
    refused = Refused("parse", (Problem(text, "/ArgMax", "ArgMax"),))
    found = diagnose("RTX", refused, debug_map(("/ArgMax", "ArgMax", "0")), model())
    assert found.problem == (
        "RTX cannot take ArgMax as it is: at least 2 dimensions are required for input."
    )
    assert found.remedy.startswith("give it a second axis: x.unsqueeze(0).argmax(1)")


def test_a_build_error_names_its_node_in_its_text() -> None:
    text = "Cannot compile operation 'node_10' for Turing (SM75): FP32 GEMM is not supported."
    nodes = debug_map(("node_1", "Relu", "1"), ("node_10", "MatMul", "0"))
    found = diagnose("RTX", Refused("build", (Problem(text),)), nodes, model())
    assert found.problem == (
        "RTX cannot compute MatMul on compute capability 7.5 (Turing): FP32 GEMM is not supported"
    )
    assert (found.layer, found.operator) == ("0 (Linear)", "MatMul, ONNX node node_10")
    assert "leave 7.5 out of --compute-capability" in found.remedy


def test_others_that_are_refused_too_are_counted() -> None:
    problems = tuple(Problem("false", f"n{i}", "Det") for i in range(8))
    found = diagnose("RTX", Refused("parse", problems), None, model())
    assert found.problem == (
        "RTX has no Det; nor does it take Det (n1), Det (n2), Det (n3), Det (n4), Det (n5) and 2 "
        "more"
    )
    assert (found.layer, found.source) == (None, None)


@pytest.mark.parametrize(("path", "layer"), [("", "Sequential"), (None, None)])
def test_a_layer_may_be_the_whole_or_unknown(path: str | None, layer: str | None) -> None:
    refused = Refused("parse", (Problem("false", "n", "Det"),))
    assert diagnose("RTX", refused, debug_map(("n", "Det", path)), model()).layer == layer


def test_what_nobody_knows_keeps_its_own_words() -> None:
    found = diagnose("RTX", Refused("build", (Problem("Something else."),)), None, model())
    assert found.problem == "RTX cannot build the graph: Something else."
    assert found.operator is None


def test_a_defect_of_its_compiler_is_told_as_one() -> None:
    text = "MyelinCheckException: utils.cpp:3613: CHECK(i < op->input_size()) failed."
    found = diagnose("RTX", Refused("build", (Problem(text),)), None, model())
    assert found.problem == f"RTX cannot build the graph: {text}"
    told = "try another release of TensorRT, or use ort-cuda: this is a defect of its compiler"
    assert found.remedy == told
    found = diagnose("RTX", Refused("build", (Problem(text),)), None, model(), narrowed=True)
    assert found.remedy == f"leave --precision out, or {told}"


def test_a_part_that_tensorrt_made_of_a_node_is_the_node() -> None:
    text = "Input 0's element type (float) differs. (node_arange_shape_U11_mul)"
    nodes = debug_map(("node_arange", "Range", "0"), ("node_arange_1", "Range", "1"))
    found = diagnose("RTX", Refused("build", (Problem(text),)), nodes, model(), narrowed=True)
    assert found.operator == "Range, ONNX node node_arange"
    assert found.layer == "0 (Linear)"
    assert found.problem == f"RTX cannot build Range: {text}"
    assert found.remedy == ("leave --precision out, or write it with operators that TensorRT has")


def test_a_branch_within_a_branch_that_stays_is_named(tmp_path: Path) -> None:
    onnx.save(
        onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 20]>
            g (bool c, float x) => (float y) {
                y = If (c) <
                    then_branch = then () => (float a) { a = Neg(x) },
                    else_branch = other () => (float b) {
                        [node_1] b = If (c) <
                            then_branch = inner () => (float d) { d = Abs(x) },
                            else_branch = last () => (float e) { e = Identity(x) }
                        >
                    }
                >
            }"""),
        tmp_path / "m.onnx",
    )
    text = "MyelinCheckException: utils.cpp:3613: CHECK(static_cast<size_t>(i) < op->input_size())"
    map_ = debug_map(("node_1", "If", "0"))
    refused = Refused("build", (Problem(text),))
    found = diagnose("RTX", refused, map_, model(), file=tmp_path / "m.onnx")
    assert found.problem == "RTX cannot build If: it is a branch within a branch, of which it fails"
    assert (found.operator, found.layer) == ("If, ONNX node node_1", "0 (Linear)")
    assert found.remedy.startswith("compute both sides and choose: torch.where(condition, a, b)")


def test_what_stands_in_the_place_of_an_operator_has_its_line() -> None:
    map_ = debug_map(("node_1", "DFT", "0"))
    refused = Refused("parse", (Problem("no", "node_1/trt3", "MatMul"),))
    found = diagnose("RTX", refused, map_, model())
    assert (found.operator, found.layer) == ("MatMul, ONNX node node_1", "0 (Linear)")
