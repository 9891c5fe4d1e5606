"""Whatever dtypes a module's code asks for, the oracle answers in float64."""

import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport.deploy import make_call, make_source
from edgeport.deploy.proof.oracle import Answer, Oracle
from edgeport.deploy.sources.running import run_module
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import TensorSpec
from edgeport.runtimes.inputs import Array

MATRIX = torch.randn(3, 3, generator=torch.Generator().manual_seed(3))


class Head(nn.Module):
    """A layer, and constants in every place where a module may keep them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.plain = torch.eye(3)
        self.listed = [torch.eye(3)]
        self.register_buffer("turn", torch.polar(torch.ones(3), torch.zeros(3)))
        with warnings.catch_warnings():  # torch 2.13 deprecates it
            warnings.filterwarnings("ignore", "`torch.jit")
            self.inner = torch.jit.script(Scripted())


class Scripted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.float32) @ torch.eye(3, dtype=torch.float32)


class Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.float().to(torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError


def checks_its_dtype(head: Any, x: Tensor) -> Tensor:
    if x.dtype != torch.float32 or x.dtype is not torch.get_default_dtype():
        raise TypeError("float32 only")
    return {torch.float32: head.head}[x.dtype](x)  # type: ignore[no-any-return]  # Any


def writes_to_out(head: Any, x: Tensor) -> Tensor:
    out = torch.zeros(len(x), 3, dtype=torch.float32)
    torch.add(head.head(x), 0, out=out)
    return torch.zeros_like(out, dtype=torch.half).copy_(out)


def masks(head: Any, x: Tensor) -> Tensor:
    y = head.head(x)
    least = torch.finfo(y.dtype).min
    return torch.where(y > least / 2, y, torch.full_like(y, least))


KEEPS_ITS_VALUE = {  # whatever they do, each is the linear layer
    "type, by name": lambda head, x: head.head(x).type("torch.FloatTensor"),
    "type, by class": lambda head, x: head.head(x).type(torch.FloatTensor),
    "type_as": lambda head, x: head.head(x).type_as(head.plain),
    "to a tensor": lambda head, x: head.head(x).to(head.plain),
    "to a device": lambda head, x: head.head(x).to("cpu", torch.float16, copy=True),
    "a plain tensor": lambda head, x: head.head(x) @ head.plain,
    "a list of tensors": lambda head, x: head.head(x) @ head.listed[0],
    "a complex buffer": lambda head, x: (head.head(x) * head.turn).real,
    "complex64": lambda head, x: torch.fft.ifft(torch.fft.fft(head.head(x).cfloat())).real,
    "numpy in": lambda head, x: head.head(x) @ torch.from_numpy(np.eye(3, dtype=np.float32)),
    "numpy and back": lambda head, x: head.head(torch.from_numpy(x.numpy().astype(np.float32))),
    "scripted code": lambda head, x: head.inner(head.head(x)),
    "a custom function": lambda head, x: Function.apply(head.head(x)),  # type: ignore[no-untyped-call]
    "raw operators": lambda head, x: torch.ops.aten.to.dtype(head.head(x), torch.half),
    "sum in a dtype": lambda head, x: head.head(x)[None].sum(0, dtype=torch.float32),
    "a tensor of a list": lambda head, x: head.head(x) * torch.tensor([1.0, 1, 1]),
    "decides by dtype": checks_its_dtype,
    "out": writes_to_out,
    "finfo": masks,
}


def source_of(module: nn.Module) -> Source:
    spec = TensorSpec("x", "float32", ("batch", 5))
    call = make_call(module, (), {"x": torch.zeros(2, 5)})
    return make_source("m", module.eval(), call, [spec], {})


def answer(source: Source) -> tuple[Array, list[Array], Answer]:
    x = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    eager = run_module(source.flat, {"x": x})
    return x.astype(np.float64), eager, Oracle(source.flat).answer({"x": x}, eager)


@pytest.mark.parametrize("how", KEEPS_ITS_VALUE)
def test_every_way_to_narrow_is_none_in_the_oracle(how: str) -> None:
    class Model(Head):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = KEEPS_ITS_VALUE[how](self, x)
            return result

    torch.manual_seed(0)
    model = Model()
    x, (eager,), found = answer(source_of(model))
    assert found.gap is None
    weight, bias = (p.detach().double().numpy() for p in model.head.parameters())
    truth = x @ weight.T + bias
    (oracle,) = found.outputs
    assert oracle is not None
    np.testing.assert_allclose(oracle, truth, rtol=1e-12, atol=1e-14)
    assert 1e-9 < np.abs(eager - truth).max() < 1e-2


class Draws(Head):
    def forward(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(3, generator=generator) + torch.empty(3).normal_(generator=generator)
        return self.head(x) + noise  # type: ignore[no-any-return]  # torch says Any


class Bits(Head):
    def forward(self, x: Tensor) -> Tensor:
        bits: Tensor = self.head(x).view(torch.int32) & 0x7FFFFFFF
        return bits.view(torch.float32)


@pytest.mark.parametrize("make", [Draws, Bits])
def test_seeded_numbers_and_bits_are_those_of_eager(make: type[nn.Module]) -> None:
    _, (eager,), found = answer(source_of(make()))
    (oracle,) = found.outputs
    assert oracle is not None
    assert oracle.dtype == np.float64
    np.testing.assert_allclose(oracle, eager, rtol=1e-5, atol=1e-6)


class Global(Head):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(x) @ MATRIX
        return found


class Norms(nn.Module):
    """What is added to the squares counts beside values of 1e-3, and hangs on their dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x * 1e-3
        return self.norm(x), torch.rms_norm(x, [5]), nn.functional.rms_norm(x, [5], eps=1e-6)


@pytest.mark.parametrize("is_traced", [False, True])
def test_a_norm_adds_what_it_adds_in_eager(is_traced: bool) -> None:
    with warnings.catch_warnings():  # torch 2.13 deprecates it
        warnings.filterwarnings("ignore", "`torch.jit")
        jit: Any = torch.jit
        module = jit.trace(Norms(), torch.zeros(2, 5)) if is_traced else Norms()
    _, eager, found = answer(source_of(module))
    for own, oracle in zip(eager, found.outputs, strict=True):
        assert oracle is not None
        np.testing.assert_allclose(oracle, own, rtol=1e-6)


def test_nothing_of_the_users_is_widened() -> None:
    module = Global()
    before = torch.get_default_dtype(), torch.autocast.__enter__
    _, _, found = answer(source_of(module))
    assert found.outputs[0] is not None
    assert before == (torch.get_default_dtype(), torch.autocast.__enter__)
    assert {t.dtype for t in (MATRIX, module.plain, module.head.weight)} == {torch.float32}


class Chooses(Head):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.cond(x.sum() > 0, torch.sin, torch.cos, (self.head(x),))
        return found


def test_what_cannot_be_watched_is_widened_as_it_is() -> None:
    _, (eager,), found = answer(source_of(Chooses()))
    assert found.outputs[0] is not None
    np.testing.assert_allclose(found.outputs[0], eager, rtol=1e-5)


@torch.library.custom_op("edgeport_test::single", mutates_args=())
def single(x: Tensor) -> Tensor:
    """A kernel that somebody wrote for float32."""
    if x.dtype != torch.float32:
        raise TypeError(f"no kernel for {x.dtype}")
    return x.sin()


class Single(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = single(x)
        return found


class Reshapes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.repeat(1, x.element_size())


@pytest.mark.parametrize(
    ("module", "gap"),
    [
        (Single(), r"edgeport_test::single does not run in float64 \(TypeError: no kernel for"),
        (Reshapes(), r"in float64 the module answers \[7, 40\], not \[7, 20\]"),
    ],
)
def test_what_has_no_float64_says_why(module: nn.Module, gap: str) -> None:
    _, _, found = answer(source_of(module))
    assert found.outputs == (None,)
    assert found.gap is not None
    assert re.match(gap, found.gap), found.gap


class Experts(nn.Module):
    """Rows by the product with the matrix of their expert, as transformers 5 writes it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.matrices = nn.Parameter(torch.randn(3, 8, 4))

    def forward(self, x: Tensor) -> Tensor:
        ends = torch.tensor([1, 1, len(x)], dtype=torch.int32)
        wide = nn.functional.pad(x, (0, 3))  # it takes steps of 16 bytes alone
        grouped: Any = torch.nn.functional.grouped_mm  # its types are of torch 2.13 alone
        y: Tensor = grouped(wide, self.matrices, offs=ends)
        return y


def test_products_by_expert_are_computed_in_float64() -> None:
    source = source_of(Experts())
    x, _, found = answer(source)
    first, _, last = source.module.get_parameter("matrices").detach().double().numpy()[:, :5]
    assert found.gap is None
    assert found.outputs[0] is not None
    np.testing.assert_allclose(found.outputs[0], np.concatenate([x[:1] @ first, x[1:] @ last]))
