from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes.cuda.memory import ALIGNMENT_BYTES, place


@given(st.lists(st.integers(0, 5000), max_size=8))
def test_tensors_side_by_side_are_aligned_and_never_overlap(sizes: list[int]) -> None:
    offsets, end = place(sizes)
    assert len(offsets) == len(sizes)
    for offset, size, after in zip(offsets, sizes, [*offsets, end][1:], strict=True):
        assert offset % ALIGNMENT_BYTES == 0
        assert offset + max(size, 1) <= after  # an empty one has an address of its own
    assert end <= sum(sizes) + len(sizes) * ALIGNMENT_BYTES
