import threading
import warnings
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport.deploy.compilers.upstream import quiet
from edgeport.deploy.sources.modules import copied, is_uninitialised, prepared, unwrapped
from edgeport.runtimes import SourceError


class Parts(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)  # type: ignore[no-any-return]  # torch says Any


def test_wrappers_are_taken_off_inside_too() -> None:
    inner = nn.Linear(2, 2)
    compiled: Any = torch.compile(inner, backend="eager")
    for wrapped in (nn.DataParallel(inner), compiled):
        assert unwrapped(wrapped) is inner
        module, _ = prepared(Parts(wrapped), keep_training_mode=False)
        assert type(module.part) is nn.Linear
    inner.compile(backend="eager")
    module, _ = prepared(inner, keep_training_mode=False)
    assert module._compiled_call_impl is None
    assert inner._compiled_call_impl is not None


def test_what_is_changed_is_said() -> None:
    half = Parts(nn.Dropout(0.5)).eval()
    half.part.train()
    broken = nn.Linear(2, 2).eval()
    nn.init.constant_(broken.bias, torch.nan)
    cases: list[tuple[nn.Module, bool, str]] = [
        (nn.Dropout(0.5), False, "the module was in training mode; what is exported is its eval"),
        (half, False, "part was in training mode; what is exported is its eval mode"),
        (nn.Dropout(0.5), True, "the module is exported in training mode, as asked"),
        (broken, False, "NaN is among the weights of bias: what they reach is NaN"),
        (nn.LazyLinear(2).eval(), False, "lazy parameters were initialised by one run"),
    ]
    for module, keep, text in cases:
        ready, notes = prepared(module, keep_training_mode=keep)
        assert len(notes) == 1
        assert notes[0].startswith(text)
        assert any(part.training for part in ready.modules()) == keep
    assert prepared(nn.ReLU().eval(), keep_training_mode=False)[1] == ()


class WrittenForCuda(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device("cuda", 1)
        self.places: dict[str, list[Any]] = {"cuda": ["cuda:0", 7]}
        self.shared = self.places
        self.table: Tensor = torch.arange(3)

    def forward(self, x: Tensor) -> Tensor:
        more: Tensor = torch.ones(3, device=self.device) + self.table.to(self.places["cuda"][0])
        return x + more


def test_devices_that_are_attributes_follow_the_weights_to_the_cpu() -> None:
    theirs = WrittenForCuda().eval()
    module, notes = prepared(Parts(theirs).eval(), keep_training_mode=False)
    told = "part.device, part.places, part.shared"
    assert notes == (f"attributes of another device are on the CPU: {told}",)
    mine: Any = module
    assert mine(torch.zeros(3)).tolist() == [1, 2, 3]
    assert mine.part.places == {"cuda": ["cpu", 7]}
    assert mine.part.places is mine.part.shared
    assert mine.part.table.equal(theirs.table)
    assert theirs.device == torch.device("cuda", 1)


def test_a_weight_that_was_computed_is_copied() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        module = nn.utils.weight_norm(nn.Linear(3, 2))
    x = torch.randn(4, 3)
    assert torch.equal(copied(module)(x), module(x))


def test_what_is_lazy_is_seen() -> None:
    assert is_uninitialised(nn.Sequential(nn.LazyConv2d(2, 3)))
    assert not is_uninitialised(nn.Sequential(nn.Conv2d(1, 2, 3)))


def _doubled(x: Tensor) -> Tensor:
    return x * 2


def test_what_holds_no_state_of_a_module_is_shared_with_its_copy() -> None:
    module = nn.ReLU()
    with Path(__file__).open() as file:
        held: dict[str, Any] = {
            "lock": threading.Lock(),
            "again": [threading.RLock()],
            "np": np,
            "file": file,
        }
        with quiet():  # it is deprecated
            held["scripted"] = torch.jit.script(_doubled)
        vars(module).update(held)
        copy, _ = prepared(module, keep_training_mode=False)
    assert copy is not module
    assert {name: vars(copy)[name] for name in held} == held


def test_a_mapping_that_cannot_be_written_to_is_copied() -> None:
    module = nn.ReLU()
    vars(module)["sizes"] = MappingProxyType({"a": [1]})
    mine = vars(prepared(module, keep_training_mode=False)[0])["sizes"]
    assert mine == {"a": [1]}
    assert mine["a"] is not vars(module)["sizes"]["a"]


def test_lazy_buffers_are_copied() -> None:
    lazy = nn.LazyBatchNorm1d()
    copy, _ = prepared(lazy, keep_training_mode=False)
    assert copy(torch.ones(2, 3)).shape == (2, 3)
    assert is_uninitialised(lazy)


class Named(Tensor):
    """A tensor with a method more, which torch refuses to copy (2.13)."""

    def centred(self) -> Tensor:
        return self - self.mean()


def test_tensors_of_a_class_of_the_users_are_copied() -> None:
    module = nn.Linear(2, 2)
    module.weight = nn.Parameter(torch.randn(2, 2).as_subclass(Named))
    module.register_buffer("shift", torch.randn(2).as_subclass(Named))
    vars(module)["tied"] = module.weight

    made, _ = prepared(module, keep_training_mode=False)
    mine: Any = made.weight
    assert isinstance(mine, Named)
    assert isinstance(mine, nn.Parameter)
    assert mine.requires_grad
    assert isinstance(made.shift, Named)
    assert vars(made)["tied"] is mine
    assert torch.equal(mine.centred(), module.weight - module.weight.mean())
    assert mine.data_ptr() != module.weight.data_ptr()


def test_what_cannot_be_used_says_why() -> None:
    with pytest.raises(
        SourceError,
        match=r"the model is of type builtin_function_or_method, expected a torch\.nn\.Module",
    ):
        prepared(torch.sin, keep_training_mode=False)  # type: ignore[arg-type]  # the point
    module = nn.ReLU()
    module.names = (name for name in "ab")  # type: ignore[assignment]  # the point
    with pytest.raises(
        SourceError, match="ReLU cannot be copied: TypeError: cannot pickle 'generator' object"
    ) as caught:
        prepared(module, keep_training_mode=False)
    assert caught.value.remedy == (
        "keep connections, generators and what else copy.deepcopy refuses out of the module"
    )
