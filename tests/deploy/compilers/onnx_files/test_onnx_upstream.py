from importlib import import_module
from typing import Any

import pytest

from edgeport.deploy.compilers.onnx_files.onnx_upstream import rules_of_the_operator


def test_a_node_is_asked_of_the_rules_of_its_operator_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ir: Any = import_module("onnx_ir")
    rewriter: Any = import_module("onnxscript.rewriter")
    own = rewriter.RewriteRule.match
    asked: list[tuple[str, str]] = []

    def match(rule: Any, model: Any, graph: Any, node: Any, **options: Any) -> Any:
        asked.append((node.op_type, rule._target_pattern.output_nodes[0].op_type))
        return own(rule, model, graph, node, **options)

    def rewritten() -> list[str]:
        model = ir.from_onnx_text(
            """<ir_version: 10, opset_import: ["" : 20]> g (float[4, 2] x) => (float[4, 2] y) {
                t = Transpose <perm = [1, 0]> (x)
                u = Transpose <perm = [1, 0]> (t)
                one = Constant <value = float {1}> ()
                z = Mul (one, u)
                a = Relu (z)
                b = Relu (a)
                y = Tanh (b)
            }"""
        )
        return [node.op_type for node in rewriter.rewrite(model).graph]

    monkeypatch.setattr(rewriter.RewriteRule, "match", match)
    with rules_of_the_operator():
        found = rewritten()
    assert len(asked) < 20
    assert all(of_node == of_rule for of_node, of_rule in asked)
    assert rewritten() == found
    assert [each for each in found if each != "Identity"] == ["Relu", "Tanh"]
    assert len(asked) > 200
