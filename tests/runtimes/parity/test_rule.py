import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes import UsageError
from edgeport.runtimes.formats import records
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.comparison import measure
from edgeport.runtimes.parity.figures import Figures
from edgeport.runtimes.parity.informative import uninformative
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.parity.verdict import Verdict, judge, worst

NAN, INF = math.nan, math.inf
T = Thresholds()


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


def verdict(actual: Array, eager: Array, oracle: Array | None = None) -> Verdict:
    return judge("y", "s", measure(actual, eager, oracle), T)


def draw(shape: tuple[int, ...], scale: float, seed: int = 0) -> tuple[Array, Array, Array]:
    """An oracle, and two float32 answers that are each a few ulp away from it."""
    generator = np.random.default_rng(seed)
    oracle = generator.normal(size=shape) * scale
    noise = generator.normal(size=(2, *shape)) * np.abs(oracle) * 3e-7
    eager, actual = (oracle + noise).astype(np.float32)
    return actual, eager, oracle


# ---- structure


@pytest.mark.parametrize(
    ("actual", "eager", "reason"),
    [
        (f32(1), np.array([1.0]), "dtype is float32, the module gives float64"),
        (np.array([1], np.int32), np.array([1]), "dtype is int32, the module gives int64"),
        (f32(1), f32(1, 1), "shape is [1], the module gives [2]"),
        (np.zeros((4, 1)), np.zeros((4, 4)), "shape is [4, 1], the module gives [4, 4]"),
        (np.zeros(()), np.zeros(1), "shape is [], the module gives [1]"),
        (f32(NAN, 1), f32(2, 1), "the backend has NaN at [0], the module has not; 1 such places"),
        (f32(1, NAN), f32(NAN, 1), "the module has NaN at [0], the backend has not; 2 such places"),
        (f32(INF), f32(NAN), "the module has NaN at [0], the backend has not; 1 such places"),
        (f32(INF), f32(3e38), "the backend has +Inf at [0], the module has not; 1 such places"),
        (f32(INF), f32(-INF), "the backend has +Inf at [0], the module has not; 1 such places"),
        (f32(0), f32(-INF), "the module has -Inf at [0], the backend has not; 1 such places"),
        (
            np.array(NAN, np.float32),
            np.array(1, np.float32),
            "the backend has NaN at [], the module",
        ),
    ],
)
def test_another_structure_fails(actual: Array, eager: Array, reason: str) -> None:
    found = verdict(np.asarray(actual), eager, eager.astype(np.float64))
    assert found.status == "fail"
    assert found.reason.startswith(reason)
    assert found.figures.ratio == INF


@pytest.mark.parametrize(
    ("values", "oracle"),
    [
        ([NAN, INF, -INF, 1], [NAN, INF, -INF, 1]),
        ([INF, -INF, 1], [1e39, -1e40, 1]),  # only float32 overflows
        ([NAN, 1], [2, 1]),
        ([NAN, NAN], [NAN, NAN]),
    ],
)
def test_nan_and_inf_at_the_same_places_pass(values: list[float], oracle: list[float]) -> None:
    found = verdict(f32(*values), f32(*values), np.array(oracle, np.float64))
    assert (found.status, found.figures.ratio, found.figures.rule) == ("pass", 0, "oracle")


def test_what_is_not_finite_hides_nothing() -> None:
    values = f32(NAN, INF, 1, 2)
    wrong = f32(NAN, INF, 1, 2.001)
    assert verdict(wrong, values, values.astype(np.float64)).status == "fail"


# ---- integers and bools


@pytest.mark.parametrize(
    ("actual", "eager", "differ"),
    [
        (np.array([1], np.uint8), np.array([2], np.uint8), 1),  # 1 - 2 wraps to 255
        (np.array([0, 255], np.uint8), np.array([255, 0], np.uint8), 2),
        (np.array([-(2**63)]), np.array([2**63 - 1]), 1),
        (np.array([2**53 + 1]), np.array([2**53]), 1),  # equal in float64
        (np.array([True, False]), np.array([True, True]), 1),
        (np.array(3), np.array(4), 1),
        (np.zeros((0, 3), np.int64), np.zeros((0, 3), np.int64), 0),
        (np.array(True), np.array(True), 0),
    ],
)
def test_integers_and_bools_are_equal_or_wrong(actual: Array, eager: Array, differ: int) -> None:
    found = verdict(actual, eager, None)
    assert found.figures.rule == "exact"
    assert found.figures.error_max == differ
    assert found.reason == (f"{differ} elements differ" if differ else "equal")
    assert found.status == ("fail" if differ else "pass")


def test_the_first_wrong_element_is_named() -> None:
    assert measure(np.array([[1, 2], [3, 4]]), np.array([[1, 2], [0, 0]]), None).worst_index == (
        1,
        0,
    )


# ---- floats: odd values


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 3, 4)])
def test_every_shape_and_dtype_is_equal_to_itself(dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(dtype)
    for oracle in (None, values.astype(np.float64)):
        found = verdict(values, values, oracle)
        assert (found.status, found.figures.ratio) == ("pass", 0)
        assert found.figures.elements == values.size


@pytest.mark.parametrize("scale", [1e-14, 1e-6, 1, 1e10, 1e30])
def test_the_ratio_does_not_depend_on_the_scale(scale: float) -> None:
    one = measure(*draw((8, 5), 1.0))
    scaled = measure(*draw((8, 5), scale))
    assert 0.4 < one.ratio < 2
    assert scaled.ratio == pytest.approx(one.ratio, rel=0.2)  # float32 steps lie elsewhere


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-150, 1.0, 1e160, 1e300])
def test_squares_of_float64_neither_overflow_nor_vanish(scale: float) -> None:
    eager = np.array([1.0, 2.0, 3.0]) * scale
    near, far = eager * (1 + 4e-16), eager * (1 + 1e-9)
    for oracle in (None, eager):
        assert verdict(near, eager, oracle).status == "pass"
        found = verdict(far, eager, oracle)
        assert found.status == "fail"
        assert math.isfinite(found.figures.ratio)
        assert found.figures.error_rms == pytest.approx(math.sqrt(14 / 3) * 1e-9 * scale, rel=1e-6)


def test_a_difference_too_large_for_float64_fails() -> None:
    found = verdict(np.array([1e308, 1.0]), np.array([-1e308, 1.0]))
    assert (found.status, found.figures.ratio) == ("fail", INF)


def test_all_zero_is_equal_and_nothing_else_is() -> None:
    zeros = np.zeros(3, np.float32)
    assert verdict(zeros, zeros, zeros.astype(np.float64)).figures.ratio == 0
    assert verdict(zeros + np.float32(1e-30), zeros, zeros.astype(np.float64)).status == "fail"


def test_minus_zero_is_zero() -> None:
    assert verdict(f32(-0.0), f32(0.0), np.array([0.0])).figures.ratio == 0


@pytest.mark.parametrize("scale", [1e-44, 1e-42, 1e-39])
def test_denormal_outputs_may_round_but_not_vanish(scale: float) -> None:
    eager = f32(1, 2, 3) * np.float32(scale)
    tiny = np.float32(1e-45)
    oracle = np.array([1, 2, 3]) * scale
    assert verdict(eager + tiny, eager, oracle).status == "pass"
    if scale > 1e-43:
        assert verdict(np.zeros_like(eager), eager, oracle).status == "fail"


def test_float16_overflows_where_the_module_does() -> None:
    oracle = np.array([1e5, 1.0, 2.0])
    with np.errstate(over="ignore"):
        eager = oracle.astype(np.float16)
    assert verdict(eager, eager, oracle).status == "pass"
    assert verdict(np.array([65504, 1, 2], np.float16), eager, oracle).status == "fail"


def test_float16_has_its_own_floor() -> None:
    generator = np.random.default_rng(0)
    oracle = generator.normal(size=100)
    eager = oracle.astype(np.float16)
    assert verdict((oracle * (1 + 5e-4)).astype(np.float16), eager, oracle).status == "pass"
    assert verdict((oracle * 1.02).astype(np.float16), eager, oracle).status == "fail"


# ---- floats: what the oracle is worth


@pytest.mark.parametrize(
    "oracle",
    [
        None,
        np.array([NAN, 2.0]),
        np.array([INF, 2.0]),
        np.array([NAN, NAN]),
        np.array([1.0]),
        np.array([[1.0, 2.0]]),
        f32(1, 2),
    ],
)
def test_an_oracle_that_is_none_is_said_and_hides_nothing(oracle: Array | None) -> None:
    eager = f32(1, 2)
    found = measure(f32(1, 2.0000002), eager, oracle)
    assert found.rule == "float32"
    assert found.floor_max == 8 * np.finfo(np.float32).eps * 2
    assert judge("y", "s", found, T).status == "pass"
    assert verdict(f32(1.0001, 2), eager, oracle).status == "fail"


def test_a_module_in_float64_is_its_own_oracle() -> None:
    eager = np.array([1.0, 2.0])
    found = measure(eager * (1 + 1e-15), eager, eager)
    assert found.floor_max == 8 * np.finfo(np.float64).eps * 2
    assert judge("y", "s", found, T).status == "pass"


def test_eager_that_is_right_by_luck_has_a_floor_of_two_ulp() -> None:
    eager = f32(1, -3)
    found = measure(eager, eager, eager.astype(np.float64))
    assert found.floor_max == 2 * np.finfo(np.float32).eps * 3
    assert found.floor_rms == pytest.approx(2 * np.finfo(np.float32).eps * math.sqrt(5))


# ---- decisions


def test_a_flip_is_counted_with_the_margin_it_crossed() -> None:
    eager = f32(3, 1, 2, 1, 2, 4).reshape(2, 3)
    actual = f32(3, 1, 2, 1, 5, 4).reshape(2, 3)
    found = measure(actual, eager, eager.astype(np.float64))
    assert (found.decisions, found.flips, found.flip_margin) == (2, 1, 2)
    assert found.worst_index == (1, 1)
    assert judge("y", "s", found, T).reason.endswith(
        "times the floor, 8 allowed; largest at [1, 1]"
    )


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 3, 1, 5, 4)])
def test_an_image_has_its_classes_along_the_second_axis(shape: tuple[int, ...]) -> None:
    eager = np.zeros(shape, np.float32)  # (N, C, ..., H, W)
    eager[:, 1] = 1
    actual = eager.copy()
    actual[1, 2, ..., 4, 0] = 3
    found = measure(actual, eager, eager.astype(np.float64))
    assert (found.decisions, found.flips, found.flip_margin) == (2 * 5 * 4, 1, 1)
    assert measure(eager[:, :1], eager[:, :1], None).decisions == 0


def test_decisions_with_nan_and_inf_raise_no_warning() -> None:
    eager = f32(NAN, 1, 2, INF, INF, 1, 1, 2, 3, -INF, -INF, -INF).reshape(4, 3)
    actual = eager.copy()
    actual[2, 0] = 4
    found = measure(actual, eager, eager.astype(np.float64))
    assert (found.decisions, found.flips, found.flip_margin) == (4, 1, 2)


@pytest.mark.parametrize("shape", [(), (3,), (3, 1), (3, 0)])
def test_one_number_for_each_row_is_no_decision(shape: tuple[int, ...]) -> None:
    values = np.ones(shape, np.float32)
    assert measure(values, values, None).decisions == 0


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 50))
def test_no_flip_that_passes_crosses_more_than_noise(seed: int, size: float) -> None:
    generator = np.random.default_rng(seed)
    oracle = generator.integers(-2, 3, size=(20, 4)) + generator.normal(size=(20, 4)) * 1e-7
    eager = oracle.astype(np.float32)
    actual = (oracle + generator.normal(size=(20, 4)) * 1e-7 * size).astype(np.float32)
    found = measure(actual, eager, oracle)
    if judge("y", "s", found, T).status == "pass":
        assert found.flip_margin <= 2 * T.max_ratio * found.floor_max


# ---- outputs that prove nothing


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        ([np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32)], True),
        ([f32(1, 2)[None], np.repeat(f32(1, 2)[None], 5, 0)], True),
        ([f32(1, 1), f32(1)], True),
        ([f32(NAN, NAN), f32(NAN)], True),
        ([np.array(1.0), np.array(1.0)], True),
        ([np.array(1.0), np.array(2.0)], False),
        ([f32(1, 2)], False),
        ([f32(1, 1), f32(2)], False),
        ([np.zeros((2, 3)), np.zeros((2, 4))], True),  # one value, whatever the shape
        ([np.zeros((0, 3), np.float32)], True),
        ([np.full((4, 3), 2), np.full((1, 3), 2)], True),
        ([np.array([True, True]), np.array([True, False])], False),
        ([np.arange(6).reshape(2, 3)] * 2, True),  # the same on every sample
        ([np.arange(6).reshape(2, 3)], False),
        ([f32(NAN, INF), f32(INF, NAN)], True),  # not one number
        ([f32(NAN, 1), f32(NAN, 2)], False),
        ([], True),
    ],
)
def test_an_output_that_never_changes(references: list[Array], expected: bool) -> None:
    assert uninformative(references) is expected


# ---- values


@pytest.mark.parametrize("ratio", [0.0, -1.0, NAN, INF, 1e10])
def test_thresholds_that_are_no_bar(ratio: float) -> None:
    with pytest.raises(UsageError, match=f"the largest ratio is {ratio}, expected more than 0 and"):
        Thresholds(ratio)


def test_stored_figures_can_be_judged_again() -> None:
    figures = Figures("oracle", error_rms=30, floor_rms=10, error_max=10, floor_max=10)
    assert figures.ratio == 3
    assert judge("y", "s", figures, T).reason == "error is 3 times the floor"
    again = judge("y", "s", figures, Thresholds(2))
    assert again.status == "fail"
    assert again.reason == "error is 3 times the floor, 2 allowed; largest at []"


def test_a_verdict_becomes_json() -> None:
    value = records.to_json(verdict(f32(NAN), f32(1)))
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert (value["output"], value["status"], value["figures"]["ratio"]) == ("y", "fail", None)
    assert records.to_json(verdict(*draw((2, 3), 1)))["figures"]["ratio"] > 0


def test_the_worst_of_each_output() -> None:
    passed = verdict(*draw((2, 3), 1))
    failed = verdict(f32(1, 2), f32(1, 3))
    other = replace(passed, output="z")
    large = replace(passed, figures=replace(passed.figures, error_rms=INF))
    assert worst([passed, failed, large, other]) == {"y": failed, "z": other}
    assert worst([passed, large]) == {"y": large}
    assert worst([]) == {}
