import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeport.runtimes import SourceError, UsageError
from edgeport.training import (
    DataSet,
    Epoch,
    History,
    Labelled,
    Origin,
    Settings,
    SmallCnn,
    Split,
    fit,
)
from edgeport.training.fitting import range_test


class Tiny(nn.Module):
    """Draws random numbers while it trains, and keeps running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def examples(rows: int) -> Labelled:
    generator = np.random.default_rng(rows)
    x = generator.normal(size=(rows, 3)).astype(np.float32)
    return Labelled({"x": x}, (x[:, 0] > 0).astype(np.int64))


ORIGIN = Origin("made", 1, "", Split(0.5, 0, stratified=False))


def train(module: nn.Module, part: Labelled, **changed: Any) -> History:
    """Fit with these settings and callbacks, held-out examples being the same unless said."""
    data = DataSet(ORIGIN, part, changed.pop("held_out", part))
    calls = {k: changed.pop(k) for k in ("on_batch", "on_epoch", "checkpoint") if k in changed}
    asked: dict[str, Any] = {"epochs": 1, "batch_size": 8, "learning_rate": 0.01, "seed": 0}
    return fit(module, data, Settings(**{**asked, **changed}), **calls)


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return all(a[name].numpy().tobytes() == b[name].numpy().tobytes() for name in a)


def tiny() -> Tiny:
    torch.manual_seed(1)
    return Tiny()


def test_digits_are_learned(data: DataSet) -> None:
    torch.manual_seed(0)
    module = SmallCnn()
    history = fit(module, data, Settings(6, 64, 3e-3))
    last = history.epochs[-1]
    assert last.held_out_score >= 0.98
    assert last.cost < history.epochs[0].cost / 5
    assert history.completed
    assert not module.training
    with torch.no_grad():  # the figure is the module's own, measured another way
        found = module(torch.from_numpy(data.held_out.inputs["image"])).argmax(1).numpy()
    assert float((found == data.held_out.labels).mean()) == last.held_out_score


def test_a_seed_gives_the_same_weights_to_the_bit(data: DataSet) -> None:
    states, histories = [], []
    for seed in (3, 3, 4):
        torch.manual_seed(0)
        module = SmallCnn()
        histories.append(train(module, data.train, batch_size=64, seed=seed))
        torch.rand(seed)  # another state of the caller's generator
        states.append(module.state_dict())
    assert same(states[0], states[1])
    assert histories[0] == histories[1]
    assert not same(states[0], states[2])


def test_dropout_is_seeded_and_the_callers_random_state_is_left_alone() -> None:
    states = []
    for callers_seed in (10, 11):
        module = tiny()
        torch.manual_seed(callers_seed)
        before = torch.get_rng_state()
        train(module, examples(20), epochs=2)
        assert torch.equal(before, torch.get_rng_state())
        states.append(module.state_dict())
    assert same(*states)


@pytest.mark.parametrize(("rows", "batches"), [(13, [4, 4, 5]), (14, [4, 4, 4, 2]), (5, [5])])
def test_one_example_is_no_batch_to_normalise_by(rows: int, batches: list[int]) -> None:
    seen: list[int] = []

    class Watched(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.append(len(x))
            return super().forward(x)

    module = Watched()
    module.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    planned: list[int] = []
    train(
        module, examples(rows), batch_size=4,
        on_batch=lambda done, all_, cost: planned.append(all_),
    )  # fmt: skip  # one line for what, one for how
    assert seen == batches
    assert planned == [len(batches)] * len(batches)


@settings(max_examples=25)
@given(rows=st.integers(1, 20), batch_size=st.integers(1, 25), epochs=st.integers(1, 3))
def test_every_example_is_in_one_batch_of_an_epoch(rows: int, batch_size: int, epochs: int) -> None:
    seen: list[int] = []
    calls: list[tuple[int, int]] = []
    numbers: list[int] = []

    class Watched(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.extend(x[:, 0].int().tolist())
            return super().forward(x)

    x = np.zeros((rows, 3), np.float32)
    x[:, 0] = np.arange(rows)
    history = train(
        Watched(), Labelled({"x": x}, np.zeros(rows, np.int64)),
        epochs=epochs, batch_size=batch_size,
        on_batch=lambda done, planned, loss: calls.append((done, planned)),
        on_epoch=lambda epoch: numbers.append(epoch.number),
    )  # fmt: skip  # one line for what, one for how
    planned = epochs * math.ceil(rows / batch_size)
    assert sorted(seen) == sorted(epochs * list(range(rows)))
    assert calls == [(done, planned) for done in range(1, planned + 1)]
    assert numbers == [epoch.number for epoch in history.epochs] == list(range(1, epochs + 1))


@settings(max_examples=25)
@given(stop=st.integers(1, 12))
def test_an_interrupt_leaves_the_last_whole_epoch(stop: int) -> None:
    """Three steps an epoch, four epochs, Ctrl-C in the middle of step ``stop``."""
    module, kept = tiny(), []

    def on_batch(done: int, planned: int, loss: float) -> None:
        if done == stop:
            raise KeyboardInterrupt

    def on_epoch(epoch: Epoch) -> None:
        kept.append(copy.deepcopy(module.state_dict()))

    def interrupted() -> History:
        return train(
            module, examples(20), epochs=4, batch_size=7, on_batch=on_batch, on_epoch=on_epoch
        )

    whole = (stop - 1) // 3
    if whole == 0:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        return
    history = interrupted()
    assert len(history.epochs) == whole == len(kept)
    assert not history.completed
    assert not module.training
    assert same(module.state_dict(), kept[-1])


def test_an_interrupt_in_the_callback_of_an_epoch_keeps_that_epoch() -> None:
    def on_epoch(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    assert len(train(tiny(), examples(20), epochs=4, on_epoch=on_epoch).epochs) == 1


def test_one_value_to_normalise_is_refused() -> None:
    part, module = examples(3), tiny()
    module.layers.insert(1, nn.BatchNorm1d(4))
    assert train(module, part, batch_size=2).completed  # of which the last joins
    with pytest.raises(UsageError, match="one value for each channel, and batch normalisation"):
        train(module, part, batch_size=1)
    with pytest.raises(UsageError, match="one value for each channel, and batch normalisation"):
        range_test(module, DataSet(ORIGIN, part, part), Settings(1, 1, 0.01))


def test_a_learning_rate_that_diverges(data: DataSet) -> None:
    problem = r"^the loss is (nan|inf) at epoch 1, step \d+ of 23 \(learning rate 1e\+30\): .*layer"
    with pytest.raises(SourceError) as caught:
        train(SmallCnn(4, 8), data.train, batch_size=64, learning_rate=1e30)
    assert re.match(problem, caught.value.problem)
    assert "use a smaller learning rate (--lr), shorten gradients" in caught.value.remedy


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_data_that_are_not_finite(value: float) -> None:
    good, bad = examples(20), examples(20)
    bad.inputs["x"][7, 1] = value
    with pytest.raises(SourceError, match=r"epoch 1, step \d of 3 .*: input 'x' is not finite in"):
        train(tiny(), bad)
    with pytest.raises(SourceError, match=r"at the end of epoch 1, on held-out examples"):
        train(tiny(), good, held_out=bad)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("epochs", 0, "epochs is 0, expected 1 or more"),
        ("batch_size", -1, "batch_size is -1, expected 1 or more"),
        ("learning_rate", 0, "learning_rate is 0, expected above 0"),
        ("learning_rate", math.nan, "learning_rate is nan, expected above 0"),
        ("learning_rate", math.inf, "learning_rate is inf, expected above 0"),
        ("seed", -1, "seed is -1, expected 0 or more and below 2**63"),
        ("seed", 2**63, "seed is 9223372036854775808, expected 0 or more"),
    ],
)
def test_numbers_that_make_no_sense(name: str, value: float, problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)):
        train(tiny(), examples(20), **{name: value})
