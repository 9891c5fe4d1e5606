"""What is learned of a model's runs: durations are given, nothing sleeps."""

import random

import pytest

from edgeport.runtimes.serve.run_times import RunTimes


def fed(
    times: RunTimes, *runs: tuple[int, float], noise: float = 0.0, again: int = 200
) -> RunTimes:
    draw = random.Random(0)
    for _ in range(again):
        for size_bytes, time_s in runs:
            times.learn(size_bytes, time_s * (1 + noise * (draw.random() - 0.5)))
    return times


def test_two_first_runs_tell_what_is_fixed() -> None:
    times = RunTimes([(8, 0.021), (8 * 32, 0.052)])
    assert times.fixed_s == pytest.approx(0.02, rel=0.01)
    assert times.byte_s == pytest.approx(0.001 / 8, rel=0.01)
    assert times.expect(8 * 100) == pytest.approx(0.12, rel=0.01)


def test_from_one_run_nothing_is_fixed_until_a_second_size_shows_it() -> None:
    times = RunTimes([(8, 0.02)])
    assert times.fixed_s == 0
    assert times.expect(80) == pytest.approx(0.2)
    times.learn(80, 0.02)
    assert times.expect(800) == pytest.approx(0.02, rel=0.05)


def test_a_model_without_inputs_has_a_fixed_time() -> None:
    times = fed(RunTimes([(0, 0.02), (0, 0.02)]), (0, 0.03))
    assert times.expect(0) == pytest.approx(0.03, rel=0.01)


@pytest.mark.parametrize(("fixed_s", "byte_s"), [(0.02, 0), (0.01, 1e-5), (0, 1e-3), (0.2, 1e-4)])
def test_noise_is_averaged_out(fixed_s: float, byte_s: float) -> None:
    runs = [(size, fixed_s + byte_s * size) for size in (8, 24, 40, 160)]
    times = fed(RunTimes([(8, 0.02)]), *runs, noise=0.3)
    for size_bytes, time_s in runs:
        assert times.expect(size_bytes) == pytest.approx(time_s, rel=0.2, abs=byte_s * 20)
    assert times.fixed_s >= 0
    assert times.byte_s >= 0


def test_what_was_known_of_sizes_stays_while_all_are_alike() -> None:
    times = fed(RunTimes([(8, 0.02), (256, 0.02)]), (80, 0.02), noise=0.1, again=1000)
    assert times.expect(800) == pytest.approx(0.02, rel=0.2)


def test_one_interrupted_run_says_little_and_is_soon_forgotten() -> None:
    usual = 50e-6
    times = fed(RunTimes([(8, usual), (256, 2 * usual)]), (8, usual), (16, usual * 1.03))
    times.learn(8, 0.05)
    assert times.expect(8) < 0.1 * 0.05
    assert times.byte_s * 8 * 1000 + 8 * times.fixed_s < 0.1  # so many rows in so many runs
    fed(times, (8, usual), again=200)
    assert times.expect(8) < 2 * usual


def test_a_model_that_has_become_slower_is_believed_after_half_a_second() -> None:
    times = fed(RunTimes([(8, 0.02), (256, 0.64)]), (40, 0.1))
    fed(times, (40, 0.2), again=5)
    assert times.expect(40) > 0.17


def test_every_tenth_run_slow_counts_as_their_mean() -> None:
    times = fed(RunTimes([(8, 0.001), (8, 0.001)]), *[(8, 0.001)] * 9, (8, 0.02))
    assert 0.5 * 0.0029 < times.expect(8) < 2 * 0.0029


def test_what_is_quick() -> None:
    times = RunTimes([(8, 1e-4), (256, 1.1e-4)])
    assert times.is_quick(4 * 256)
    assert not times.is_quick(4 * 256 + 1)  # nobody knows
    times.learn(2048, 1.2e-4)
    assert times.is_quick(4 * 2048)
    fed(times, (256, 2e-3))
    assert not times.is_quick(256)
    assert not RunTimes([(8, 0.002)]).is_quick(8)
