"""Every figure beside the error and its floor, of which ``test_parity`` is full."""

import json
import math
from dataclasses import astuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from edgeport.runtimes.formats import records
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity import comparison
from edgeport.runtimes.parity.comparison import measure
from edgeport.runtimes.parity.figures import Figures, NonFinite, Place

NAN, INF = math.nan, math.inf
SHAPES = nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


def arrays(dtype: str) -> st.SearchStrategy[tuple[Array, Array]]:
    """A pair of one shape."""
    return SHAPES.flatmap(lambda shape: st.tuples(*(nps.arrays(dtype, shape) for _ in range(2))))


floats = st.sampled_from(["float16", "float32", "float64"])
anything = st.one_of(floats, st.sampled_from(["int8", "int64", "uint64", "bool"])).flatmap(arrays)


@given(anything, st.booleans())
def test_whatever_is_measured_is_finite_json_and_read_back(
    pair: tuple[Array, Array], with_oracle: bool
) -> None:
    actual, eager = pair
    oracle = eager.astype(np.float64) if with_oracle else None
    for figures in (measure(actual, eager, oracle), measure(eager, eager, oracle)):
        text = json.dumps(records.to_json(figures), allow_nan=False)
        assert records.from_json(Figures, json.loads(text)) == figures
    assert figures.ratio == 0
    assert (figures.ulp_max, figures.flips, figures.mismatch) == (0, 0, None)


@given(floats.flatmap(arrays))
def test_the_map_of_what_is_no_number(pair: tuple[Array, Array]) -> None:
    actual, eager = pair
    found = {each.kind: each for each in measure(actual, eager, None).non_finite}
    for kind, where in (("NaN", np.isnan), ("+Inf", np.isposinf), ("-Inf", np.isneginf)):
        here, there = where(actual), where(eager)
        each = found.pop(kind, NonFinite("NaN", 0, 0, 0, ()))  # type: ignore[call-overload]  # a literal
        assert (each.eager, each.actual) == (there.sum(), here.sum())
        wrong = [tuple(int(i) for i in place) for place in np.argwhere(here != there)]
        assert each.differ == len(wrong)
        assert list(each.first) == wrong[:8]
    assert not found


@given(
    nps.arrays("float64", (4, 3), elements=st.floats(-100, 100)),
    st.integers(-60, 60),
    st.permutations(range(4)),
)
def test_snr_and_cosine_depend_on_neither_scale_nor_order(
    values: Array, power: int, order: list[int]
) -> None:
    values[0] += 200  # a signal
    actual = values + 0.1 * np.arange(12).reshape(4, 3)
    one = measure(actual, values, values)
    scale = 2.0**power
    for a, e in ((actual * scale, values * scale), (actual[order], values[order])):
        other = measure(a, e, e)
        assert other.snr_db == pytest.approx(one.snr_db, abs=1e-9)
        assert other.cosine == pytest.approx(one.cosine, abs=1e-12)
        assert other.ratio == pytest.approx(one.ratio, rel=1e-9)


def test_snr_in_decibels() -> None:
    assert measure(f32(1.1, 1.1), f32(1, 1), np.ones(2)).snr_db == pytest.approx(20, abs=1e-5)
    assert measure(f32(1, 1), f32(1, 1), np.ones(2)).snr_db == INF
    assert measure(f32(1), f32(0), np.zeros(1)).snr_db == -INF
    assert measure(f32(NAN), f32(0), np.zeros(1)).snr_db == -INF
    assert measure(np.array([1e-200]), np.array([2e-200]), None).snr_db == pytest.approx(6.02, 1e-3)


def test_ulps_of_eagers_dtype() -> None:
    eager = np.array([1, 2, 3, 4], np.float16)
    actual = eager + np.array([0, 1, 2, 16], np.float16) * np.spacing(eager)
    found = measure(actual.astype(np.float16), eager, eager.astype(np.float64))
    assert (found.ulp_max, found.ulp_median) == (16, 2)


@given(nps.arrays("float64", 40, elements=st.floats(-1, 1)))
def test_the_places_of_the_largest_errors(noise: Array) -> None:
    values = np.ones((5, 8))
    found = measure(values + noise.reshape(5, 8), values, values)
    errors = np.abs((values + noise.reshape(5, 8)) - values)
    assert len(found.places) == 8
    shown = [errors[place.index] for place in found.places]
    assert shown == sorted(errors.ravel())[: -8 - 1 : -1]
    assert found.worst_index == found.places[0].index
    assert found.error_max == shown[0]


@given(nps.arrays("float64", 40, elements=st.sampled_from([-1, 0, 0.25, 1, 1e200, NAN])), floats)
def test_many_elements_are_measured_in_blocks_as_few_are_at_once(noise: Array, dtype: str) -> None:
    truth = np.linspace(-1, 1, 40)
    with np.errstate(over="ignore"):
        actual, eager = (truth + noise).astype(dtype), (truth + noise[::-1]).astype(dtype)
    whole = measure(actual, eager, truth)
    with mock.patch.object(comparison, "_BLOCK", 7):
        found = measure(actual, eager, truth)
    assert found.places == whole.places
    assert found.histogram == whole.histogram
    for one, other in zip(astuple(found), astuple(whole), strict=True):
        assert one == pytest.approx(other, rel=1e-12) if isinstance(one, float) else one == other


def test_a_place_says_what_stands_there() -> None:
    found = measure(f32(NAN, 5, 2), f32(NAN, 1, 2), np.array([NAN, 1.5, 2]))
    assert found.places == (Place((1,), 5, 1, 1.5), Place((2,), 2, 2, 2))
    wrong = measure(np.array([[True], [False]]), np.array([[True], [True]]), None)
    assert wrong.places == (Place((1, 0), 0, 1, None),)


def test_a_histogram_of_both_errors() -> None:
    found = measure(f32(1.5, 2.25, 4), f32(1, 2, 4.125), np.array([1, 2, 4.0])).histogram
    assert found is not None
    assert found.top == 0
    assert (found.actual[:4], found.actual[-1]) == ((1, 1, 0, 0), 1)
    assert (found.eager[:4], found.eager[-1]) == ((0, 0, 1, 0), 2)


def test_flips_inside_and_outside_the_noise() -> None:
    oracle = np.array([[1, 1.0000001], [1, 1.01], [3, 0]])
    eager = oracle.astype(np.float32)
    found = measure(eager[:, ::-1].copy(), eager, oracle)
    assert (found.decisions, found.flips, found.flips_outside) == (3, 3, 2)
    assert found.flip_margin == 3
