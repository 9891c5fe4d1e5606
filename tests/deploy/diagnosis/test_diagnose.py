"""Real failures of the real compilers. The line of a module that fails ends in ``# here``."""

import copy
import importlib
import inspect
import io
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport.deploy.compilers.operators.quotients import LostSizeError
from edgeport.deploy.compilers.upstream import quiet
from edgeport.deploy.diagnosis.diagnose import Diagnosis, diagnose
from edgeport.deploy.diagnosis.remedies import (
    CHOSEN_LAYER,
    CUSTOM_OPERATOR,
    DECOMPOSITIONS,
    FIXED,
    HIDDEN,
    QUANTISED,
    REMEDIES,
    Family,
)
from edgeport.runtimes import ContractError, ParityError, UsageError

# ---- the compilers, as edgeport calls them


class Flat(nn.Module):
    """What compilers get: tensors in, a tuple of tensors out."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        result = self.module(*inputs)
        if not isinstance(result, Tensor):
            raise TypeError(f"an output is a {type(result).__name__}, not a tensor")
        return (result,)


class Network(nn.Module):
    """Gives the layer that fails a path: ``layers.1``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), layer])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


Axes = Mapping[int, str]


def pt2(flat: nn.Module, x: Tensor, axes: Axes, *, strict: bool = False) -> None:
    sizes = {axis: torch.export.Dim(name, min=1, max=1000) for axis, name in axes.items()}
    torch.export.export(flat, (x,), dynamic_shapes=((sizes,),), strict=strict)


def pt2_strict(flat: nn.Module, x: Tensor, axes: Axes) -> None:
    pt2(flat, x, axes, strict=True)


def onnx_dynamo(flat: nn.Module, x: Tensor, axes: Axes) -> None:
    shapes: Any = ((dict(axes),),)
    torch.onnx.export(flat, (x,), dynamic_shapes=shapes, dynamo=True, verbose=False)


def script(flat: Any, x: Tensor, axes: Axes) -> None:
    torch.jit.script(flat.module)


def trace(flat: nn.Module, x: Tensor, axes: Axes) -> None:
    traced = torch.jit.trace(flat, (x,), check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(torch.jit.freeze(traced), io.BytesIO())


Compiler = Callable[[nn.Module, Tensor, Axes], None]


def refusal(compiler: Compiler, module: nn.Module, x: Tensor, axes: Axes) -> Diagnosis:
    flat = Flat(module).eval()
    with quiet():
        try:
            with torch.no_grad():
                compiler(flat, x, axes)
        except Exception as e:
            return diagnose(e, flat)
    raise AssertionError("it compiles")


# ---- modules that are refused


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:  # here
            return x + 1
        return x - 1


class NumberBranch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        total = x.sum().item()
        return x if total > 0 else -x  # here


class Loop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        while x.abs().sum() > 1:  # here
            x = x / 2
        return x


class Suppression(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        order = x[:, 0].argsort()
        keep = []
        while order.numel() > 0:  # here
            keep.append(order[0])
            order = order[1:][x[order[1:], 1] > 0]
        return torch.stack(keep)


class Prefix(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        length = int(x.abs().sum().item()) % 3 + 1  # here
        return x[:, :length]


class Shifts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.long() & x.shape[0]  # here


class Repeat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        count = int(x.abs().sum())
        for step in range(count):  # here
            x = x + step
        return x


class Listed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + len("".join(str(value) for value in x.flatten().tolist()))  # here


class Least(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.linalg.lstsq(x, x[..., :1]).solution  # here
        return found


class Ctc(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        one = torch.ones(1, 1, dtype=torch.int64)
        return nn.functional.ctc_loss(x.unsqueeze(1), one, one[0] * 2, one[0])  # here


class OneHot(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = nn.functional.one_hot(x.long())  # here
        return found


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if torch.equal(x, x.abs()) else -x  # here


class Exponential(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.linalg.matrix_exp(x[:, :, None] * x[:, None])  # here
        return found


class Median(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x.median(1).values  # here
        return found


class Scans(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumprod(0)  # here


class Inverse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.linalg.inv(x.T @ x + torch.eye(4))  # here
        return found


class Sparse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.sparse.mm(x.to_sparse(), x.T)  # here
        return found


class Viewed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(3, 4) * 2  # here


class Expanded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias  # here


class Rows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[row] * row for row in range(x.shape[0])])  # here


class Long(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[0] >= 3 else x  # here


class Counted(nn.Module):
    """What is free while a module is compiled is no line that fixes a size."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.reshape(x.shape[:2].numel())
        return torch.stack([y] * x.shape[0])  # here


class Grows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found: list[Tensor] = []
        for row in range(x.shape[0]):  # here
            found.append(x[row] * 2)
        return torch.stack(found)


class Blocks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found: list[Tensor] = []
        for block in range((x.shape[0] + 7) // 8):  # here
            found.append(x[block * 8 : block * 8 + 8].cumsum(0))
        return torch.cat(found)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.rnn(x)[0]  # here
        return found


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.full((x.shape[0],), 4)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        found, _ = self.rnn(packed)  # here
        return nn.utils.rnn.pad_packed_sequence(found, batch_first=True)[0]


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        return x.sign()


class Binarised(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return _StraightThrough.apply(x)  # type: ignore[no-untyped-call]


class Counter(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        self.count = 1  # here
        return x


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = x * 2  # type: ignore[assignment]
        return x


class Shared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:1].expand(2, 4).add_(1)  # here


class Grown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        self.scale = nn.Parameter(torch.ones(4))  # here
        return x * self.scale


class Text(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return "text"


class Keywords(nn.Module):
    def forward(self, x: Tensor, **options: int) -> Tensor:  # here
        return x + 1


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.settings = {"a": 1, "b": "x"}

    def forward(self, x: Tensor) -> Tensor:
        return x if "a" in self.settings else -x  # here


@dataclass
class Config:
    width: int = 2


class Unread:
    """As what decorators make of a configuration: its ``__init__`` is in no file."""

    width = 2
    exec(compile("def __init__(self): self.depth = 1", "<made>", "exec"))  # <string>: python -c


class Configured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = Config()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.config.width  # here


class Decorated(nn.Module):
    config: Unread

    def __init__(self) -> None:
        super().__init__()
        self.config = Unread()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.config.width


class Parent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


class Child(Parent):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2  # here


class Guarded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        try:  # here
            return x + 1
        except ValueError:
            return x


class Numpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.tanh(x.detach().numpy()))  # here


class WrongSize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.ones(5, 2)  # here


class Huge(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum() + torch.zeros(10**14)  # here


class Pooled(nn.Module):
    """Pooling would fix the size too, but no route of ours lets it."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.max_pool1d(x.T, 3, 1, 1).T
        rows = [row.softmax(0) for row in pooled]  # here
        return torch.stack(rows)


class Even(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[::2] if x.shape[0] % 2 == 0 else x[1:]  # here


class Halves(nn.Module):
    """The first question of a size has one answer alone, which torch cannot solve."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        if (rows * rows + rows) % 2:
            return x
        return x * 2 if rows // 2 * 2 < rows else x  # here


class Address(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x.data_ptr() % 7)  # here


saved = io.BytesIO()
torch.save(torch.ones(4), saved)
SAVED = saved.getvalue()


class Reworded(nn.Module):
    """As a library that says what may be the matter: the line is that of the cause."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.least(x)

    @staticmethod
    def least(x: Tensor) -> float:
        try:
            return Reworded.bound(x)
        except Exception as e:
            raise RuntimeError("there may be too little memory") from e

    @staticmethod
    def bound(x: Tensor) -> float:
        return max(x.min().item(), 0.5)  # here


class Loads(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = torch.load(io.BytesIO(SAVED))  # here
        return x * weight


class LooksUp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ways = nn.ModuleDict({"0": nn.Identity(), "1": nn.Linear(4, 4)})

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.ways[str(x.shape[0] % 2)](x)
        return y


class Caches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        if rows not in self.cache:  # here
            self.cache[rows] = torch.ones(rows, 1)
        return x + self.cache[rows]


class Chooses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Identity(), nn.Linear(4, 4)])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.experts[int(x.sum()) % 2](x)
        return y


class Undefined(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        while x.sum() > 1:
            y = x / 2
            x = y
        return y  # pyright: ignore[reportPossiblyUnboundVariable]


class Table(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.ones(8, 1)[: x.shape[0]]  # here


@torch.library.custom_op("edgeport_tests::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2


class Registered(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = twice(x)  # here
        return y


# ---- what is said of them


@dataclass(frozen=True)
class Case:
    compiler: Compiler
    layer: Callable[[], nn.Module]
    family: Family
    operator: str | None = None
    remedy: str = ""
    problem: str = ""
    line: bool = True

    @property
    def id(self) -> str:
        return f"{self.compiler.__name__} {getattr(self.layer, '__name__', '')}"


CASES = [
    *(
        Case(compiler, module, Family.CONTROL_FLOW, None, "torch.where")
        for module in (Branch, Loop, NumberBranch, Suppression)
        for compiler in (pt2, pt2_strict)
    ),
    Case(pt2, Reworded, Family.SIZE, None, "tensor.shape", "comes from the values"),
    Case(pt2, Same, Family.CONTROL_FLOW, None, "torch.where", "by the values"),
    Case(onnx_dynamo, Exponential, Family.OPERATOR, "aten.linalg_matrix_exp.default", "Rodrigues"),
    Case(pt2, Prefix, Family.SIZE, None, "tensor.shape"),
    Case(pt2_strict, Repeat, Family.SIZE, None, "tensor.shape"),
    Case(pt2_strict, Listed, Family.SIZE, None, "tolist"),
    Case(
        pt2,
        Least,
        Family.OPERATOR,
        "aten.linalg_lstsq.default",
        "torch.linalg.solve(a.mT @ a, a.mT @ b)",
    ),
    Case(pt2, Ctc, Family.OPERATOR, "aten._ctc_loss.Tensor", "return the log-probabilities"),
    Case(pt2, OneHot, Family.SIZE, None, "tensor.shape"),
    Case(pt2_strict, OneHot, Family.SIZE, None, "tensor.shape"),
    Case(
        onnx_dynamo, Shifts, Family.OPERATOR, "aten.bitwise_and.Scalar", "", "is given a free size"
    ),
    Case(onnx_dynamo, Scans, Family.OPERATOR, "prims.prod.default", "declare how large the dim"),
    Case(onnx_dynamo, Inverse, Family.OPERATOR, "aten.linalg_inv_ex.default", "at most 8 x 8"),
    Case(onnx_dynamo, Median, Family.OPERATOR, "aten.median.dim", "sort and index"),
    Case(pt2, Sparse, Family.OPERATOR, "aten._to_sparse.default", "TorchScript may hold it"),
    Case(pt2_strict, Sparse, Family.OPERATOR, "aten._to_sparse.default", problem="captured"),
    *(
        Case(compiler, module, Family.DIMENSION, None, "tensor.shape", "'batch' to 3")
        for module in (Viewed, Expanded, Rows)
        for compiler in (pt2, pt2_strict)
    ),
    Case(pt2, Pooled, Family.DIMENSION, None, "tensor.shape", "'batch' to 3"),
    Case(pt2, Grows, Family.DIMENSION, None, "in place of a list that grows", "'batch' to 3"),
    Case(pt2, Counted, Family.DIMENSION, None, "y.expand(size, *y.shape)", "'batch' to 3"),
    Case(onnx_dynamo, Viewed, Family.DIMENSION, None, "tensor.shape", "'batch' to 3"),
    Case(
        pt2,
        Even,
        Family.DIMENSION,
        None,
        "declare the step, batch:2..:2,",
        "asks whether the dimension 'batch' is a multiple of 2",
    ),
    Case(pt2, Halves, Family.DIMENSION, None, "tensor.shape", "or allows some sizes only"),
    Case(
        pt2,
        Table,
        Family.DIMENSION,
        None,
        "declare the largest size, batch<=8,",
        "takes the dimension 'batch' up to 8 alone",
    ),
    Case(
        pt2,
        Blocks,
        Family.DIMENSION,
        None,
        "in place of a list that grows",
        "loops as often as the dimension 'batch' tells",
    ),
    Case(
        pt2,
        Long,
        Family.DIMENSION,
        None,
        "declare the smallest size, batch:3..,",
        "takes the dimension 'batch' from 3 on alone",
    ),
    *(
        Case(compiler, Address, Family.PYTHON, None, "addresses", "an address of memory")
        for compiler in (pt2, script)
    ),
    Case(pt2, Loads, Family.PYTHON, None, "load it in __init__", "forward loads a file"),
    Case(pt2, LooksUp, Family.PYTHON, None, "choose with if", "the key of a look-up", line=False),
    Case(pt2, Caches, Family.PYTHON, None, "make anew in each call", "the key of a look-up"),
    Case(
        script,
        Chooses,
        Family.CONTROL_FLOW,
        None,
        "ask each layer",
        "no layer is chosen",
        line=False,
    ),
    Case(script, Undefined, Family.PYTHON, None, "give it a value", "no value of 'y'", line=False),
    Case(
        pt2,
        Registered,
        Family.OPERATOR,
        None,
        "write what it computes with torch functions",
        "edgeport_tests.twice is no operator of torch",
    ),
    Case(trace, Binarised, Family.AUTOGRAD, None, "in place of .apply", "_StraightThrough"),
    Case(script, Counter, Family.MUTATION, None, "buffer", "'count'"),
    Case(script, Last, Family.MUTATION, None, "buffer"),
    Case(trace, Shared, Family.MUTATION, None, "new tensors"),
    Case(pt2_strict, Grown, Family.MUTATION, None, "new tensors"),
    Case(script, Keywords, Family.PYTHON, None, "--format", "variable number of arguments"),
    Case(script, Mixed, Family.PYTHON, None, "annotate", "'settings' of Mixed: a dict"),
    Case(script, Child, Family.PYTHON, None, "--format", "forward"),
    Case(
        script,
        Configured,
        Family.PYTHON,
        None,
        "keep what forward reads of such an object in attributes of the module",
        "TorchScript cannot hold the attribute 'config' of Configured: a Config",
    ),
    Case(
        script,
        Decorated,
        Family.PYTHON,
        None,
        "keep what forward reads of such an object in attributes of the module",
        "TorchScript cannot read the source of __init__",
        line=False,
    ),
    Case(script, Guarded, Family.PYTHON, None, "--format", "TorchScript: try blocks"),
    Case(pt2, Numpy, Family.PYTHON, None, "torch's function of the same name", "numpy"),
    Case(script, Numpy, Family.PYTHON, None, "torch's function of the same name", line=False),
    *(
        Case(compiler, WrongSize, Family.FORWARD, None, "eager mode runs this line", problem)
        for compiler, problem in (
            (pt2, "same reduction dim"),
            (pt2_strict, "same reduction dim"),
            (trace, "cannot be multiplied"),
        )
    ),
    Case(trace, Huge, Family.MEMORY, None, "memory"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_refusal_says_what_happened_where_and_what_to_do(case: Case) -> None:
    layer = case.layer()
    found = refusal(case.compiler, Network(layer), torch.ones(3, 4), {0: "batch"})
    assert (found.family, found.operator) == (case.family, case.operator)
    assert case.problem in found.problem
    assert case.remedy in found.remedy
    if case.line:
        assert found.layer == f"layers.1 ({type(layer).__name__})"
        assert found.source == here(type(layer))
    assert_readable(found)


def here(kind: type[nn.Module]) -> str:
    """The line that ends in the comment, or in mypy's: torch.jit reads ``# type:`` to the end."""
    lines, start = inspect.getsourcelines(kind)
    ends = ("# here", "assignment]", "call]")
    number, line = next((i, line) for i, line in enumerate(lines) if line.rstrip().endswith(ends))
    return f"tests/deploy/diagnosis/test_diagnose.py:{start + number}  {line.strip()}"


def assert_readable(found: Diagnosis) -> None:
    assert "\n" not in found.problem
    assert 0 < len(found.problem) <= 200
    assert not re.search(r"/\w+/\w+|TORCH|0x|\x1b", found.problem)
    assert found.remedy


@pytest.mark.parametrize("compiler", [pt2, pt2_strict])
def test_a_recurrent_layer_over_a_free_time(compiler: Compiler) -> None:
    found = refusal(compiler, Recurrent(), torch.randn(2, 5, 4), {0: "batch", 1: "time"})
    assert found.family == Family.RECURRENT
    assert found.problem == "a recurrent layer fixes the dimension 'time' to 5"
    assert (found.layer, found.source) == ("rnn (LSTM)", here(Recurrent))
    assert "another may hold this recurrent layer" in found.remedy


@pytest.mark.parametrize("compiler", [pt2, pt2_strict])
def test_packed_sequences(compiler: Compiler) -> None:
    found = refusal(compiler, Packed(), torch.randn(2, 5, 4), {0: "batch"})
    assert found.family == Family.RECURRENT
    assert "padded tensors" in found.remedy
    assert found.source is not None


@pytest.mark.parametrize("compiler", [pt2, pt2_strict, trace])
def test_an_output_that_is_no_tensor_is_of_the_whole_module(compiler: Compiler) -> None:
    found = refusal(compiler, Text(), torch.ones(2, 4), {0: "batch"})
    assert found.family == Family.OUTPUT
    assert found.problem == "an output is of type str, not a tensor"
    assert (found.layer, found.source) == ("Text", None)


def test_a_class_that_torchscript_refused_before() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            total: Tensor = x + sum(x.tolist())
            return total

    first, second = (refusal(script, Twice(), torch.ones(2), {}) for _ in range(2))
    assert first.problem == "TorchScript: Expected type hint for result of tolist()"
    assert second.problem == "TorchScript has refused Twice before"
    assert "fresh process" in second.remedy


REMARKED = """
from torch import Tensor, nn
class Remarked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x + 1  # type: ignore  # a remark
        return y * 2
"""


def test_a_type_comment_that_torchscript_misreads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "remarked.py").write_text(REMARKED)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("remarked").Remarked()
    found = refusal(script, module, torch.ones(2), {})
    assert found.problem == "TorchScript reads a comment as a type"
    assert "# type: ignore" in found.remedy


def test_one_of_several_layers_of_a_class() -> None:
    """A message names a line; which of the layers ran it is not said."""
    found = refusal(pt2_strict, nn.Sequential(Branch(), Branch()), torch.ones(2), {})
    assert found.layer == "0 (Branch), one of 2 of its class"


def test_a_decorated_forward_has_its_layer() -> None:
    class Decorated(nn.Module):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:
                return x
            return -x

    found = refusal(pt2_strict, nn.Sequential(nn.Identity(), Decorated()), torch.ones(2), {})
    assert (found.family, found.layer) == (Family.CONTROL_FLOW, "1 (Decorated)")


def test_a_copy_of_the_module_is_known() -> None:
    flat = Flat(Network(Branch())).eval()
    with quiet(), pytest.raises(Exception, match="data-dependent") as raised:
        pt2(copy.deepcopy(flat), torch.ones(3, 4), {0: "batch"})
    assert diagnose(raised.value, flat).layer == "layers.1 (Branch)"


def test_scripted_code_whose_source_is_gone() -> None:
    """TorchScript's message ends with the lines of who calls it, which are nobody's fault."""
    buffer = io.BytesIO()
    with quiet():
        torch.jit.save(torch.jit.script(Branch()), buffer)
        buffer.seek(0)
        loaded: Any = torch.jit.load(buffer)  # type: ignore[no-untyped-call]
    found = refusal(onnx_dynamo, loaded, torch.ones(3, 4), {0: "batch"})
    assert_readable(found)
    assert found.family == Family.CONTROL_FLOW
    assert found.problem == "forward decides by the values of a tensor"
    assert found.layer == "Branch"


def test_errors_of_our_own_keep_their_words() -> None:
    asked = ContractError("asked for opset 20, got 18", remedy="ask for another")
    found = diagnose(asked, nn.Identity())
    assert (found.family, found.problem, found.remedy) == (
        Family.CONTRACT,
        asked.problem,
        asked.remedy,
    )
    assert diagnose(ParityError("no", remedy="yes"), nn.Identity()).family == Family.PARITY
    assert diagnose(UsageError("no", remedy="yes"), nn.Identity()).family == Family.UNKNOWN


@pytest.mark.parametrize(
    ("error", "family", "problem"),
    [
        (MemoryError(), Family.MEMORY, "there is not enough memory"),
        (TimeoutError("60 s"), Family.TIMEOUT, "it took too long"),
        (RuntimeError("odd {} words\nand more"), Family.UNKNOWN, "RuntimeError: odd {} words"),
        (KeyError(), Family.UNKNOWN, "KeyError"),
        (
            LostSizeError("a number that is made of values"),
            Family.SIZE,
            "forward makes a number of values, for which the file would keep no condition",
        ),
        (
            RuntimeError(
                'isIntList() INTERNAL ASSERT FAILED at "/a/b.h":1981, please report a bug to '
                "PyTorch. Expected IntList but got GenericList"
            ),
            Family.UNKNOWN,
            "torch fails in itself: Expected IntList but got GenericList",
        ),
    ],
)
def test_errors_without_a_place(error: Exception, family: Family, problem: str) -> None:
    found = diagnose(error, Flat(nn.Identity()))
    assert (found.family, found.problem) == (family, problem)
    assert found.remedy == REMEDIES[family]
    assert (found.layer, found.operator, found.source) == (None, None, None)


@pytest.mark.parametrize(
    ("error", "problem", "remedy"),
    [
        (
            LostSizeError("int() of a value"),
            "int() makes a number of Python's of a tensor's values",
            f"keep it in a tensor; to choose by it, {CHOSEN_LAYER}",
        ),
        (
            LostSizeError("len() of a free size"),
            "len() of a tensor makes a number of a free size",
            "ask for x.shape[0] in place of len(x); or declare the dimension fixed: write its size "
            "in place of its name",
        ),
        (
            AttributeError("__torch__.torch.classes.quantized.LinearPackedParamsBase has no field"),
            "quantised modules of torch.ao hold packed weights",
            QUANTISED,
        ),
        (
            RuntimeError("ONNX export failed on an operator with unrecognized namespace my::op."),
            "my.op is no operator of torch",
            CUSTOM_OPERATOR,
        ),
        (
            RuntimeError("Cannot insert a Tensor that requires grad as a constant. Consider"),
            "a part of forward is hidden from the compiler",
            HIDDEN,
        ),
        (
            RuntimeError("a.cpp:8834: SymIntArrayRef expected to contain only concrete integers"),
            "an operator in this line takes no free size",
            f"{FIXED}; or leave the format out with --format: another may hold it",
        ),
        (
            NotImplementedError("forward keeps 'cache' from call to call"),
            "forward keeps 'cache' from call to call",
            REMEDIES[Family.MUTATION],
        ),
    ],
)
def test_what_has_a_remedy_of_its_own(error: Exception, problem: str, remedy: str) -> None:
    found = diagnose(error, Flat(nn.Identity()))
    assert (found.problem, found.remedy) == (problem, remedy)


def test_whatever_goes_wrong_inside_the_user_gets_the_words() -> None:
    class Broken(nn.Module):
        def named_modules(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("inside")

    assert diagnose(ValueError("outside"), Broken()).problem == "ValueError: outside"


def test_a_diagnosis_travels_between_processes_and_to_json() -> None:
    found = Diagnosis(family=Family.CRASH, problem="SIGSEGV", remedy="none")
    assert pickle.loads(pickle.dumps(found)) == found
    assert found.to_json() == {
        "family": "crash",
        "problem": "SIGSEGV",
        "remedy": "none",
        "layer": None,
        "operator": None,
        "source": None,
    }


def test_every_family_has_a_remedy() -> None:
    assert set(REMEDIES) == set(Family)


def test_the_decompositions_compute_what_the_operators_compute() -> None:
    torch.manual_seed(0)
    x, a, b = torch.rand(3, 5) + 0.1, torch.rand(4, 5), torch.rand(3, 5)
    edges, labels = torch.sort(torch.rand(3, 6)).values, torch.tensor([0, 2, 2, 1])
    values = {"x": x, "a": a, "b": b, "dim": 1, "k": 2, "p": 3.0, "labels": labels, "classes": 3}
    truth: dict[str, Tensor] = {
        "median": x.median(1).values,
        "kthvalue": x.kthvalue(2, 1).values,
        "cdist": torch.cdist(a, b, p=3.0),
        "searchsorted": torch.searchsorted(edges, x),
        "bucketize": torch.bucketize(x, edges[0]),
        "bincount": torch.bincount(labels),
        "fmax": torch.fmax(a[:3], b),
        "fmin": torch.fmin(a[:3], b),
        "histogram": torch.histogram(x, 2, range=(0.0, 1.0)).hist,
    }
    assert set(truth) == set(DECOMPOSITIONS)
    for name, expected in truth.items():
        code = DECOMPOSITIONS[name].split("`")[1]
        given = values | {"torch": torch, "edges": edges[0] if name == "bucketize" else edges}
        given |= {"a": a[:3]} if name in ("fmax", "fmin") else {}
        torch.testing.assert_close(eval(code, given), expected)


@pytest.mark.parametrize(
    ("error", "family", "problem"),
    [
        (
            AttributeError("'RecursiveScriptModule' object has no attribute 'forward'"),
            Family.PYTHON,
            "TorchScript has not compiled forward",
        ),
        (
            NotImplementedError(
                "a list grows in a branch, or is read in the loop in which it grows"
            ),
            Family.CONTROL_FLOW,
            "in TorchScript, a list grows in a branch, or is read in the loop in which it grows",
        ),
        (
            RuntimeError(
                "Tracer cannot set value trace for type None. Supported types are tensor, "
                "tensor list, and tuple of tensors."
            ),
            Family.PYTHON,
            "forward returns None beside tensors, which a script cannot pass on",
        ),
        (
            RuntimeError("body_fn might be modifying the input!"),
            Family.MUTATION,
            "a branch or a loop, as of torch.cond and torch.while_loop, writes into what it is "
            "given, or returns it",
        ),
        (
            RuntimeError(
                "Attempting to use FunctionalTensor on its own. Instead, please use it with a "
                "corresponding FunctionalTensorMode()"
            ),
            Family.MUTATION,
            "a branch or a loop, as of torch.cond and torch.while_loop, writes into a tensor from "
            "outside",
        ),
    ],
    ids=["no forward", "growing list", "None", "writes into arguments", "writes outside"],
)
def test_refusals_of_the_script_route(error: Exception, family: Family, problem: str) -> None:
    found = diagnose(error, Flat(nn.Linear(2, 2)))
    assert (found.family, found.problem) == (family, problem)
