from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeport.gpu_check.growth import growth

MIB = 2**20
LOOKS = np.arange(600.0)


def sizes(mib: NDArray[Any], seed: int = 0) -> list[int]:
    noise = np.random.default_rng(seed).normal(0, 0.3, len(mib))
    return [int((value + more) * MIB) for value, more in zip(mib, noise, strict=True)]


@pytest.mark.parametrize("seed", range(10))
def test_memory_that_stays_does_not_grow(seed: int) -> None:
    found = growth(LOOKS.tolist(), sizes(np.full(600, 300.0), seed))
    assert not found.grows
    assert found.slope_bytes_per_hour is not None
    assert abs(found.slope_bytes_per_hour) < 2 * MIB


@pytest.mark.parametrize("seed", range(10))
def test_a_leak_of_100_bytes_a_call_is_found(seed: int) -> None:
    per_second = 1000 * 100 / MIB  # at 1,000 calls a second: 46 MiB in what is judged
    found = growth(LOOKS.tolist(), sizes(300 + per_second * LOOKS, seed))
    assert found.grows
    assert found.slope_bytes_per_hour == pytest.approx(per_second * 3600 * MIB, rel=0.05)


def test_warming_up_is_no_growth() -> None:
    warm = 300 + 200 * np.minimum(LOOKS / 100, 1)
    assert not growth(LOOKS.tolist(), sizes(warm)).grows


@pytest.mark.parametrize("at", [200, 300, 400, 500])
def test_a_step_is_no_growth_without_end(at: int) -> None:
    assert not growth(LOOKS.tolist(), sizes(300 + 100.0 * (at <= LOOKS))).grows


def test_a_wild_look_moves_nothing() -> None:
    found = sizes(np.full(600, 300.0))
    found[350] *= 10
    assert not growth(LOOKS.tolist(), found).grows


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_few_looks_judge_nothing(count: int) -> None:
    found = growth(LOOKS[:count].tolist(), [n * 100 * MIB for n in range(count)])
    assert found.slope_bytes_per_hour is None
    assert not found.grows
