from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.deploy.sources.drawing import Values
from edgeport.deploy.sources.samples import (
    _size_plans,
    build_samples,
    guessed,
    inputs_at,
    other_sizes,
    untried,
    usual_sizes,
)
from edgeport.runtimes import Range, Signature, TensorSpec
from edgeport.runtimes.inputs import InputCheck

RANGES = st.builds(
    lambda low, more, step: Range(
        low * step, None if more is None else (low + more // step) * step, step=step
    ),
    st.integers(1, 40), st.integers(0, 300) | st.none(), st.sampled_from([1, 1, 2, 3, 8]),
)  # fmt: skip  # one line
DTYPES = st.sampled_from(["float32", "float64", "int64", "bool", "uint8"])


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    names = ["a", "b", "c"][: draw(st.integers(1, 3))]
    sizes: st.SearchStrategy[int | str] = st.sampled_from([1, 3]) | st.sampled_from(names)
    shapes = st.lists(sizes, min_size=1, max_size=3).filter(_two_are_free)
    specs = [TensorSpec(f"in_{n}", draw(DTYPES), tuple(draw(shapes))) for n in names]
    used = [name for name in names if any(name in spec.shape for spec in specs)]
    return Signature(tuple(specs), (), {name: draw(RANGES) for name in used})


def _two_are_free(shape: list[int | str]) -> bool:
    """More would be millions of values to draw."""
    return sum(isinstance(size, str) for size in shape) <= 2


@given(signatures())
def test_every_sample_fits_the_signature(signature: Signature) -> None:
    check = InputCheck(signature)
    samples = build_samples(signature, Values())
    for sample in samples:
        check(sample.inputs)
    assert len({sample.name for sample in samples}) == len(samples)


@given(signatures())
def test_every_dimension_meets_its_ends(signature: Signature) -> None:
    samples = build_samples(signature, Values())
    for name in signature.dimensions:
        range_ = signature.range_of(name)
        spec = next(spec for spec in signature.inputs if name in spec.shape)
        axis = spec.shape.index(name)
        sizes = {sample.inputs[spec.name].shape[axis] for sample in samples}
        assert range_.min in sizes
        assert all(size in range_ for size in sizes)
        assert {size for size in (1, 2, 7, 32) if size in range_} <= sizes
        if range_.step > 1:
            assert range_.nearest(range_.min + range_.step) in sizes
            further = 32 if range_.step == 8 else 6 * range_.step
            assert range_.nearest(range_.min + further) in sizes
        if range_.max is not None and range_.max <= 256:
            assert range_.max in sizes


@given(signatures())
def test_compile_sizes_are_allowed_and_two_if_possible(signature: Signature) -> None:
    usual, other = usual_sizes(signature), other_sizes(signature)
    for name, size in usual.items():
        range_ = signature.range_of(name)
        assert size in range_
        assert other[name] in range_
        assert size >= 2 * range_.step or range_.max == range_.step
        assert other[name] != size or range_.min == range_.max
    if all(declared.max is None for declared in signature.ranges.values()):
        assert len({*other.values()}) == len({*usual.values()}) == len(usual)


@pytest.mark.parametrize(
    ("step", "usual", "other", "probed"),
    [
        (1, (2, 3, 4), (9, 10, 11), {1, 2, 7, 32}),
        (2, (4, 6, 8), (12, 14, 16), {2, 4, 14, 32}),
        (4, (8, 12, 16), (16, 20, 24), {4, 8, 28, 32}),
        (16, (32, 48, 64), (16, 32, 48), {16, 32, 48}),
        (64, (128, 192, 256), (64, 128, 192), {64, 128}),
        (256, (512, 768, 1024), (256, 512, 768), {256, 512}),
    ],
)
def test_large_steps_stay_small(
    step: int, usual: tuple[int, ...], other: tuple[int, ...], probed: set[int]
) -> None:
    names = ("depth", "height", "width")
    signature = Signature(
        (TensorSpec("x", "float32", names),), (), dict.fromkeys(names, Range(step=step))
    )
    assert tuple(usual_sizes(signature).values()) == usual
    assert tuple(other_sizes(signature).values()) == other
    plans = _size_plans(signature, {})
    assert {size for plan in plans for size in plan.values()} == probed


def test_other_sizes_differ_although_their_steps_do() -> None:
    x = TensorSpec("x", "float32", ("a", "b", "c"))
    ranges = {"a": Range(step=6), "b": Range(24, step=8), "c": Range(16, 32, step=16)}
    signature = Signature((x,), (), ranges)
    assert usual_sizes(signature) == {"a": 12, "b": 24, "c": 32}
    assert other_sizes(signature) == {"a": 24, "b": 32, "c": 16}


def test_multiples_are_probed_where_a_step_is_declared() -> None:
    x = TensorSpec("x", "float32", (3, "height", "width"))
    ranges = {"height": Range(32, 512, step=32), "width": Range(8, step=8)}
    signature = Signature((x,), (), ranges)
    assert usual_sizes(signature) == {"height": 64, "width": 16}
    samples = [s for s in build_samples(signature, Values()) if s.kind == "random"]
    assert {s.inputs["x"].shape[1] for s in samples} == {32, 64, 512}
    assert {s.inputs["x"].shape[2] for s in samples} == {8, 16, 32, 40}
    like = {"x": np.ones((3, 33, 24), np.float32)}  # 33 is not allowed
    shapes = {s.inputs["x"].shape for s in build_samples(signature, Values((), like))}
    assert {shape[2] for shape in shapes} == {8, 16, 24, 32, 40}
    real = [{"x": np.ones((3, 96, 40), np.float32)}, {"x": np.ones((3, 33, 40), np.float32)}]
    shapes = {s.inputs["x"].shape for s in build_samples(signature, Values(real))}
    assert (3, 96, 40) in shapes
    assert all(n % 32 == 0 and m % 8 == 0 for _, n, m in shapes)


def test_the_sizes_of_an_example_are_probed() -> None:
    signature = Signature((TensorSpec("x", "float32", ("batch", "time", 2)),), ())
    like = {"x": np.ones((5, 19, 2), np.float32)}
    shapes = [sample.inputs["x"].shape for sample in build_samples(signature, Values((), like))]
    assert {1, 2, 5, 7, 32} <= {shape[0] for shape in shapes}
    assert {1, 2, 7, 19, 32} <= {shape[1] for shape in shapes}


def test_the_sizes_of_an_example_are_tried_together() -> None:
    image = TensorSpec("x", "float32", ("batch", "height", "width"))
    ranges = {name: Range(32, 320, step=32) for name in ("height", "width")}
    square = Values(like={"x": np.zeros((2, 224, 224), np.float32)})
    tried = [s.inputs["x"].shape for s in build_samples(Signature((image,), (), ranges), square)]
    assert (1, 224, 224) in tried
    rows = Signature((TensorSpec("x", "float32", ("batch", "time")),), (), {})
    assert (1, 9) not in [
        sample.inputs["x"].shape
        for sample in build_samples(rows, Values(like={"x": np.zeros((2, 9), np.float32)}))
        if sample.kind == "random"
    ]


def test_real_rows_are_used_from_another_start_each_time() -> None:
    rows = np.arange(100, dtype=np.float32).reshape(100, 1)
    signature = Signature((TensorSpec("x", "float32", ("batch", 1)),), ())
    samples = build_samples(signature, Values([{"x": rows}]))
    real = [sample for sample in samples if sample.kind == "real"]
    assert [len(sample.inputs["x"]) for sample in real] == [1, 2, 7, 32]
    assert [sample.inputs["x"][0, 0] for sample in real] == [0, 32, 64, 96]
    assert real[3].inputs["x"][-1, 0] == 27  # from 96 on, and round again


def test_real_samples_are_tried_as_large_as_they_are() -> None:
    signature = Signature((TensorSpec("x", "uint8", ("batch", "height", "width", 3)),), ())
    given_ = [{"x": np.full((2, n, 50, 3), n % 256, np.uint8)} for n in (90, 60, 70, 5000)]
    shapes = {s.inputs["x"].shape: s for s in build_samples(signature, Values(given_))}
    assert {(1, 60, 50, 3), (1, 5000, 50, 3)} <= {*shapes}
    assert not {(1, 70, 50, 3), (1, 90, 50, 3)} & {*shapes}
    assert (shapes[1, 60, 50, 3].inputs["x"] == 60).all()
    narrow = Signature(signature.inputs, (), {"height": Range(1, 80)})
    shapes = {s.inputs["x"].shape: s for s in build_samples(narrow, Values(given_))}
    assert (1, 70, 50, 3) in shapes
    given_[3]["x"] = np.zeros((1, 5000, 5000, 3), np.uint8)
    assert (1, 5000, 5000, 3) not in {
        s.inputs["x"].shape for s in build_samples(signature, Values(given_))
    }


def test_sizes_beyond_those_that_were_tried_are_told() -> None:
    x = TensorSpec("x", "float32", ("batch", "time", "width"))
    bounded = Signature((x,), (), {"time": Range(1, 64), "width": Range(1, 9)})
    assert not list(untried(bounded, build_samples(bounded, Values())))
    (note,) = untried(Signature((x,), ()), build_samples(Signature((x,), ()), Values()))
    assert note == (
        "tried time up to 32, width up to 32: what is larger is not proved; declare the largest "
        "there is, as in time<=512"
    )
    text = Signature((TensorSpec("text", "int32", ("batch", "characters")),), ())
    assert not list(untried(text, build_samples(text, Values())))


def test_the_smallest_sizes_are_tried_with_several_values() -> None:
    signature = Signature((TensorSpec("x", "float32", ("batch", "time")),), ())
    drawn = [s for s in build_samples(signature, Values()) if s.inputs["x"].shape == (1, 1)]
    assert len({sample.inputs["x"].item() for sample in drawn}) >= 4
    given_ = [{"x": np.full((3, 5), n, np.float32)} for n in range(12)]
    real = [s for s in build_samples(signature, Values(given_)) if s.inputs["x"].shape == (1, 1)]
    assert {sample.inputs["x"].item() for sample in real} >= {*range(8)}
    assert real[1].name == "real, batch=1, time=1 (2)"


def test_every_real_sample_is_used() -> None:
    signature = Signature((TensorSpec("x", "float32", (2,)),), ())
    given_ = [{"x": np.full(2, n, np.float32)} for n in range(9)]
    real = [s for s in build_samples(signature, Values(given_)) if s.kind == "real"]
    assert [sample.inputs["x"][0] for sample in real] == list(range(9))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
def test_real_indices_stay_valid_where_their_axis_is_cut(dtype: str) -> None:
    specs = (
        TensorSpec("x", "float32", ("batch", "time")),
        TensorSpec("places", dtype, ("batch", 4)),
        TensorSpec("lengths", dtype, ("batch",)),
    )
    last = -1 if dtype.startswith("int") else 3
    real = {
        "x": np.zeros((2, 300), np.float32),
        "places": np.array([[0, 99, 50, last], [7, 1, 2, 3]], dtype),
        "lengths": np.array([120, 2], dtype),
    }
    values = Values([real], tables={"places": "time"})
    samples = build_samples(Signature(specs, ()), values)
    for sample in (sample for sample in samples if sample.kind == "real"):
        time = sample.inputs["x"].shape[1]
        places, lengths = sample.inputs["places"], sample.inputs["lengths"]
        assert places.dtype == lengths.dtype == dtype
        assert {*places[:, 3]} <= {last, last % time, 3 % time}
        assert places.max() < time
        assert lengths.max() <= time
        assert (np.diff(lengths.astype(int)) <= 0).all()


def test_integers_are_drawn_from_the_example() -> None:
    signature = Signature((TensorSpec("tokens", "int64", ("batch", "time")),), ())
    like = {"tokens": np.array([[7, 30, 41]])}
    drawn = inputs_at(signature, {"batch": 5, "time": 50}, Values(like=like), seed=0)["tokens"]
    assert drawn.dtype == np.int64
    assert set(drawn.ravel()) == {7, 30, 41}


def test_floats_are_drawn_with_the_scale_of_the_example() -> None:
    signature = Signature((TensorSpec("x", "float32", ("batch",)),), ())
    like = {"x": np.array([100.0, 102.0], np.float32)}
    drawn = inputs_at(signature, {"batch": 2000}, Values(like=like), seed=0)["x"]
    assert drawn.mean() == pytest.approx(101, abs=0.1)
    assert drawn.std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "like",
    [
        np.triu(np.full((4, 4), -np.inf, np.float32), 1),  # a mask of attention
        np.zeros((0, 4), np.float32),
    ],
)
def test_an_example_that_no_normal_distribution_is_like(like: np.ndarray[Any, Any]) -> None:
    declared = Signature((TensorSpec("m", "float32", ("rows", 4)),), ())
    samples = build_samples(declared, Values(like={"m": like}))
    assert not any(np.isnan(sample.inputs["m"]).any() for sample in samples)
    drawn = np.concatenate([s.inputs["m"].ravel() for s in samples if s.kind == "random"])
    assert not like.size or set(drawn) == {0, -np.inf}


def test_a_large_float16_becomes_infinite_without_a_warning() -> None:
    declared = Signature((TensorSpec("x", "float16", (2,)),), ())
    samples = build_samples(declared, Values([{"x": np.full(2, 3000, np.float16)}]))
    large = next(sample for sample in samples if sample.name == "large")
    assert np.isinf(large.inputs["x"]).all()


def test_masks_and_lengths_stay_as_they_are_in_edge_cases() -> None:
    declared = Signature(
        (
            TensorSpec("ids", "int64", ("batch", "time")),
            TensorSpec("mask", "bool", ("batch", "time")),
            TensorSpec("lengths", "int64", ("batch",)),
        ),
        (),
    )
    samples = build_samples(declared, Values(tables={"ids": 30}))
    zeros, ones, least, greatest = (s.inputs for s in samples if s.kind == "edge")
    assert [case["ids"].max() for case in (zeros, ones, least, greatest)] == [0, 1, 0, 29]
    for case in (zeros, ones, least, greatest):
        assert case["mask"].any(1).all()
        assert not case["mask"].all()
        assert case["lengths"].min() >= 1


def test_masks_alone_are_tried_whole() -> None:
    declared = Signature((TensorSpec("mask", "bool", ("batch", 8)),), ())
    edges = [s.inputs["mask"] for s in build_samples(declared, Values()) if s.kind == "edge"]
    assert [edge.mean() for edge in edges] == [0, 1]


def test_what_was_guessed_is_told_unless_it_is_real() -> None:
    declared = Signature((TensorSpec("ids", "int64", ("batch",)),), ())
    (note,) = guessed(declared, Values())
    assert note == (
        "ids: tried with 0 and 1, as nothing says which are valid; give real ones with samples"
    )
    assert not list(guessed(declared, Values([{"ids": np.array([7, 8])}])))
