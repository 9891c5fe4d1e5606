"""The rule on whole networks: a right engine passes whatever its scale, a wrong one never."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.rule import (
    FEW_ELEMENTS,
    Figures,
    judge,
    measure,
    pool_floors,
)
from edgeport.runtimes.parity.thresholds import Thresholds

INF = math.inf
T = Thresholds()

Layers = Sequence[tuple[Array, Array]]


def network(generator: np.random.Generator, widths: Sequence[int], scale: float) -> Layers:
    """A ReLU network whose outputs are about ``scale``; half of them without biases."""
    bias = generator.integers(0, 2)
    layers = [
        (
            (generator.normal(size=(rows, columns)) / math.sqrt(rows)).astype(np.float32),
            (generator.normal(size=columns) * bias).astype(np.float32),
        )
        for rows, columns in itertools.pairwise(widths)
    ]
    weight, shift = layers[-1]
    layers[-1] = (weight * np.float32(scale), shift * np.float32(scale))
    return layers


def forward(layers: Layers, x: Array, dtype: type[np.floating], step: int = 0) -> Array:
    """Run a network; with ``step`` 1 or -1, summed one product at a time in that order."""
    x = x.astype(dtype)
    for number, (weight, bias) in enumerate(layers):
        weight, bias = weight.astype(dtype), bias.astype(dtype)
        if step:
            total = np.zeros((len(x), weight.shape[1]), dtype)
            for row in range(len(weight))[::step]:
                total += x[:, row, None] * weight[row]
        else:
            total = x @ weight
        total += bias
        x = np.maximum(total, 0) if number < len(layers) - 1 else total
    return x


def passes(actual: Layers, layers: Layers, inputs: Sequence[Array], step: int) -> bool:
    figures = [
        measure(
            forward(actual, x, np.float32, step),
            forward(layers, x, np.float32),
            forward(layers, x, np.float64),
        )
        for x in inputs
    ]
    return all(judge("y", "s", f, T).status == "pass" for f in pool_floors(figures))


networks = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "widths": st.builds(
            lambda first, hidden, last: [first, *hidden, last],
            st.integers(1, 48),
            # A hidden layer of one unit can be 0 for all rows but one, and that one can cancel:
            # no floor is known then. docs/parity.md names this limit.
            st.lists(st.integers(8, 48), max_size=2),
            st.integers(1, 48),
        ),
        "batches": st.lists(st.integers(1, 9), min_size=6, max_size=8),
        "exponent": st.integers(-14, 10),
        "step": st.sampled_from([1, -1]),
    }
)


@given(networks)
def test_another_order_of_summation_passes(drawn: dict[str, object]) -> None:
    layers, inputs, step = build(**drawn)  # type: ignore[arg-type]  # as drawn above
    assert passes(layers, layers, inputs, step)


@given(networks)
def test_one_percent_of_one_weight_fails(drawn: dict[str, object]) -> None:
    layers, inputs, step = build(**drawn)  # type: ignore[arg-type]  # as drawn above
    *inner, (weight, bias) = layers
    hidden = np.concatenate(
        [
            np.abs(forward([*inner, (np.eye(len(weight)), np.zeros(1))], x, np.float64))
            for x in inputs
        ]
    )
    weight = weight.copy()
    weight[np.unravel_index(np.argmax(hidden.max(0)[:, None] * np.abs(weight)), weight.shape)] *= (
        1.01
    )
    if hidden.max() > 0:
        assert not passes([*inner, (weight, bias)], layers, inputs, step)


def build(
    seed: int, widths: Sequence[int], batches: Sequence[int], exponent: int, step: int
) -> tuple[Layers, list[Array], int]:
    generator = np.random.default_rng(seed)
    layers = network(generator, widths, 10.0**exponent)
    return layers, [generator.normal(size=(b, widths[0])).astype(np.float32) for b in batches], step


# ---- pooled floors


def test_few_elements_borrow_the_floor_of_the_others() -> None:
    lucky = Figures("oracle", elements=1, error_rms=5, error_max=5, floor_rms=0.1, floor_max=0.1)
    usual = Figures("oracle", elements=FEW_ELEMENTS, floor_rms=4, floor_max=9)
    assert lucky.ratio == 50
    pooled, same, _ = pool_floors([lucky, usual, usual])
    assert same == usual
    assert (pooled.floor_rms, pooled.floor_max) == (4, 9)
    assert pooled.ratio == 1.25


def test_one_sample_of_a_larger_scale_hides_no_fault_in_the_others() -> None:
    wrong = Figures("oracle", elements=1, error_rms=50, error_max=50, floor_rms=1, floor_max=1)
    huge = Figures("oracle", elements=1, floor_rms=1e6, floor_max=1e6)
    assert [f.ratio for f in pool_floors([wrong, wrong, wrong, huge])] == [50, 50, 50, 0]


def test_no_floor_is_lowered_and_what_was_not_measured_lends_nothing() -> None:
    high = Figures("oracle", elements=2, floor_rms=9, floor_max=9)
    low = Figures("oracle", elements=2, floor_rms=1, floor_max=1)
    broken = Figures("oracle", "shape", elements=0, error_rms=INF, error_max=INF)
    empty = Figures("oracle")
    found = pool_floors([high, low, broken, empty])
    assert found[0] == high
    assert found[1].floor_rms == 5
    assert found[2:] == [broken, empty]
    assert pool_floors([broken]) == [broken]
    assert pool_floors([]) == []


def test_exact_outputs_are_not_touched_by_pooling() -> None:
    exact = [measure(np.array([1]), np.array([n]), None) for n in (1, 2)]
    pooled = pool_floors(exact)
    assert pooled == exact
    assert [judge("y", "s", f, T).status for f in pooled] == ["pass", "fail"]
