"""What engines say of an index out of range, and of what is their own fault."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from edgeport.runtimes import (
    EngineError,
    InputError,
    Options,
    OutOfMemoryError,
    Session,
    Signature,
    TensorSpec,
    ValuesError,
)
from edgeport.runtimes.libtorch.session import TorchSession
from edgeport.runtimes.ort.cpu import open
from edgeport.runtimes.run_failures import out_of_memory
from edgeport.runtimes.safety.isolation import Limits, run_limited

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
        warnings.filterwarnings("ignore", "`torch.jit")  # of torch.jit
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


PRODUCTS = Signature(
    (TensorSpec("x", "float32", ("n", 1)),), (TensorSpec("y", "float32", ("n", "n")),)
)


class Products(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.transpose(0, 1)


def test_torch_has_no_memory_for_an_answer() -> None:
    with TorchSession("torch", Products(), PRODUCTS, Options(threads=1)) as session:
        fails(session, "torch failed: out of memory: can't allocate memory: you tried to allocate ")


def test_onnx_runtime_has_no_memory_for_an_answer(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"]),
        helper.make_node("Mul", ["x", "turned"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape))
        for spec in (*PRODUCTS.inputs, *PRODUCTS.outputs)
    )
    graph = helper.make_graph(nodes, "g", [x], [y])
    opset = helper.make_opsetid("", 20)
    path = tmp_path / "products.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    with open(path, Options(threads=1)) as session:
        fails(session, "ONNX Runtime failed: out of memory: Failed to allocate memory for request")


def fails(session: Session, how: str) -> None:
    large = {"x": np.ones((30_000, 1), np.float32)}  # 3.6 GB are answered

    def run() -> None:
        session.run(large)

    with pytest.raises(OutOfMemoryError, match=f"^{how}.*\n  fix: end what else takes memory"):
        run_limited(run, Limits(60, 2**30))


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: "
         "std::bad_alloc", "std::bad_alloc"),
        ("env.cc:327 PosixThread pthread_create failed, error code: 12 error msg: Cannot allocate "
         "memory", "Cannot allocate memory"),
        ("MemoryError", "MemoryError"),
        ("Unable to allocate 3.35 GiB for an array", "Unable to allocate 3.35 GiB for an array"),
    ],
)  # fmt: skip  # one message after the other
def test_how_a_lack_of_memory_is_told(reason: str, said: str) -> None:
    assert str(out_of_memory("torch cannot open x.ts", reason)).startswith(
        f"torch cannot open x.ts: out of memory: {said}\n  fix: "
    )
    assert out_of_memory("torch cannot open x.ts", "memory format is not allocated") is None


def test_it_is_an_error_of_the_input_and_of_the_engine() -> None:
    assert issubclass(ValuesError, InputError)
    assert issubclass(ValuesError, EngineError)
