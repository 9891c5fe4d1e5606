import functools
import re
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport.deploy.sources.arguments import checked_tensor, make_call, misfit_of
from edgeport.deploy.sources.modules import check_module
from edgeport.runtimes import SourceError

X, Y = torch.zeros(1), torch.ones(2)


class Takes(nn.Module):
    def forward(
        self, a: Any, b: Any = None, *rest: Any, key: Any = None, flag: bool = False
    ) -> Any:
        return a, b, rest, key, flag


class TakesAnything(nn.Module):
    def forward(self, *parts: Tensor, **options: Any) -> Any:
        return parts, options


@pytest.mark.parametrize(
    ("module", "in_order", "by_name", "args", "kwargs", "names"),
    [
        (Takes(), (X, Y), {}, (X, Y), {}, ("a", "b")),
        (Takes(), (X, None, Y), {}, (X, None, Y), {}, ("a", "rest_0")),
        (Takes(), (X,), {"key": Y}, (X,), {"key": Y}, ("a", "key")),
        (Takes(), (), {"b": Y, "a": X}, (X, Y), {}, ("a", "b")),
        (Takes(), (), {"a": X, "flag": True}, (X,), {"flag": True}, ("a",)),
        (Takes(), (), {"key": Y, "a": (X, [X])}, ((X, [X]),), {"key": Y}, ("a_0", "a_1_0", "key")),
        (
            Takes(),
            (),
            {"a": X, "b": 1, "rest": [Y, Y]},
            (X, 1, Y, Y),
            {},
            ("a", "rest_0", "rest_1"),
        ),
        (Takes(), (), {"left": X, "right": Y}, (X, Y), {}, ("left", "right")),
        (TakesAnything(), (), {"parts": (X, Y)}, (X, Y), {}, ("parts_0", "parts_1")),
        (TakesAnything(), (X,), {"more": Y}, (X,), {"more": Y}, ("parts_0", "more")),
        (TakesAnything(), (), {"more": Y}, (), {"more": Y}, ("more",)),
    ],
)
def test_what_forward_gets(
    module: nn.Module,
    in_order: tuple[Any, ...],
    by_name: dict[str, Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    names: tuple[str, ...],
) -> None:
    call = make_call(module, in_order, by_name)
    assert call.args == args
    assert call.kwargs == kwargs
    assert call.names == names
    inputs = [torch.full((3,), float(index)) for index in range(len(names))]
    bound_args, bound_kwargs = call.bind(inputs)
    module(*bound_args, **bound_kwargs)


def test_numpy_arrays_are_inputs_too() -> None:
    call = make_call(Takes(), (X.numpy(),), {"b": (Y.numpy(), "text")})
    assert call.names == ("a", "b_0")
    assert call.dtypes == (torch.float32, torch.float32)


def test_what_does_not_fit_says_why() -> None:
    with pytest.raises(SourceError, match=r"3 example inputs for forward\(input\)"):
        make_call(nn.Linear(1, 1), (X, X, X), {})
    with pytest.raises(SourceError, match=r"has no parameter 'bb'\n  fix: rename"):
        make_call(Takes(), (), {"a": X, "bb": Y})


@pytest.mark.parametrize(
    ("in_order", "by_name", "why"),
    [
        ((X,), {}, None),
        (
            (),
            {"b": Y},
            r"forward(a, b, *rest, key, flag) cannot be called with these: missing a required",
        ),
        ((X,), {"more": Y}, "got an unexpected keyword argument 'more'"),
    ],
)
def test_a_call_that_forward_does_not_take_is_explained(
    in_order: tuple[Any, ...], by_name: dict[str, Any], why: str | None
) -> None:
    misfit = misfit_of(Takes(), make_call(Takes(), in_order, by_name))
    assert misfit is None if why is None else why in str(misfit)


class Shadow(nn.Module):
    """Whose plain attribute has no values."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.ones(1, device="meta")


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (torch.sin, "the model is of type builtin_function_or_method, expected a torch.nn.Module"),
        (Shadow(), "Shadow has no values: 'scale' is on the device 'meta'"),
        (nn.Linear(1, 1, device="meta"), "Linear has no values: 'weight' is on the device 'meta'"),
    ],
)
def test_what_is_no_module_with_values(module: Any, problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        make_call(module, (X,), {})


class Writer(nn.Module):
    """Which is called otherwise."""

    def step(self, x: Tensor) -> Tensor:
        return x + 1

    def generate(self, x: Tensor) -> Tensor:
        return self.step(self.step(x))


class Called(nn.Module):
    """Whose call is its own."""

    def __call__(self, x: Tensor) -> Tensor:
        return x + 1


@pytest.mark.parametrize(
    ("module", "problem", "remedy"),
    [
        (
            Writer(),
            "Writer has no forward; it has step, generate",
            r"return self\.model\.generate\(x",
        ),
        (nn.DataParallel(Writer()), "has no forward", r"return self\.model\.generate\(x"),
        (nn.ModuleList([nn.Linear(1, 1)]), "ModuleList has no forward$", "what its parts do"),
        (
            nn.Linear(1, 1).state_dict(),
            "the model is of type OrderedDict",
            "module.load_state_dict",
        ),
    ],
)
def test_what_has_no_forward(module: Any, problem: str, remedy: str) -> None:
    with pytest.raises(SourceError) as caught:
        check_module(module)
    assert re.search(problem, caught.value.problem)
    assert re.search(remedy, caught.value.remedy)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_call_of_its_own_is_a_forward() -> None:
    check_module(Called())
    check_module(torch.jit.script(nn.Linear(1, 1)))


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (torch.zeros(1, dtype=torch.complex64), "'x' is complex64, which engines cannot pass"),
        (torch.zeros(2).to_sparse(), "'x' is sparse, which engines cannot pass"),
    ],
)
def test_tensors_that_no_engine_takes(tensor: Tensor, problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        checked_tensor("x", tensor)


def test_bfloat16_is_passed_as_float32() -> None:
    assert checked_tensor("x", torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32


class Batch:
    def __init__(self, scale: Any) -> None:
        self.scale = {"of all": (scale,)}
        self.module = nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Batch(Y), "Batch"),
        ([Batch(np.ones(2))], "Batch"),
        ({Y}, "set"),
        ({"a": Y}.values(), "dict_values"),
    ],
)
def test_tensors_that_no_file_would_take_as_inputs(value: Any, kind: str) -> None:
    with pytest.raises(SourceError) as raised:
        make_call(Takes(), (X, value), {})
    assert raised.value.problem == (
        f"an argument of forward holds a value of type {kind}, whose tensors would be constants "
        "in every file"
    )
    assert raised.value.remedy == (
        "pass its tensors, alone or in a tuple, list, dict or dataclass, or register its class "
        "with torch.utils._pytree (a cache of transformers: "
        "register_dynamic_cache_export_support); what is to stay as it is belongs in the module, "
        "as a buffer"
    )


@pytest.mark.parametrize(
    ("value", "kind"), [((y for y in [1, 2]), "generator"), (map(float, [1]), "map")]
)
def test_what_gives_its_values_only_once_is_refused(value: Any, kind: str) -> None:
    with pytest.raises(SourceError) as raised:
        make_call(Takes(), (X,), {"key": {"of": value}})
    assert raised.value.problem == (
        f"an argument of forward holds a value of type {kind}, which gives what is in it only once"
    )
    assert raised.value.remedy == "pass a list or a tuple of it"


@functools.cache
def table(length: int) -> Tensor:
    return torch.ones(length)


@pytest.mark.parametrize(
    "value",
    [
        *(Batch(2.0), range(3), {1.0, 2.0}, np.array(["text"])),
        *(torch.relu, nn.Linear(1, 1), table, sys.__stderr__),
    ],
)
def test_constants_of_other_types_stay(value: Any) -> None:
    table(3)  # a cache of results holds them
    assert make_call(Takes(), (X, value), {}).args[1] is value
