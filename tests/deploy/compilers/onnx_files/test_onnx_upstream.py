import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import runtimes
from edgeport.deploy import source_of
from edgeport.deploy.compilers.onnx_files import onnx_export
from edgeport.deploy.compilers.onnx_files.onnx_upstream import mended, rules_of_the_operator
from edgeport.deploy.compilers.targets import negotiate
from edgeport.deploy.compilers.upstream import quiet
from edgeport.runtimes import Range


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


def test_casts_are_looked_for_without_computing_all_again(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: Any = import_module("torch.onnx._internal.exporter._fx_passes")
    own = torch.fx.Interpreter.call_function
    computed: list[Any] = []

    def call(interpreter: Any, target: Any, args: Any, options: Any) -> Any:
        computed.append(target)
        return own(interpreter, target, args, options)

    def promoted() -> list[Any]:
        module = copy.deepcopy(program.graph_module)
        computed.clear()
        passes.insert_type_promotion_nodes(module)
        return [node.target for node in module.graph.nodes]

    class Chooses(nn.Module):
        def forward(self, x: Tensor, counts: Tensor) -> Tensor:
            y: Tensor = torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x @ x,))
            return y + counts.cumsum(0)

    program = torch.export.export(Chooses(), (torch.ones(3, 3), torch.ones(3, dtype=torch.int64)))
    monkeypatch.setattr(torch.fx.Interpreter, "call_function", call)
    expected = promoted()
    assert torch.ops.higher_order.cond in computed
    assert torch.ops.aten.matmul.default in computed
    with mended():
        assert promoted() == expected
    assert torch.ops.prims.convert_element_type.default in expected
    assert {torch.ops.higher_order.cond, torch.ops.aten.matmul.default}.isdisjoint(computed)


class Frames(nn.Module):
    """Frames of a signal as views of its memory, as audio packages make them."""

    def forward(self, x: Tensor) -> Tensor:
        frames = (x.shape[-1] - 8) // 4 + 1
        x = torch.nn.functional.pad(x, (0, 3)).contiguous()
        return x.as_strided((*x.shape[:-1], frames, 8), (*x.stride()[:-1], 4, 1))


def test_strides_are_products_of_sizes(tmp_path: Path) -> None:
    free = {"x": {0: "batch", 1: "rows", 2: "time"}}
    ranges = {"time": Range(min=16)}
    source = source_of("net", Frames(), {"x": torch.randn(2, 3, 40)}, free, ranges)
    with quiet():
        onnx_export.dynamo(source, tmp_path, negotiate(None, None))
    x = torch.randn(5, 2, 61)
    with runtimes.open(tmp_path / "model.onnx", backend="ort-cpu") as session:
        (found,) = session.run({"x": x.numpy()}).values()
    np.testing.assert_array_equal(found, Frames()(x).numpy())
