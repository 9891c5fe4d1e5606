"""Dimensions, of real modules whose free axes are known, from examples of any size."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgeport.deploy.sources.dimensions import (
    MOST_RUNS,
    Dimensions,
    observed_dimensions,
    probed_dimensions,
)
from edgeport.runtimes import Range, SourceError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.libtorch.threads import thread_count

SIZES = st.integers(1, 6)
PROPERTY = settings(max_examples=40)  # a first call of torch takes long


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Thousands of tiny runs: threads would only wait for each other."""
    with thread_count(1):
        yield


class Eager:
    """Runs a module as ``probed_dimensions`` wants it, and counts."""

    def __init__(self, module: Callable[..., Any]) -> None:
        self.module = module
        self.runs = 0

    def __call__(self, inputs: Mapping[str, Array]) -> list[tuple[int, ...]]:
        self.runs += 1
        with torch.no_grad():
            result = self.module(*[torch.tensor(array) for array in inputs.values()])
        tensors: tuple[Tensor, ...] = result if isinstance(result, tuple) else (result,)
        return [tuple(tensor.shape) for tensor in tensors]


def example(**shapes: Sequence[int]) -> dict[str, Array]:
    draw = np.random.default_rng(0).normal
    return {name: draw(size=shape).astype(np.float32) for name, shape in shapes.items()}


def probed(module: Callable[..., Any], inputs: Mapping[str, Array]) -> Dimensions:
    eager = Eager(module)
    dimensions, ranges = probed_dimensions(eager, inputs)
    assert eager.runs <= MOST_RUNS
    check_sound(eager, inputs, dimensions, ranges)
    return dimensions, ranges


def check_sound(
    eager: Eager,
    inputs: Mapping[str, Array],
    dimensions: Mapping[str, Mapping[int, str]],
    ranges: Mapping[str, Range],
) -> None:
    """Whatever is claimed runs: all dimensions at once, at sizes of the range."""
    draw = np.random.default_rng(1).integers
    for turn in range(4):
        sizes = {
            name: range_.min if turn == 0 else int(draw(range_.min, (range_.max or 19) + 1))
            for name, range_ in ranges.items()
        }
        resized = dict(inputs)
        for name, axes in dimensions.items():
            for axis, dimension in axes.items():
                rows = np.arange(sizes[dimension]) % inputs[name].shape[axis]
                resized[name] = resized[name].take(rows, axis)
        eager(resized)


class Encoder(nn.Module):
    """Text with a mask, and a learned position for each token."""

    def __init__(self, longest: int = 64) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 8)
        self.positions = nn.Parameter(torch.zeros(longest, 8))

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]  # (B, T, D)
        scores = x @ x.mT + (1 - mask[:, None, :]) * -1e4
        x = functional.softmax(scores, dim=-1) @ x
        return x, x.mean(dim=1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.lstm(x, (h, c))
        return y, h, c


def text(batch: int, time: int) -> dict[str, Array]:
    tokens = np.random.default_rng(0).integers(0, 11, (batch, time))
    return {"tokens": tokens, "mask": np.ones((batch, time), np.float32)}


@given(SIZES, SIZES, SIZES)
@PROPERTY
def test_a_product_of_two_inputs(m: int, k: int, n: int) -> None:
    dimensions, ranges = probed(torch.matmul, example(a=(m, k), b=(k, n)))
    assert dimensions == {"a": {0: "batch", 1: "a_1"}, "b": {0: "a_1", 1: "b_1"}}
    assert ranges == dict.fromkeys(("batch", "a_1", "b_1"), Range(1))


@given(SIZES, st.integers(4, 6))
@PROPERTY
def test_features_are_fixed(batch: int, features: int) -> None:
    module = nn.Sequential(nn.Linear(features, 5), nn.ReLU(), nn.Linear(5, 2))
    dimensions, ranges = probed(module, example(x=(batch, features)))
    assert dimensions == {"x": {0: "batch"}}
    assert ranges == {"batch": Range(1)}


@given(SIZES, SIZES)
@PROPERTY
def test_a_mask_shares_batch_and_time(batch: int, time: int) -> None:
    dimensions, ranges = probed(Encoder(), text(batch, time))
    assert dimensions == {
        "tokens": {0: "batch", 1: "tokens_1"},
        "mask": {0: "batch", 1: "tokens_1"},
    }
    assert ranges == {"batch": Range(1), "tokens_1": Range(1)}


@given(SIZES, st.integers(1, 20))
@PROPERTY
def test_positions_end_somewhere(batch: int, time: int) -> None:
    dimensions, ranges = probed(Encoder(longest=26), text(batch, time))
    assert dimensions["mask"] == {0: "batch", 1: "tokens_1"}
    assert ranges == {"batch": Range(1), "tokens_1": Range(1, 26)}


@given(SIZES, SIZES)
@PROPERTY
def test_hidden_states_share_the_batch(batch: int, time: int) -> None:
    inputs = example(x=(batch, time, 3), h=(2, batch, 4), c=(2, batch, 4))
    dimensions, ranges = probed(Recurrent().eval(), inputs)
    assert dimensions == {"x": {0: "batch", 1: "x_1"}, "h": {1: "batch"}, "c": {1: "batch"}}
    assert ranges == {"batch": Range(1), "x_1": Range(1)}


@given(SIZES, st.integers(9, 20), st.integers(9, 20))
@PROPERTY
def test_an_image_has_a_smallest_size(batch: int, height: int, width: int) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 5), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    ).eval()  # fmt: skip  # a network is read in rows
    dimensions, ranges = probed(module, example(image=(batch, 3, height, width)))
    assert dimensions == {"image": {0: "batch", 2: "image_2", 3: "image_3"}}
    assert ranges == {"batch": Range(1), "image_2": Range(8), "image_3": Range(8)}


@given(SIZES)
@PROPERTY
def test_an_image_of_one_size(batch: int) -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 6 * 6, 2))
    dimensions, _ = probed(module, example(image=(batch, 3, 8, 8)))
    assert dimensions == {"image": {0: "batch"}}


@given(SIZES, st.integers(32, 39))
@PROPERTY
def test_pixels_that_are_rounded_away_are_not_free(batch: int, size: int) -> None:
    pools = [nn.MaxPool2d(2) for _ in range(3)]
    module = nn.Sequential(*pools, nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
    dimensions, _ = probed(module, example(image=(batch, 3, size, size)))
    assert dimensions == {"image": {0: "batch"}}


@given(SIZES, st.integers(1, 6), st.integers(2, 5))
@PROPERTY
def test_a_fold_over_features_is_not_free(batch: int, rows: int, width: int) -> None:
    dimensions, ranges = probed(lambda x: x.view(-1, width), example(x=(batch, rows * width)))
    assert dimensions == {"x": {0: "batch"}}
    assert ranges == {"batch": Range(1)}


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (6, 4), (1, 1)])
def test_a_reshape_to_a_fixed_size_leaves_nothing_free(shape: tuple[int, int]) -> None:
    count = shape[0] * shape[1]
    dimensions, ranges = probed(lambda x: x.reshape(1, count) * 2, example(x=shape))
    assert (dimensions, ranges) == ({}, {})


@given(SIZES)
@PROPERTY
def test_square_axes_vary_together(size: int) -> None:
    dimensions, _ = probed(lambda x: x + x.mT, example(x=(3, size, size)))
    if size != 1:  # of one element, any size can be broadcast
        assert dimensions == {"x": {0: "batch", 1: "x_1", 2: "x_1"}}


def test_inputs_that_are_stretched_are_tied() -> None:
    """One row is broadcast: each input alone could have any number of them."""
    dimensions, _ = probed(lambda a, b, c: a + b * c, example(a=(1, 4), b=(1, 4), c=(1, 4)))
    assert {name: axes[0] for name, axes in dimensions.items()} == dict.fromkeys("abc", "batch")
    assert len({axes[1] for axes in dimensions.values()}) == 1


def test_equal_sizes_by_chance_are_not_tied() -> None:
    def module(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return a + b, c * 2

    dimensions, _ = probed(module, example(a=(3, 3), b=(3, 3), c=(3,)))
    assert dimensions == {
        "a": {0: "batch", 1: "a_1"},
        "b": {0: "batch", 1: "a_1"},
        "c": {0: "c_0"},
    }


def test_a_factor_of_the_size_keeps_it_fixed() -> None:
    def module(x: Tensor) -> Tensor:
        small = functional.avg_pool2d(x, 4)
        return x + functional.interpolate(small, scale_factor=4)

    dimensions, _ = probed(module, example(image=(2, 1, 8, 16)))
    assert dimensions == {"image": {0: "batch", 1: "image_1"}}  # channels are averaged apart


def test_the_outputs_keep_their_ranks() -> None:
    dimensions, ranges = probed(lambda x: x.squeeze() * 2, example(x=(4, 3)))
    assert dimensions == {"x": {0: "batch", 1: "x_1"}}
    assert ranges == {"batch": Range(2), "x_1": Range(2)}
    assert probed(lambda x: x.squeeze(0), example(x=(1, 3)))[0] == {"x": {1: "x_1"}}


def test_what_cannot_vary() -> None:
    inputs = {"scale": np.array(2, np.float32), "empty": np.zeros((0, 2), np.float32)}
    assert probed(lambda scale, empty: scale + empty, inputs)[0] == {"empty": {1: "empty_1"}}


def test_many_inputs_cost_a_bounded_number_of_runs() -> None:
    eager = Eager(lambda *inputs: torch.cat([x.reshape(-1) for x in inputs]).reshape(24, 2, 2, 2))
    inputs = example(**{f"x_{n}": (2, 2, 2, 2) for n in range(12)})
    assert probed_dimensions(eager, inputs) == ({}, {})
    assert eager.runs <= MOST_RUNS


def test_a_module_that_fails_on_its_example() -> None:
    with pytest.raises(SourceError, match=r"fails on the example: RuntimeError: .*\n  fix: give"):
        probed_dimensions(Eager(nn.Linear(3, 2)), example(x=(2, 4)))


def test_names_are_identifiers() -> None:
    inputs = {"a.b": np.zeros((2, 3)), "a_b": np.zeros((2, 4)), "0": np.zeros((5, 2))}
    dimensions, _ = probed(lambda a, b, c: (a, b, c), inputs)
    assert dimensions == {
        "a.b": {0: "batch", 1: "a_b_1"},
        "a_b": {0: "a_b_0", 1: "a_b_1_"},
        "0": {0: "_0_0", 1: "_0_1"},
    }


@given(st.lists(st.tuples(SIZES, SIZES), min_size=2, max_size=5, unique=True))
@PROPERTY
def test_calls_show_what_varies_together(sizes: list[tuple[int, int]]) -> None:
    batches, times = map(set, zip(*sizes, strict=True))
    dimensions, ranges = observed_dimensions([text(*pair) for pair in sizes])
    assert dimensions.get("tokens") == dimensions.get("mask")
    axes = dimensions.get("tokens", {})
    assert (0 in axes, 1 in axes) == (len(batches) > 1, len(times) > 1)
    if 0 in axes:
        assert axes[0] == "batch"
        assert ranges["batch"] == Range(min(batches))
    if 1 in axes and any(batch != time for batch, time in sizes):
        assert axes[1] == "tokens_1"
        assert ranges["tokens_1"] == Range(min(times))


def test_one_call_shows_nothing_free() -> None:
    assert observed_dimensions([text(2, 5)]) == ({}, {})


def test_calls_show_a_step_where_the_module_rejects_the_next_size() -> None:
    def halves(image: Tensor) -> Tensor:
        one, two = image, functional.max_pool2d(image, 2)
        return one + functional.interpolate(two, scale_factor=2.0)

    calls = [example(image=shape) for shape in ((4, 1, 12, 40), (2, 1, 24, 20), (2, 1, 18, 80))]
    dimensions, ranges = observed_dimensions(calls, Eager(halves))
    assert dimensions == {"image": {0: "batch", 2: "image_2", 3: "image_3"}}
    assert ranges == {"batch": Range(1), "image_2": Range(6, step=6), "image_3": Range(20, step=20)}
    pooled = Eager(nn.AdaptiveAvgPool2d(1))
    assert {range_.step for range_ in observed_dimensions(calls, pooled)[1].values()} == {1}
    unknown = observed_dimensions(calls)[1]
    assert unknown == {"batch": Range(2), "image_2": Range(12), "image_3": Range(20)}


def test_a_largest_size_is_no_step() -> None:
    table = nn.Embedding(16, 4)
    module = Eager(lambda x: x + table.weight[: x.shape[1], 0])
    _, ranges = observed_dimensions([example(x=(1, 16)), example(x=(1, 8))], module)
    assert ranges == {"x_1": Range(1)}


def test_a_range_starts_at_one_if_the_module_runs_there() -> None:
    module = nn.Sequential(nn.Conv1d(3, 4, 5), nn.AdaptiveAvgPool1d(1))
    calls = [example(sound=(4, 3, 20)), example(sound=(2, 3, 12))]
    dimensions, ranges = observed_dimensions(calls, Eager(module))
    assert dimensions == {"sound": {0: "batch", 2: "sound_2"}}
    assert ranges == {"batch": Range(1), "sound_2": Range(12)}


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"x": np.zeros(2)}, r"calls\[0\] has 'mask', which calls\[1\] has not"),
        (
            {"x": np.zeros(2), "mask": np.zeros(2), "y": np.zeros(2)},
            r"calls\[1\] has 'y', which calls\[0\] has not",
        ),
        (
            {"x": np.zeros((2, 3)), "mask": np.zeros(2)},
            r"'x' is float64\[2\] in calls\[0\], float64\[2, 3\] in calls\[1\]",
        ),
        (
            {"x": np.zeros(2, np.int64), "mask": np.zeros(2)},
            r"'x' is float64\[2\] in calls\[0\], int64\[2\] in calls\[1\]",
        ),
    ],
)
def test_calls_that_differ_in_more_than_sizes(other: Mapping[str, Array], problem: str) -> None:
    with pytest.raises(SourceError, match=problem + r"\n  fix: capture calls that pass"):
        observed_dimensions([{"x": np.zeros(2), "mask": np.zeros(2)}, other])


def test_no_calls() -> None:
    with pytest.raises(SourceError, match=r"no calls were given\n  fix: capture at least one"):
        observed_dimensions([])


def test_ranges_begin_where_the_module_runs_with_all_at_their_least() -> None:
    def run(given: Mapping[str, Array]) -> list[tuple[int, ...]]:
        both = np.concatenate([given["state"], given["chunk"]])
        if len(both) < 5:
            raise ValueError("shorter than the window")
        return [both.shape]

    sizes = ((4, 5), (6, 3), (5, 7))
    calls = [{"state": np.zeros(state), "chunk": np.zeros(chunk)} for state, chunk in sizes]
    _, ranges = observed_dimensions(calls, run)
    assert ranges == {"batch": Range(4), "chunk_0": Range(1)}
