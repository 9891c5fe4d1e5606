import inspect
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from edgeport.deploy.compilers.onnx_files.debug_map import NodeOrigin, dumps, read_debug_map
from edgeport.deploy.compilers.upstream import quiet


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return torch.tanh(y)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Block(), nn.ReLU())
        self.module = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.layers(x).mean((2, 3))
        return self.module(y).softmax(-1)


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            return torch.sin(x)
        return torch.exp(x)


class Wrapper(nn.Module):
    """As the exporter wraps a module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.module(*inputs)


def export_dynamo(module: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    with quiet():
        program = torch.onnx.export(module, (example,), dynamo=True, verbose=False)
    assert program is not None
    return program.model_proto


@pytest.fixture(scope="module")
def origins() -> list[NodeOrigin]:
    return read_debug_map(export_dynamo(Wrapper(Net()).eval(), torch.randn(2, 3, 8, 8)))


def origin_of(origins: list[NodeOrigin], operator: str) -> NodeOrigin:
    (origin,) = (origin for origin in origins if origin.operator == operator)
    return origin


def text_of(source: str | None) -> str:
    assert source is not None
    file, _, line = source.rpartition(":")
    return Path(file).read_text().splitlines()[int(line) - 1].strip()


@pytest.mark.parametrize(
    ("operator", "module", "text"),
    [
        ("Conv", "layers.0.conv", "y = self.conv(x)"),
        ("Tanh", "layers.0", "return torch.tanh(y)"),
        ("Relu", "layers.1", "y = self.layers(x).mean((2, 3))"),
        ("ReduceMean", "", "y = self.layers(x).mean((2, 3))"),
        ("Gemm", "module", "return self.module(y).softmax(-1)"),
        ("Softmax", "", "return self.module(y).softmax(-1)"),
    ],
)
def test_modules_and_lines(
    origins: list[NodeOrigin], operator: str, module: str, text: str
) -> None:
    origin = origin_of(origins, operator)
    assert origin.module == module
    assert origin.source is not None
    assert origin.source.startswith(f"{inspect.getsourcefile(Net)}:")
    assert text_of(origin.source) == text


def test_a_body_without_scopes_belongs_to_the_module_around_it() -> None:
    # so dynamo's exporter writes what torch.cond calls
    sin = helper.make_node("Sin", ["x"], ["s"], name="node_sin")
    sin.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['sin']")
    branch = helper.make_graph([sin], "branch", [], [])
    node = helper.make_node("If", ["c"], ["y"], "node_cond", then_branch=branch, else_branch=branch)
    scopes = "['', 'module', 'module.gate', 'cond']"
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    assert read_debug_map(helper.make_model(helper.make_graph([node], "g", [], []))) == [
        NodeOrigin("node_cond", "If", "gate", None),
        NodeOrigin("node_sin", "Sin", "gate", None),
        NodeOrigin("node_sin", "Sin", "gate", None),
    ]


def test_without_notes_nothing_is_claimed() -> None:
    node = helper.make_node("Tokenizer", ["x"], ["y"], domain="com.microsoft")
    function = helper.make_function(
        "local", "twice", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"], name="neg")], []
    )
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "g", [value("x", TensorProto.STRING, [1])], [value("y", TensorProto.STRING, [1])]
    )
    assert read_debug_map(helper.make_model(graph, functions=[function])) == [
        NodeOrigin("y", "com.microsoft.Tokenizer", None, None),
        NodeOrigin("neg", "Neg", None, None),
    ]


TORCH = f"{torch.__path__[0]}/nn/modules/conv.py"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["/home/me/net.py", "/v/site-packages/lib/net.py", TORCH], "/home/me/net.py:1"),
        (["/home/me/net.py", "/home/me/layers.py", TORCH], "/home/me/layers.py:2"),
        (["/v/site-packages/lib/net.py", TORCH], "/v/site-packages/lib/net.py:1"),
        ([TORCH.replace("conv", "linear"), TORCH], f"{TORCH}:2"),
        (
            [inspect.getsourcefile(NodeOrigin), "/home/me/net.py", json.__file__],
            "/home/me/net.py:2",
        ),
        (["/home/me/net.py", "<eval_with_key>.5"], "/home/me/net.py:1"),
        (["<eval_with_key>.5"], None),
    ],
)
def test_the_innermost_line_of_the_user(files: list[str], expected: str | None) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    trace = "\n".join(f'  File "{file}", line {i}, in f' for i, file in enumerate(files, 1))
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=trace)
    model = helper.make_model(helper.make_graph([node], "g", [], []))
    assert [origin.source for origin in read_debug_map(model)] == [expected]


def test_json() -> None:
    assert json.loads(dumps([NodeOrigin("n", "Relu", "act", "net.py:3")])) == {
        "debug_map_version": 1,
        "nodes": [{"node": "n", "operator": "Relu", "module": "act", "source": "net.py:3"}],
    }
