"""What engines say of an index out of range, and of what is their own fault."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from edgeport.runtimes import EngineError, InputError, Options, Signature, TensorSpec, ValuesError
from edgeport.runtimes.libtorch.calls import TorchSession
from edgeport.runtimes.ort.cpu import open

TABLE = np.arange(6, dtype=np.float32).reshape(3, 2)
INDEX = Signature(
    (TensorSpec("index", "int64", ("n", 1)),), (TensorSpec("y", "float32", ("a", "b")),)
)
REFUSED = r"{} refused the values of an input: .*\n  fix: keep every index within its table"


@pytest.mark.parametrize(
    ("operator", "others"),
    [
        ("Gather", {}),
        ("GatherElements", {}),
        ("GatherND", {}),
        ("ScatterElements", {"updates": np.ones((1, 1), np.float32)}),
        ("ScatterND", {"updates": np.ones((1, 2), np.float32)}),
    ],
)
def test_onnx_runtime_refuses_an_index(
    tmp_path: Path, operator: str, others: dict[str, Any]
) -> None:
    constants = {"table": TABLE, **others}
    graph = helper.make_graph(
        [helper.make_node(operator, ["table", "index", *others], ["y"])],
        "g",
        [helper.make_tensor_value_info("index", TensorProto.INT64, ["n", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", 20)
    path = tmp_path / "model.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()
    )
    with open(path, Options(threads=1)) as session:
        for _ in range(3):  # the second call goes through buffers of its own
            session.run({"index": np.array([[2]])})
        with pytest.raises(ValuesError, match=REFUSED.format("ONNX Runtime")):
            session.run({"index": np.array([[3]])})


class Embedding(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Buffer(torch.from_numpy(TABLE))

    def forward(self, index: Tensor) -> Tensor:
        return torch.nn.functional.embedding(index[:, 0], self.table)


class Indexed(Embedding):
    def forward(self, index: Tensor) -> Tensor:
        return self.table[index[:, 0]]


class Gathered(Embedding):
    def forward(self, index: Tensor) -> Tensor:
        return self.table.gather(0, index)


class OneHot(Embedding):
    def forward(self, index: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(index[:, 0], 3).float()


@pytest.mark.parametrize("compiled", ["script", "trace", "pt2"])
@pytest.mark.parametrize("kind", [Embedding, Indexed, Gathered, OneHot])
def test_torch_refuses_an_index(kind: type[Embedding], compiled: str) -> None:
    module, example = kind().eval(), torch.tensor([[2]])
    jit: Any = torch.jit  # it has no types
    call: Any
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit
        if compiled == "script":
            call = jit.script(module)
        elif compiled == "trace":
            call = jit.trace(module, (example,))
        else:
            call = torch.export.export(module, (example,)).module()
    with TorchSession("torch", call, INDEX, Options(threads=1)) as session:
        for _ in range(3):
            session.run({"index": np.array([[2]])})
        with pytest.raises(ValuesError, match=REFUSED.format("torch")):
            session.run({"index": np.array([[3]])})


def test_it_is_an_error_of_the_input_and_of_the_engine() -> None:
    assert issubclass(ValuesError, InputError)
    assert issubclass(ValuesError, EngineError)
