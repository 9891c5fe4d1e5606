"""All samples together, and the rule of a narrower precision; ``test_parity`` has the rest."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from edgeport.runtimes.bundles.manifest import Kind
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.comparison import measure
from edgeport.runtimes.parity.figures import Figures
from edgeport.runtimes.parity.thresholds import REDUCED, Precision, Reduced, Thresholds, floor_scale
from edgeport.runtimes.parity.verdict import (
    Verdict,
    judge,
    judge_together,
    median,
    pool_floors,
)

T = Thresholds()


def truth(rows: int = 64) -> Array:
    return np.random.default_rng(0).normal(size=(rows, 10))


def noisy(values: Array, snr_db: float) -> Figures:
    """Float32 answers with that much noise."""
    noise = np.random.default_rng(1).normal(size=values.shape)
    actual = values + noise * 10 ** (-snr_db / 20) * math.sqrt(float(np.square(values).mean()))
    return measure(actual.astype(np.float32), values.astype(np.float32), values)


def verdict(figures: Figures, precision: Precision, thresholds: Thresholds = T) -> Verdict:
    return judge("y", "s", figures, thresholds, reduced=precision)


@pytest.mark.parametrize("precision", get_args(Precision))
def test_more_noise_than_the_precision_makes_fails(precision: Precision) -> None:
    bar = REDUCED[precision].min_snr_db
    good, bad = (verdict(noisy(truth(), bar + more), precision) for more in (3, -3))
    assert good.reason.startswith(f"signal-to-noise ratio is {bar + 3:.2g}")
    assert (good.status, bad.status) == ("pass", "fail")
    assert judge("y", "s", good.figures, T).status == "fail"  # at the module's own precision


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_rounding_to_a_precision_is_within_its_own_floor(precision: Precision) -> None:
    values = truth()
    keep = 11 if precision == "float16" else 8  # bits of the significand
    mantissa, exponent = np.frexp(values)
    rounded = np.ldexp(np.round(mantissa * 2**keep) / 2**keep, exponent).astype(np.float32)
    figures = measure(rounded, values.astype(np.float32), values)
    ratio = figures.ratio / floor_scale(precision, "float32")
    assert 0.1 < ratio < 2
    assert verdict(figures, precision).status == "pass"
    strict = verdict(figures, precision, Thresholds(outputs={"y": ratio / 2}))
    assert strict.status == "fail"
    assert f"times the floor of {precision}, {ratio / 2:g} allowed; largest at [" in strict.reason


def test_an_edge_case_owes_no_signal_to_noise_ratio_but_the_floor() -> None:
    figures = noisy(truth(), 10)
    for kind, precision, status in (
        ("edge", "int8", "pass"),
        ("random", "int8", "fail"),
        ("edge", "float16", "fail"),
    ):
        found = judge("y", "s", figures, T, kind=kind, reduced=precision)  # type: ignore[arg-type]  # literals
        assert found.status == status, (kind, precision)


def test_a_decision_may_flip_across_noise_only() -> None:
    values = np.zeros((100, 4))
    values[:, 0], values[:, 1] = 1.0, 0.999
    actual = values.astype(np.float32)
    actual[0, 1] = 1.0005
    near = measure(actual, values.astype(np.float32), values)
    assert (near.flips, near.flips_outside) == (1, 1)
    assert verdict(near, "int8").status == "pass"
    values[0, 1] = 0.2
    far = measure(actual, values.astype(np.float32), values)
    loose = Thresholds(reduced={**REDUCED, "int8": Reduced(20, 0)})
    found = verdict(replace(far, error_rms=1e-3), "int8", loose)
    assert found.status == "fail"
    assert found.reason == "a decision flips across a margin of 0.8, noise crosses at most 0.564"


def test_integers_may_differ_in_a_share_of_places() -> None:
    eager = np.arange(200)
    for wrong, status in ((0, "pass"), (1, "pass"), (10, "pass"), (11, "fail")):
        actual = eager.copy()
        actual[:wrong] += 1
        found = verdict(measure(actual, eager, None), "bfloat16")
        assert found.status == status
    assert found.reason == "11 of 200 elements differ, 10 allowed"
    one = verdict(measure(np.array([1]), np.array([2]), None), "float16")
    assert (one.status, one.reason) == ("pass", "1 of 1 elements differ")


@pytest.mark.parametrize(
    ("kind", "precision", "status"),
    [
        ("edge", "int8", "pass"),
        ("random", "int8", "fail"),
        ("edge", "float16", "fail"),
        ("edge", None, "fail"),
    ],
)
def test_integers_of_an_edge_case_owe_as_little_as_floats(
    kind: Kind, precision: Precision | None, status: str
) -> None:
    """ "count, large: 2 of 2 elements differ, 1 allowed", where its scores might be any in int8."""
    figures = measure(np.array([3, 4]), np.array([1, 2]), None)
    assert judge("y", "s", figures, T, kind=kind, reduced=precision).status == status


def test_structure_is_strict_in_every_precision() -> None:
    eager = np.array([1, 2], np.float32)
    found = verdict(measure(np.array([1, np.nan], np.float32), eager, None), "int8")
    assert found.status == "fail"
    assert found.reason.startswith("the backend has NaN at [1]")


def test_an_output_has_a_bar_of_its_own() -> None:
    figures = Figures("oracle", error_rms=30, floor_rms=10, error_max=10, floor_max=10)
    thresholds = Thresholds(4, outputs={"y": 2})
    assert judge("x", "s", figures, thresholds).status == "pass"
    found = judge("y", "s", figures, thresholds)
    assert found.reason == "error is 3 times the floor, 2 allowed; largest at []"
    assert judge("y", "s", figures, thresholds, kind="edge").status == "pass"


def test_the_signal_of_few_elements_is_pooled_too() -> None:
    signals = [1.0, 2.0, 0.0]
    figures = [
        Figures("oracle", elements=4, floor_rms=1, floor_max=1, signal_rms=s) for s in signals
    ]
    assert [f.signal_rms for f in pool_floors(figures)] == [1.0, 2.0, 1.0]


# ---- all samples together


def judged(
    *rms: float,
    elements: int = 64,
    kind: Kind = "real",
    output: str = "y",
    thresholds: Thresholds = T,
    figures: Figures | None = None,
) -> list[Verdict]:
    """Verdicts of one output whose floor is 1, on samples with these rms errors."""
    base = figures or Figures("oracle")
    made = [
        replace(base, elements=elements, error_rms=r, error_max=r, floor_rms=1.0, floor_max=1.0)
        for r in rms
    ]
    alone = [judge(output, f"s{n}", f, thresholds, kind=kind) for n, f in enumerate(made)]
    return judge_together(alone, thresholds)


def test_a_floor_of_zero_which_only_a_changed_report_has_is_no_floor() -> None:
    figures = Figures("oracle", elements=64, error_rms=1.0)
    (verdict,) = judge_together([judge("y", "s", figures, T)], T)
    assert (verdict.status, verdict.figures.rms_ratio) == ("fail", math.inf)


def statuses(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.status for verdict in verdicts]


def test_a_small_fault_in_most_samples_fails_the_worst() -> None:
    found = judged(2.9, 3.5, 3.1, 1.0)
    assert statuses(found) == ["pass", "fail", "pass", "pass"]
    assert found[1].reason == (
        "rms error is 3 times the floor in the median over 4 samples, 2.83 allowed"
    )
    assert found[1].figures.error_rms == 3.5


def test_bad_luck_in_one_sample_is_none_in_the_median() -> None:
    assert statuses(judged(7.9, 1, 1)) == ["pass"] * 3
    assert statuses(judged(7.9, 7.9, 1, 1, 1)) == ["pass"] * 5


@pytest.mark.parametrize(("elements", "bar"), [(1, 8.0), (4, 4.0), (8, 8**0.5), (10**6, 8**0.5)])
def test_the_more_elements_the_nearer_the_median_must_be(elements: int, bar: float) -> None:
    assert "fail" not in statuses(judged(*[bar * 0.999] * 3, elements=elements))
    assert "fail" in statuses(judged(*[bar * 1.001] * 3, elements=elements))


def test_the_smallest_sample_says_how_many_elements_there_are() -> None:
    many = judged(3.9, 3.9, elements=400)
    assert "fail" in statuses(many)
    again = [judge("y", v.sample, v.figures, T) for v in many]
    few = judged(3.9, elements=4)
    assert statuses(judge_together([*few, *again], T)) == ["pass"] * 3


def test_of_samples_of_one_decision_each_not_all_may_differ() -> None:
    def counted(differing: int, kind: Kind = "real") -> list[Verdict]:
        figures = [Figures("exact", "int64", elements=1, error_max=float(n < differing))
                   for n in range(24)]  # fmt: skip  # one thing
        found = [judge("class", f"{n}", f, T, kind=kind, reduced="int8")
                 for n, f in enumerate(figures)]  # fmt: skip  # one thing
        assert statuses(found) == ["pass"] * 24
        return judge_together(found, T, "int8")

    assert statuses(counted(2)) == ["pass"] * 24
    assert statuses(counted(24, "edge")) == ["pass"] * 24
    (wrong,) = (verdict for verdict in counted(3) if verdict.status == "fail")
    assert wrong.reason == "3 of 24 elements differ over all samples, 2 allowed"


def test_each_output_has_a_median_and_a_bar_of_its_own() -> None:
    wrong, right = judged(4, 4, output="wrong"), judged(1, 1, output="right")
    assert statuses(judge_together([*wrong, *right], T)) == ["fail", "pass", "pass", "pass"]
    thresholds = Thresholds(outputs={"wrong": 16})
    assert statuses(judged(4, 4, output="wrong", thresholds=thresholds)) == ["pass"] * 2


def test_a_median_says_nothing_of_edge_cases_or_without_an_oracle() -> None:
    assert statuses(judged(7, 7, kind="edge")) == ["pass"] * 2
    assert statuses(judged(7, 7, kind="search")) == ["pass"] * 2
    assert statuses(judged(7, 7, figures=Figures("float32"))) == ["pass"] * 2
    assert statuses(judged(7, 7, figures=Figures("oracle", "float64"))) == ["pass"] * 2
    assert statuses(judged(7, 7, elements=0)) == ["pass"] * 2
    assert judge_together([], T) == []


def test_what_has_failed_keeps_its_reason() -> None:
    assert judged(9, 9)[0].reason.startswith("error is 9 times the floor, 8 allowed")


@pytest.mark.parametrize(
    "values",
    [[2.0], [3.0, 1.0], [5.0, 1.0, 2.0], [1.0, np.inf], [1.0, np.nan, 2.0], [4.0, 3.0, 1.0, 2.0]],
)
def test_the_median_is_that_of_numpy(values: list[float]) -> None:
    assert np.array_equal(median(values), np.median(values), equal_nan=True)
