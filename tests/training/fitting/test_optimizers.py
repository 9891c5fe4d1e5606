import re
from typing import Any

import pytest
import torch
from torch import nn

from edgeport.runtimes import UsageError
from edgeport.training import DataSet, Settings, fit
from edgeport.training.fitting import find_optimizer, optimizer_names, range_test
from edgeport.training.fitting.optimizers import make_optimizer, needs_closure


class Halving(torch.optim.SGD):
    """An optimizer of one's own."""


NOT_AN_OPTIMIZER = 3

USUAL = sorted(set(optimizer_names()) - {"SparseAdam", "Muon"})


def module(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(2, 1, bias=bias)


def test_all_of_torch_are_known() -> None:
    assert {"SGD", "Adam", "AdamW", "LBFGS", "RMSprop", "Muon", "SparseAdam"} <= set(
        optimizer_names()
    )


@pytest.mark.parametrize("name", USUAL)
def test_every_optimizer_lowers_the_cost(line: DataSet, name: str) -> None:
    rates = {"Adadelta": 30.0, "LBFGS": 1.0, "SGD": 0.1, "ASGD": 0.1, "Adafactor": 0.1}
    rate = rates.get(name, 0.05)
    history = fit(module(), line, Settings(6, 10, rate, optimizer=name.upper()))
    assert history.epochs[-1].held_out_cost < 0.9 * history.epochs[0].cost
    assert history.settings.optimizer == name.upper()


def test_steps_in_another_way_may_be_asked_for(line: DataSet) -> None:
    """Beside ``fused``, which is the default here, torch takes no ``foreach``."""
    for options in ({"foreach": True}, {"foreach": False}, {"fused": False}):
        history = fit(module(), line, Settings(1, 10, 0.1, optimizer="AdamW", options=options))
        assert history.completed


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"betas": (0.9, 0.99, 0.999)}, "too many values to unpack"),
        ({"betas": (0.9,)}, "tuple index out of range"),
        ({"capturable": True}, "If capturable=True, params"),
    ],
)
def test_options_that_fail_where_they_are_used(
    line: DataSet, options: dict[str, Any], problem: str
) -> None:
    asked = Settings(1, 10, 0.1, optimizer="NAdam", options=options)
    with pytest.raises(UsageError, match=f"refuses these options or parameters: {problem}"):
        fit(module(), line, asked)
    with pytest.raises(UsageError, match=f"refuses these options or parameters: {problem}"):
        range_test(module(), line, asked)


def test_muon_trains_matrices_only(line: DataSet) -> None:
    history = fit(module(bias=False), line, Settings(6, 10, 0.1, optimizer="muon"))
    assert history.epochs[-1].cost < history.epochs[0].cost
    with pytest.raises(UsageError, match="Muon refuses these options or parameters") as caught:
        make_optimizer(module(), Settings(1, 1, 0.1, optimizer="muon"))
    assert "matrices only" in caught.value.remedy


def test_sparse_adam_takes_sparse_gradients_alone() -> None:
    asked = Settings(1, 1, 0.1, optimizer="SparseAdam")
    with pytest.raises(UsageError, match="takes sparse gradients alone, and Linear has none"):
        make_optimizer(module(), asked)
    assert make_optimizer(nn.EmbeddingBag(3, 2, sparse=True), asked)


@pytest.mark.parametrize(("decay", "sizes"), [(0.1, [1, 1]), (0, [2]), (None, [2])])
def test_a_decay_is_of_weights_alone(decay: float | None, sizes: list[int]) -> None:
    options = {} if decay is None else {"weight_decay": decay}
    one = module()
    optimizer = make_optimizer(one, Settings(1, 1, 0.5, optimizer="SGD", options=options))
    assert [len(group["params"]) for group in optimizer.param_groups] == sizes
    before = (one.weight.detach().clone(), one.bias.detach().clone())
    (one(torch.zeros(1, 2)).sum() * 0).backward()
    optimizer.step()
    torch.testing.assert_close(one.weight, before[0] * (1 - 0.5 * (decay or 0)))
    assert torch.equal(one.bias, before[1])


@pytest.mark.parametrize(("name", "own"), [("AdamW", 0.01), ("SGD", 0.0)])
def test_a_default_that_is_asked_for_is_the_default(name: str, own: float) -> None:
    """On the weights and off the biases, whether the decay is the optimizer's or the caller's."""
    ended = []
    for options in ({}, {"weight_decay": own}):
        one = module()
        optimizer = make_optimizer(one, Settings(1, 1, 0.5, optimizer=name, options=options))
        before = (one.weight.detach().clone(), one.bias.detach().clone())
        (one(torch.zeros(1, 2)).sum() * 0).backward()
        optimizer.step()
        torch.testing.assert_close(one.weight, before[0] * (1 - 0.5 * own))
        assert torch.equal(one.bias, before[1])
        ended.append(one.weight.detach())
    assert torch.equal(*ended)


def test_sparse_adam_takes_sparse_gradients() -> None:
    embedding = nn.Embedding(5, 2, sparse=True)
    optimizer = make_optimizer(embedding, Settings(1, 1, 0.1, optimizer="SparseAdam"))
    before = embedding.weight.detach().clone()
    embedding(torch.tensor([1])).sum().backward()
    optimizer.step()
    assert (embedding.weight != before).any(1).tolist() == [False, True, False, False, False]


def test_one_of_ones_own(line: DataSet) -> None:
    place = f"{__name__}:Halving"
    made = make_optimizer(module(), Settings(1, 1, 0.1, optimizer=place))
    assert type(made).__name__ == "Halving"


@pytest.mark.parametrize(
    ("name", "problem", "remedy"),
    [
        ("Adamm", "torch.optim has no optimizer 'Adamm'", "AdamW"),
        ("Optimizer", "torch.optim has no optimizer 'Optimizer'", "AdamW"),
        ("no_such_file:X", "cannot import the optimizer 'no_such_file:X'", "package.file:Class"),
        ("torch.optim:NoSuch", "cannot import the optimizer", "package.file:Class"),
        ("torch.nn:Linear", "is no subclass of torch.optim.Optimizer", "name such a class"),
        (":", "cannot import the optimizer ':'", "package.file:Class"),
    ],
)
def test_a_name_that_is_none(name: str, problem: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)) as caught:
        find_optimizer(name)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"momentun": 0.9}, "SGD has no option 'momentun'"),
        ({"lr": 0.9}, "SGD has no option 'lr'"),
        ({"params": 0.9}, "SGD has no option 'params'"),
        ({"momentum": -1.0}, "SGD refuses these options or parameters: Invalid momentum"),
        ({"momentum": "high"}, "SGD refuses these options or parameters: "),
        ({"fused": True, "foreach": True}, "SGD refuses these options or parameters: `fused` and"),
        ({"differentiable": True}, "differentiable of SGD is for a step that is differentiated"),
        ({"momentum": True}, "SGD has no momentum of True\n  fix: give a number"),
        ({"maximize": "yes"}, "SGD has no maximize of 'yes'\n  fix: give true or false"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)):
        make_optimizer(module(), Settings(1, 1, 0.1, optimizer="sgd", options=options))


def test_options_arrive() -> None:
    settings = Settings(1, 1, 0.1, optimizer="SGD", options={"momentum": 0.9, "nesterov": True})
    group = make_optimizer(module(), settings).param_groups[0]
    assert (group["momentum"], group["nesterov"], group["lr"]) == (0.9, True, 0.1)


def test_nothing_to_train() -> None:
    with pytest.raises(UsageError, match="ReLU has no parameter to train"):
        make_optimizer(nn.ReLU(), Settings(1, 1, 0.1))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("line_search_fn", "wolfe", "no line search 'wolfe'\n  fix: give strong_wolfe"),
        ("history_size", 0, "no history of 0 steps\n  fix: give 1 or more"),
    ],
)
def test_what_lbfgs_would_fail_with(option: str, value: str | int, message: str) -> None:
    asked = Settings(1, None, 1.0, optimizer="LBFGS", options={option: value})
    with pytest.raises(UsageError, match=f"LBFGS has {message}"):
        make_optimizer(module(), asked)


@pytest.mark.parametrize(("name", "needed"), [("LBFGS", True), ("Adam", False)])
def test_who_needs_a_closure(name: str, needed: bool) -> None:
    settings = Settings(1, None, 0.1, optimizer=name)
    assert needs_closure(make_optimizer(module(), settings)) is needed
