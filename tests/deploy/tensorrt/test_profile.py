"""For which sizes an engine is built: the signature's, and where it has none, the proved ones."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeport.deploy.exporter import source_of
from edgeport.deploy.tensorrt import profile
from edgeport.runtimes import Range
from edgeport.runtimes.tensorrt.extents import shapes
from edgeport.runtimes.tensorrt.order import Bounds


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x.sum(1) + y


def source(range_: Range | None, batch: int = 3):  # type: ignore[no-untyped-def]  # a Source
    return source_of(
        "sum",
        Sum(),
        {"x": torch.randn(batch, 5), "y": torch.randn(batch)},
        {"x": {0: "batch"}, "y": {0: "batch"}},
        {} if range_ is None else {"batch": range_},
    )


def test_a_range_is_taken_whole() -> None:
    sizes = profile.extents(source(Range(2, 64, 16)))
    assert str(sizes["batch"]) == "2..64 (best at 16)"
    assert shapes(source(Range(2, 64, 16)).signature, sizes) == {
        "x": Bounds((2, 5), (16, 5), (64, 5)),
        "y": Bounds((2,), (16,), (64,)),
    }
    assert profile.notes("tensorrt-rtx", sizes, {}) == []


def test_what_follows_is_as_large_as_what_it_follows() -> None:
    class Between(nn.Module):
        def forward(self, x: Tensor, between: Tensor) -> Tensor:
            return x + between[:, ::2]

    found = source_of(
        "between", Between(), {"x": torch.randn(2, 5), "between": torch.randn(2, 9)},
        {"x": {1: "time"}, "between": {1: "2*time-1"}}, {"time": Range(2, 64, 16)},
    )  # fmt: skip  # one call
    assert shapes(found.signature, profile.extents(found)) == {
        "x": Bounds((2, 2), (2, 16), (2, 64)),
        "between": Bounds((2, 3), (2, 31), (2, 127)),
    }


def test_a_dimension_without_an_end_goes_as_far_as_was_proved_and_says_so() -> None:
    found = source(None)
    sizes = profile.extents(found)
    largest = max(sample.inputs["x"].shape[0] for sample in found.samples)
    assert largest >= 32
    assert (sizes["batch"].min, sizes["batch"].max) == (1, largest)
    (told,) = profile.notes("tensorrt-rtx", sizes, {})
    assert told == (
        f"tensorrt-rtx: 'batch' has no end, and an engine needs one: it takes up to {largest}, the "
        f"largest that was proved; a range sets another: batch:1..{2 * largest}"
    )


def test_a_step_is_kept_by_the_sizes_and_by_what_is_said_of_them() -> None:
    real = [{"x": np.ones((45, 5), np.float32), "y": np.ones(45, np.float32)}]
    found = source_of(
        "sum", Sum(), {"x": torch.ones(2, 5), "y": torch.ones(2)},
        {"x": {0: "batch"}, "y": {0: "batch"}}, {"batch": Range(8, step=8)}, samples=real,
    )  # fmt: skip  # one call
    sizes = profile.extents(found)
    assert str(sizes["batch"]) == "8..40 (best at 40)"
    (told,) = profile.notes("tensorrt", sizes, {})
    assert told.endswith("a range sets another: batch:1..80:8")


@given(
    low=st.integers(1, 40), more=st.integers(1, 100), best=st.none() | st.integers(0, 100),
    ended=st.booleans(), step=st.sampled_from([1, 3, 8]),
)  # fmt: skip  # one line
@settings(max_examples=25)
def test_bounds_are_in_order_and_hold_every_sample(
    low: int, more: int, best: int | None, ended: bool, step: int
) -> None:
    low, high = low * step, (low + more) * step
    opt = None if best is None else min(low + best * step, high)
    range_ = Range(low, high if ended else None, opt, step)
    found = source(range_)
    sizes = profile.extents(found)
    extent = sizes["batch"]
    assert extent.min <= extent.opt <= extent.max
    assert all(size in range_ for size in (extent.min, extent.opt, extent.max))
    assert opt is None or extent.opt == opt
    for sample in found.samples:
        assert extent.min <= sample.inputs["x"].shape[0] <= extent.max


def test_values_that_may_be_sizes_are_those_of_the_samples() -> None:
    class Rows(nn.Module):
        def forward(self, x: Tensor, count: Tensor) -> Tensor:
            return x * count.sum()

    given_ = [{"x": np.ones(3, np.float32), "count": np.array([2, n])} for n in (4, 7)]
    found = source_of(
        "rows", Rows(), {"x": torch.ones(3), "count": torch.tensor([2, 4])}, samples=given_
    )
    bounds = profile.values(found)
    assert bounds.keys() == {"count"}
    seen = np.array([sample.inputs["count"] for sample in found.samples])
    assert bounds["count"].min == tuple(seen.min(0))
    assert bounds["count"].max == tuple(seen.max(0))
    (told,) = profile.notes("tensorrt-rtx", {}, bounds)
    assert "the values of 'count' are sizes, and an engine needs their ends: it takes" in told


def test_a_module_of_fixed_sizes_has_no_profile() -> None:
    found = source_of("sum", Sum(), {"x": torch.randn(2, 5), "y": torch.randn(2)})
    assert profile.extents(found) == {}
    assert shapes(found.signature, {}) == {}
