"""Modules that fill up a tensor of their own in each call, and what is like them and does not."""

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeport.runtimes.libtorch.turns import in_turn, writes_to_itself
from edgeport.runtimes.safety.forked import run_forked


@pytest.fixture(autouse=True)
def deprecated() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is
        yield


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Buffer(torch.zeros(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        part, _ = self.table[: x.shape[0]].chunk(2, 1)
        part.copy_(x[:, :2])
        return self.table[: x.shape[0]] + x


class Kept(nn.Module):
    """``last`` is another tensor after each call."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        self.last = x * 2
        return self.last + 1


class Reads(nn.Module):
    """It writes into its input, and into what it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Buffer(torch.ones(8, 3))
        self.lines = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.BatchNorm1d(3))

    def forward(self, x: Tensor) -> Tensor:
        x += self.table[: x.shape[0]]
        y: Tensor = self.lines(x.clone())
        y[0] = 0
        return y


def script(module: nn.Module) -> Any:
    scripted: Any = torch.jit.script(module.eval())
    file = io.BytesIO()
    torch.jit.save(torch.jit.freeze(scripted), file)
    file.seek(0)
    return torch.jit.load(file)  # type: ignore[no-untyped-call]  # untyped


def program(module: nn.Module) -> nn.Module:
    rows = ({0: torch.export.Dim("rows", max=8)},)
    return torch.export.export(module.eval(), (torch.ones(4, 3),), dynamic_shapes=rows).module()


@pytest.mark.parametrize(
    ("form", "module", "writes"),
    [
        (script, Table, True),
        (script, Kept, True),
        (program, Table, True),
        (script, Reads, False),
        (program, Reads, False),
        (nn.Identity, Table, False),
    ],
    ids=["table", "kept", "program", "reads", "program that reads", "eager"],
)
def test_who_writes_into_a_tensor_of_its_own(
    form: Callable[[nn.Module], nn.Module], module: Callable[[], nn.Module], writes: bool
) -> None:
    assert writes_to_itself(form(module())) is writes


def test_threads_take_turns_and_no_answer_is_written_into() -> None:
    table = torch.zeros(1)
    inside = threading.Event()

    def fill(x: Tensor) -> tuple[Tensor]:
        assert not inside.is_set()
        inside.set()
        table.copy_(x)
        inside.wait(0.001)
        inside.clear()
        return (table,)

    call = in_turn(fill)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, [torch.tensor([float(n)]) for n in range(64)]))
    assert [float(answer) for (answer,) in answers] == [*range(64)]


def test_a_process_that_is_forked_meanwhile_has_its_turn() -> None:
    begun, ended = threading.Event(), threading.Event()

    def wait(x: Tensor) -> Tensor:
        begun.set()
        if float(x):
            ended.wait()
        return x

    call = in_turn(wait)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(call, torch.ones(1))
        begun.wait()
        try:
            answer, _ = run_forked(lambda: str(float(call(torch.zeros(1)))).encode(), 20)
            assert answer == b"0.0"
        finally:
            ended.set()
