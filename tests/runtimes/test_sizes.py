"""Sizes that follow others, as people and other exporters write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes import Range, Signature, TensorSpec
from edgeport.runtimes.handoff.triton import max_batch_size
from edgeport.runtimes.rows import row_axis, row_dimension
from edgeport.runtimes.serve.batching import batch_axis
from edgeport.runtimes.sizes import Sum, size_at, spelled, sum_of

NAMES = st.sampled_from(["batch", "past", "time", "größe"])


@given(st.dictionaries(NAMES, st.integers(1, 9), min_size=1), st.integers(-99, 99))
def test_what_is_written_is_read(factors: dict[str, int], constant: int) -> None:
    written = Sum(factors, constant)
    read = sum_of(str(written))
    assert read == (None if factors == {str(written): 1} else written)
    sizes = {name: place + 2 for place, name in enumerate(factors)}
    expected = constant + sum(factor * sizes[name] for name, factor in factors.items())
    assert size_at(str(written), sizes) == expected


@pytest.mark.parametrize(
    ("text", "factors", "constant"),
    [
        ("past_sequence_length + 1", {"past_sequence_length": 1}, 1),
        ("s0 + s1", {"s0": 1, "s1": 1}, 0),
        ("n+n", {"n": 2}, 0),
        ("time*2 - 1", {"time": 2}, -1),
        ("1 + 2 * height - 2", {"height": 2}, -1),
    ],
)
def test_people_write_it_as_they_like(text: str, factors: dict[str, int], constant: int) -> None:
    assert sum_of(spelled(text)) == Sum(factors, constant)
    assert sum_of(text) is None  # as another exporter wrote it: a name


@pytest.mark.parametrize(
    "text",
    ["time", "batch size", "floor(n/2)", "max-length", "unk__12", "n//2", "0*n", "-n", "n+", "2*3",
     "", "7", f"n+{10**11}"],
)  # fmt: skip  # one line
def test_what_is_no_sum_is_a_name(text: str) -> None:
    assert sum_of(text) is None
    assert spelled(text) == text


def test_a_signature_knows_what_follows() -> None:
    inputs = (
        TensorSpec("mask", "bool", ("batch", "past+time")),
        TensorSpec("past", "float32", ("batch", "past", 8)),
        TensorSpec("ids", "int64", ("batch", "time")),
        TensorSpec("other", "float32", ("rows+1",)),  # of nothing that there is
    )
    ranges = {"past": Range(0, 64), "time": Range(2, 8)}
    signature = Signature(inputs, (TensorSpec("now", "float32", ("past+time", 8)),), ranges)
    assert signature.dimensions == ("batch", "past", "time", "rows+1")
    assert signature.range_of("past+time") == Range(2, 72)
    assert signature.range_of("time+batch") == Range(3, None)
    assert signature.range_of("rows+1") == Range()
    assert signature.sizes_follow
    assert Signature.from_json(signature.to_json()) == signature


def test_a_size_of_what_is_unknown() -> None:
    with pytest.raises(KeyError, match="rows"):
        size_at("rows", {"batch": 2})
    with pytest.raises(KeyError, match="rows"):
        size_at("2*rows", {"batch": 2})


def test_rows_that_other_sizes_follow_are_not_put_together() -> None:
    rows = TensorSpec("x", "float32", ("batch", 4))
    beside = TensorSpec("y", "float32", ("batch", "batch+1"))
    assert batch_axis(Signature((rows,), (rows,))) == "batch"
    assert batch_axis(Signature((rows,), (beside,))) is None
    assert max_batch_size(Signature((rows,), (beside,)), ()) == 0


def test_what_follows_is_no_batch() -> None:
    twice = TensorSpec("x", "float32", ("2*n", "n"))
    signature = Signature((twice,), (TensorSpec("y", "float32", ("2*n", 3)),))
    assert batch_axis(signature) is None
    assert max_batch_size(signature, ()) == 0


def test_rows_are_of_a_free_dimension() -> None:
    bias = TensorSpec("bias", "float32", ("past+time",))
    past = TensorSpec("past", "float32", ("past", 4))
    time = TensorSpec("words", "int64", ("batch", "time"))
    assert row_dimension(Signature((bias, time, past), (time,))) == "batch"
    assert row_axis(bias, "batch") is None
    assert row_axis(bias, "past") == 0
    assert row_axis(TensorSpec("found", "float32", ("found_0",)), "batch") == 0
