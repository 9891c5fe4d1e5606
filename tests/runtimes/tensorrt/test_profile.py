import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes import InputError, TensorSpec
from edgeport.runtimes.tensorrt.order import Bounds
from edgeport.runtimes.tensorrt.profile import Profile

SPECS = (
    TensorSpec("fixed", "float32", (3,)),
    TensorSpec("x", "float32", ("batch", "time", 4)),
    TensorSpec("size", "int64", (2,)),
)
PROFILE = Profile(
    SPECS,
    {"x": Bounds((1, 2, 4), (4, 8, 4), (16, 32, 4))},
    {"size": Bounds((1, 1), (7, 7), (224, 200))},
)


def arrays(batch: int, time: int, size: tuple[int, int] = (7, 7)) -> list[np.ndarray]:
    return [np.zeros(3, "f4"), np.zeros((batch, time, 4), "f4"), np.array(size)]


@given(st.integers(0, 20), st.integers(0, 40), st.integers(0, 300), st.integers(0, 300))
def test_what_is_inside_passes_and_nothing_else(
    batch: int, time: int, height: int, width: int
) -> None:
    inside = 1 <= batch <= 16 and 2 <= time <= 32 and 1 <= height <= 224 and 1 <= width <= 200
    given_arrays = arrays(batch, time, (height, width))
    for _ in range(2):  # the second time from memory
        if inside:
            PROFILE.check(given_arrays)
        else:
            with pytest.raises(InputError):
                PROFILE.check(given_arrays)


def test_the_profile_is_in_the_error() -> None:
    with pytest.raises(
        InputError,
        match=re.escape(
            "input 'x' has shape [17, 8, 4]: axis 0 is 17, and the engine was built for 1..16 "
            "(optimisation profile: min [1, 2, 4], opt [4, 8, 4], max [16, 32, 4])\n"
            "  fix: split or pad it to fit, or export the model again with batch:1..17"
        ),
    ):
        PROFILE.check(arrays(17, 8))
    with pytest.raises(InputError, match=r"axis 1 is 1, .* built for 2\.\.32 .*\n.*time:1\.\.32$"):
        PROFILE.check(arrays(16, 1))


def test_a_size_that_follows_others_is_made_larger_by_these() -> None:
    spec = TensorSpec("mask", "bool", ("batch", "past+time"))
    profile = Profile((spec,), {"mask": Bounds((1, 1), (1, 9), (4, 72))}, {})
    with pytest.raises(InputError, match=r"again with wider ranges of past and time$"):
        profile.check([np.ones((1, 73), np.bool_)])


def test_values_that_are_sizes() -> None:
    with pytest.raises(
        InputError,
        match=r"^the values of input 'size' are sizes: they are \[7, 201\], and the engine was "
        r"built for \[1, 1\] to \[224, 200\]\n  fix: export the model again with samples that",
    ):
        PROFILE.check(arrays(1, 2, (7, 201)))


def test_an_engine_of_fixed_sizes_has_nothing_to_check() -> None:
    Profile(SPECS, {}, {}).check(arrays(1000, 1000, (-1, -1)))
