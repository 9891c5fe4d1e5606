import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.deploy.proof.localiser.trace import LEAST_KEPT, keep, kept_per_value, places


@given(size=st.integers(2, 5000), share=st.floats(0.01, 0.99))
def test_places_are_distinct_in_order_and_depend_on_the_size_alone(size: int, share: float) -> None:
    limit = max(1, int(size * share))
    found = places(size, limit)
    assert found.size == limit
    assert (np.diff(found) > 0).all()
    assert 0 <= found[0] <= found[-1] < size
    np.testing.assert_array_equal(found, places(size, limit))


def test_a_stride_that_follows_an_axis_is_not_what_is_kept() -> None:
    array = np.tile(np.arange(64), (1000, 1))
    assert len(set(keep(array, 1000))) > 50


def test_places_of_less_than_there_is() -> None:
    with pytest.raises(ValueError, match="5 places of 4"):
        places(4, 5)


def test_a_share_of_memory_has_a_floor() -> None:
    assert kept_per_value(0, 10) == LEAST_KEPT
    assert kept_per_value(2**30, 1000) == 2**30 // 16 // 1000
