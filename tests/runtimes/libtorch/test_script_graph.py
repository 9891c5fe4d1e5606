"""Graphs that are moved; to "meta", the one device beside the CPU that every torch has."""

import io
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from edgeport.runtimes.libtorch.script_graph import move_to, nodes

META = torch.device("meta")


@pytest.fixture(autouse=True)
def deprecated() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is
        yield


class Positions(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.arange(x.shape[1], device=x.device) + 1


class Factories(nn.Module):
    """None of them names a device; one is in a branch, and two follow their first argument."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.size(0) > 1:
            y = torch.zeros(x.size(0), 5) + torch.arange(5)
        else:
            y = torch.eye(5) + torch.tensor([1.0]) + torch.full([5], 2.0)
        return x + y + torch.ones_like(x) + x.new_zeros(5)


def stored(module: Any) -> Any:
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    return torch.jit.load(file)  # type: ignore[no-untyped-call]  # untyped


def test_the_device_of_the_example_of_a_trace_is_replaced() -> None:
    traced = torch.jit.trace(Positions(), torch.ones(2, 4))  # type: ignore[no-untyped-call]
    module = stored(traced)
    move_to(module, META, tf32=False)
    assert module(torch.ones(2, 5)).device == META


@pytest.mark.parametrize("rows", [1, 2])
def test_a_script_that_names_no_device_makes_its_tensors_there(rows: int) -> None:
    module = stored(torch.jit.script(Factories()))
    move_to(module, META, tf32=False)
    assert module(torch.ones(rows, 5, device=META)).device == META


class Calls(nn.Module):
    """A function, and a method whose device is an argument."""

    def steps(self, n: int, device: torch.device | None = None) -> torch.Tensor:
        return torch.arange(n, device=device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + ones(x.size(1)) + self.steps(x.size(1))


def ones(n: int) -> torch.Tensor:
    return torch.ones(n)


def test_what_a_script_calls_makes_its_tensors_there_too() -> None:
    module = stored(torch.jit.script(Calls()))
    move_to(module, META, tf32=False)
    assert module(torch.ones(2, 5, device=META)).device == META


def test_it_still_computes_the_same() -> None:
    module, x = stored(torch.jit.script(Factories())), torch.rand(2, 5)
    expected = module(x)
    again = stored(torch.jit.script(Factories()))
    move_to(again, torch.device("cpu"), tf32=False)
    torch.testing.assert_close(again(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("tf32", [False, True])
def test_a_traced_convolution_rounds_as_it_was_asked_for(tf32: bool) -> None:
    traced = torch.jit.trace(  # type: ignore[no-untyped-call]
        nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU()), torch.ones(1, 2, 8)
    )
    module = stored(traced)
    graphs = [part._c._get_method("forward").graph for part in module.modules()]
    move_to(module, torch.device("cpu"), tf32=tf32)
    found = [node for g in graphs for node in nodes(g) if node.kind() == "aten::_convolution"]
    assert found
    assert {list(node.inputs())[-1].toIValue() for node in found} == {tf32}
