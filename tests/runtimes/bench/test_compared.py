from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeport.runtimes.bench.compared import Comparison, Verdict, paired, paired_ratio, unpaired
from edgeport.runtimes.bench.loops import Durations
from edgeport.runtimes.bench.statistics import Interval


def series(factor: float = 1.0, process_noise: float = 0.0, seed: int = 0) -> Durations:
    """Eight processes of five rounds of ten calls, which share a drift of the machine."""
    generator = np.random.default_rng(seed)
    drift = np.linspace(1, 3, 40).reshape(8, 5, 1)
    processes = np.exp(generator.normal(0, process_noise, (8, 1, 1)))
    calls = generator.uniform(0.95, 1.05, (8, 5, 10))
    return (1e6 * factor * drift * processes * calls).astype(np.int64)


@settings(max_examples=10)
@given(st.integers(3, 6), st.integers(1, 5), st.integers(1, 9))
def test_a_ratio_is_free_of_the_drift_that_both_share(p: int, r: int, times: int) -> None:
    base = np.random.default_rng(p * r).integers(1000, 9999, (p, r, 5))
    drift = np.arange(1, p * r + 1).reshape(p, r, 1)
    ratio = paired_ratio(times * drift * base, drift * base)
    assert ratio.value == pytest.approx(times)
    assert ratio.low == pytest.approx(times)
    assert ratio.high == pytest.approx(times)


@pytest.mark.parametrize("processes", [1, 2])
def test_too_few_processes_give_no_interval_and_no_verdict(processes: int) -> None:
    base = np.full((processes, 4, 5), 1000)
    ratio = paired_ratio(2 * base, base)
    assert ratio.value == pytest.approx(2)
    assert ratio.low is ratio.high is None
    assert paired("b", "a", 2 * base, base).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("factor", "verdict", "words"),
    [
        (1.2, "slower", "b is 20.0% slower than a"),
        (0.8, "faster", "b is 20.0% faster than a"),
        (1.0, "equivalent", "b is equivalent within 3% to a"),
    ],
)
def test_verdicts(factor: float, verdict: Verdict, words: str) -> None:
    a = series()
    found = paired("b", "a", (a * factor).astype(np.int64), a, a)
    assert found.verdict == verdict
    assert str(found) == words


def test_processes_that_differ_too_much_tell_nothing() -> None:
    found = paired("b", "a", series(1.05, 0.2, seed=1), series(1, 0.2, seed=2))
    assert found.verdict == "inconclusive"
    assert str(found) == "b is not shown to differ from a"


def test_a_difference_within_what_equals_differ_by_is_none() -> None:
    """The twin is 10 % off, for whatever reason: so 7 % more than both means nothing here."""
    a = series()
    twin = (a * 1.10).astype(np.int64)
    found = paired("b", "a", (a * 1.12).astype(np.int64), a, twin)
    assert found.noise == pytest.approx(1.10, rel=1e-3)
    assert found.ratio.value == pytest.approx(1.12 / 1.10**0.5, rel=1e-3)
    assert found.verdict == "inconclusive"
    assert paired("b", "a", (a * 1.12).astype(np.int64), a).verdict == "slower"


def test_equals_are_seldom_told_apart() -> None:
    """And 5 % are found, where processes differ by 2 %."""
    wrong = found = 0
    for seed in range(200):
        a, b, twin = (series(1, 0.02, seed=3 * seed + k) for k in range(3))
        wrong += paired("b", "a", b, a, twin).verdict in ("faster", "slower")
        found += paired("b", "a", (b * 1.05).astype(np.int64), a, twin).verdict == "slower"
    assert wrong <= 10
    assert found >= 190


def test_unpaired_is_welchs() -> None:
    found = unpaired("new", "old", [110.0, 111, 109], [100.0, 101, 99])
    assert found.ratio.value == pytest.approx(1.1, rel=1e-3)
    assert found.verdict == "slower"
    assert unpaired("new", "old", [1.0, 1.0], [1.0] * 3).verdict == "inconclusive"
    same = unpaired("new", "old", [100.0] * 3, [100.0] * 3)
    assert same.ratio == Interval(1.0, 1.0, 1.0)
    assert same.verdict == "equivalent"


def test_two_moods_are_not_two_models() -> None:
    """Medians of processes, each like the one before; with Welch's alone 102 of 200 were called."""
    generator = np.random.default_rng(3)

    def measured() -> list[float]:
        mood = generator.normal()
        found = []
        for _ in range(16):
            mood = 0.75 * mood + (1 - 0.75**2) ** 0.5 * generator.normal()
            found.append(100_000 * np.exp(0.1 * mood))
        return found

    verdicts = [unpaired("new", "old", measured(), measured()).verdict for _ in range(200)]
    assert sum(verdict in ("faster", "slower") for verdict in verdicts) <= 20
    slow = [2 * each for each in measured()]
    assert unpaired("new", "old", slow, measured()).verdict == "slower"


def replace_value(comparison: Comparison, value: float) -> str:
    return replace(comparison, ratio=Interval(value, None, None)).sentence


def test_a_sentence_for_every_verdict() -> None:
    ratio = Interval(1.5, 1.4, 1.6)
    assert replace_value(Comparison("x", "y", ratio, None, 0.05, "slower"), 5.919) == (
        "takes 5.92 times as long as"
    )
    assert replace_value(Comparison("x", "y", ratio, None, 0.05, "faster"), 0.25) == (
        "is 4 times as fast as"
    )
    verdicts: tuple[Verdict, ...] = ("faster", "slower", "equivalent", "inconclusive")
    sentences = {Comparison("x", "y", ratio, None, 0.05, v).sentence for v in verdicts}
    assert sentences == {
        "is 50.0% faster than",
        "is 50.0% slower than",
        "is equivalent within 5% to",
        "is not shown to differ from",
    }
