"""What TensorRT says, in the user's terms."""

import json
from pathlib import Path

import pytest
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


@pytest.mark.parametrize(("path", "layer"), [("", "(Sequential)"), ("0_1", "0_1"), (None, None)])
def test_a_layer_may_be_the_whole_a_lost_one_or_unknown(
    path: str | None, layer: str | None
) -> None:
    refused = Refused("parse", (Problem("false", "n", "Det"),))
    assert diagnose("RTX", refused, debug_map(("n", "Det", path)), model()).layer == layer


def test_what_nobody_knows_keeps_its_own_words() -> None:
    found = diagnose("RTX", Refused("build", (Problem("Something else."),)), None, model())
    assert found.problem == "RTX cannot build the graph: Something else."
    assert found.operator is None


def test_a_part_that_tensorrt_made_of_a_node_is_the_node() -> None:
    text = "Input 0's element type (float) differs. (node_arange_shape_U11_mul)"
    nodes = debug_map(("node_arange", "Range", "0"), ("node_arange_1", "Range", "1"))
    found = diagnose("RTX", Refused("build", (Problem(text),)), nodes, model(), narrowed=True)
    assert found.operator == "Range, ONNX node node_arange"
    assert found.layer == "0 (Linear)"
    assert found.problem == f"RTX cannot build Range: {text}"
    assert found.remedy == ("leave --precision out, or write it with operators that TensorRT has")
