import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.distances import (
    BINADES,
    binade,
    binades,
    cosine_of,
    divisor,
    middle,
    rms,
    ulp_distance,
)

FLOATS = st.sampled_from(["float16", "float32", "float64"]).map(np.dtype)


def finite(dtype: np.dtype, shape: tuple[int, ...] = (6,)) -> st.SearchStrategy[Array]:
    elements = nps.from_dtype(dtype, allow_nan=False, allow_infinity=False)
    return nps.arrays(dtype, shape, elements=elements)


vectors = finite(np.dtype("float64"))


# ---- ulp distance


@given(st.data(), FLOATS)
def test_the_next_float_is_one_step_away(data: st.DataObject, dtype: np.dtype) -> None:
    values = data.draw(finite(dtype))
    with np.errstate(over="ignore"):
        up = np.nextafter(values, dtype.type(np.inf))
    assume(np.isfinite(up).all())
    assert (ulp_distance(values, up) == 1).all()
    assert (ulp_distance(up, values) == 1).all()


@given(st.data(), FLOATS, st.integers(0, 100))
def test_inside_a_binade_steps_are_differences_over_the_spacing(
    data: st.DataObject, dtype: np.dtype, steps: int
) -> None:
    values = data.draw(finite(dtype))
    with np.errstate(over="ignore", invalid="ignore"):
        far = values + dtype.type(steps) * np.spacing(values)
        near = np.isfinite(far) & (np.spacing(far) == np.spacing(values))
    assert (ulp_distance(far[near], values[near]) == steps).all()


@given(st.data(), FLOATS)
def test_it_is_a_distance_along_a_line(data: st.DataObject, dtype: np.dtype) -> None:
    low, mid, high = np.sort(data.draw(finite(dtype, (3,))))
    one, two, both = (
        int(ulp_distance(np.array([a]), np.array([b]))[0])
        for a, b in ((low, mid), (mid, high), (low, high))
    )
    assert one + two == both
    assert (one == 0) == (low == mid)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_both_ends_of_the_line(dtype: str) -> None:
    info = np.finfo(dtype)
    assert ulp_distance(np.array([-0.0], dtype), np.array([0.0], dtype)) == 0
    tiny = info.smallest_subnormal
    assert ulp_distance(np.array([-tiny], dtype), np.array([tiny], dtype)) == 2
    floats = (1 << info.bits) - (1 << (info.nmant + 1)) - 2  # all, less Inf and NaN, less one zero
    ends = (np.array([end], dtype) for end in (info.min, info.max))
    assert int(ulp_distance(*ends)[0]) == floats


def test_the_middle_one() -> None:
    assert [middle(np.array(v)) for v in ([3], [3, 1], [9, 1, 5], [4, 1, 2, 3])] == [3, 3, 5, 3]


# ---- rms and cosine


@given(vectors, st.integers(-200, 200))
def test_the_rms_follows_the_scale(values: Array, power: int) -> None:
    values = np.abs(values)
    assume(values.max() < 1e100)
    assume(values.max() > 1e-100)
    scale = 2.0**power
    assert rms(values * scale) == pytest.approx(rms(values) * scale, rel=1e-12)
    assert values.max() / math.sqrt(values.size) <= rms(values) * (1 + 1e-12)
    assert rms(values) <= values.max() * (1 + 1e-12)


def test_the_rms_at_the_ends_of_the_range() -> None:
    assert rms(np.array([1e300, 1e300])) == 1e300
    assert rms(np.array([5e-324, 5e-324])) == 5e-324
    assert rms(np.zeros(3)) == 0
    assert rms(np.array([math.inf, 1.0])) == math.inf


def cosine(a: Array, b: Array) -> float | None:
    x, y = (values / divisor(float(np.abs(values).max())) for values in (a, b))
    return cosine_of(float(x @ x), float(y @ y), float(x @ y))


@given(vectors, vectors, st.floats(1e-3, 1e3), st.permutations(range(6)))
def test_the_cosine_depends_on_directions_alone(
    a: Array, b: Array, scale: float, order: list[int]
) -> None:
    big = 1e300
    assume(1e-290 < np.abs(a).max() < big)
    assume(1e-290 < np.abs(b).max() < big)
    found = cosine(a, b)
    assert found is not None
    assert -1 <= found <= 1
    for x, y, sign in ((b, a, 1), (a * scale, b, 1), (-a, b, -1), (a[order], b[order], 1)):
        assert cosine(x, y) == pytest.approx(sign * found, abs=1e-12)
    assert cosine(a, a) == pytest.approx(1, abs=1e-15)


def test_the_cosine_of_nothing() -> None:
    assert cosine(np.zeros(2), np.ones(2)) is None
    assert cosine(np.ones(2), np.zeros(2)) is None
    assert cosine(np.array([1.0, 0]), np.array([0, -1e-300])) == 0
    assert cosine(np.array([5e-324]), np.array([-1e308])) == -1


# ---- binades


@given(nps.arrays("float64", 5, elements=st.just(0.0) | st.floats(1e-280, 1e300)))
def test_every_value_is_in_one_bin_of_its_size(values: Array) -> None:
    top = binade(float(values.max())) if values.max() > 0 else 0
    counts = binades(values, top)
    assert sum(counts) == values.size
    assert len(counts) == BINADES
    for k, count in enumerate(counts[:-1]):
        low, high = math.ldexp(1.0, top - k - 1), math.ldexp(1.0, top - k)
        assert count == sum(low <= v < high for v in values)


def test_an_infinite_error_is_the_largest() -> None:
    assert binade(math.inf) == 1025
    assert binades(np.array([math.inf, 1e308, 1.0]), 1025)[:3] == (1, 1, 0)
    assert binade(0.0) == binade(5e-324) == -1022
