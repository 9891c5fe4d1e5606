from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.deploy.sources.drawing import Values, draw, kind_of, other_styles, told
from edgeport.runtimes import Signature, TensorSpec

Array = np.ndarray[Any, Any]

DECLARED = Signature(
    (
        TensorSpec("x", "float32", ("batch", "time", 3)),
        TensorSpec("mask", "bool", ("batch", "time")),
        TensorSpec("lengths", "int64", ("batch",)),
        TensorSpec("image", "uint8", ("batch", 4)),
        TensorSpec("ids", "int64", ("batch", "time")),
    ),
    (),
)


def drawn(name: str, values: Values, **sizes: int) -> Array:
    spec = next(spec for spec in DECLARED.inputs if spec.name == name)
    return draw(DECLARED, spec, sizes, values, np.random.default_rng(0))


def test_what_inputs_are() -> None:
    values = Values(tables={"ids": 30})
    kinds = [kind_of(DECLARED, spec, values) for spec in DECLARED.inputs]
    assert kinds == ["floats", "flags", "counts", "bytes", "index"]


@pytest.mark.parametrize(
    ("name", "like", "kind"),
    [
        ("x", np.random.default_rng(0).normal(size=(1, 2, 3)), "floats like"),
        ("x", np.array([0, -np.inf], np.float32), "like"),
        ("x", np.zeros(3, np.float32), "like"),
        ("mask", np.array([True, False]), "flags"),
        ("lengths", np.array([5, 2]), "counts like"),
        ("ids", np.array([[5, 2]]), "like"),
        ("ids", np.array([[1, 0]]), "flags"),
        ("image", np.array([[200, 1, 0, 9]], np.uint8), "like"),
        ("image", np.zeros((0, 4), np.uint8), "bytes"),
    ],
)
def test_what_an_example_makes_of_them(name: str, like: Array, kind: str) -> None:
    spec = next(spec for spec in DECLARED.inputs if spec.name == name)
    assert kind_of(DECLARED, spec, Values(like={name: like})) == kind


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2e4), ("float32", 1e30)])
def test_an_example_of_large_numbers(dtype: str, size: float) -> None:
    """Whose squares, or whose distance from one another, are beyond their own type."""
    spec = TensorSpec("x", dtype, (100,))
    declared, like = Signature((spec,), ()), np.array([-2 * size, 0, size], dtype)
    values = Values(like={"x": like})
    assert kind_of(declared, spec, values) == "floats like"
    found = draw(declared, spec, {}, values, np.random.default_rng(0)).astype(np.float64)
    assert 0.5 * size < found.std() < 2 * size


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([0, 1]))
def test_no_row_of_a_mask_is_all_one_way(batch: int, time: int, style: int) -> None:
    mask = drawn("mask", Values(style={"mask": style}), batch=batch, time=time)
    assert mask.dtype == bool
    assert (mask if style == 0 else ~mask).any(1).all()


@pytest.mark.parametrize(("style", "first"), [(2, True), (3, False)])
def test_the_first_of_each_row(style: int, first: bool) -> None:
    mask = drawn("mask", Values(style={"mask": style}), batch=50, time=4)
    assert (mask[:, 0] == first).all()
    assert set(mask[:, 1:].ravel()) == {True, False}


def test_lengths_fit_the_size_and_fall() -> None:
    lengths = drawn("lengths", Values(), batch=200, time=5)
    assert set(lengths) == {1, 2, 3, 4, 5}
    assert (np.diff(lengths) <= 0).all()


def test_bytes_and_rows_of_a_table_are_all_met() -> None:
    assert len(set(drawn("image", Values(), batch=3000).ravel())) == 256
    rows = drawn("ids", Values(tables={"ids": 30}), batch=50, time=9)
    assert set(rows.ravel()) == set(range(30))
    assert drawn("ids", Values(tables={"ids": "time"}), batch=50, time=9).max() == 8


@pytest.mark.parametrize(("style", "least", "most"), [(1, 0, np.inf), (2, 0, 1)])
def test_floats_of_other_styles(style: int, least: float, most: float) -> None:
    values = drawn("x", Values(style={"x": style}), batch=50, time=9)
    assert values.dtype == np.float32
    assert least <= values.min() < values.max() <= most


@pytest.mark.parametrize(("dtype", "rows", "last"), [("int8", 1000, 127), ("int64", 0, 0)])
def test_indices_fit_their_dtype(dtype: str, rows: int, last: int) -> None:
    spec = TensorSpec("i", dtype, (2000,))
    values, generator = Values(tables={"i": rows}), np.random.default_rng(0)
    found = draw(Signature((spec,), ()), spec, {}, values, generator)
    assert (found.min(), found.max()) == (0, last)


def test_an_example_of_indices() -> None:
    like = {"ids": np.array([[3, 4]])}
    spec = next(spec for spec in DECLARED.inputs if spec.name == "ids")
    values = Values(like=like, tables={"ids": 30})
    assert kind_of(DECLARED, spec, values) == "index like"
    assert set(drawn("ids", values, batch=50, time=9).ravel()) == set(range(30))
    others = Values(like=like, tables={"ids": 30}, style={"ids": 1})
    assert set(drawn("ids", others, batch=50, time=9).ravel()) == {3, 4}


def test_what_is_looked_up_may_be_lengths() -> None:
    """``F.one_hot(lengths - 1, 64)`` beside places within each row."""
    rows, lengths = TensorSpec("x", "float32", ("b", "t")), TensorSpec("n", "int64", ("b",))
    declared = Signature((rows, lengths), ())
    values = Values(like={"n": np.array([5, 3])}, tables={"n": 64})
    assert kind_of(declared, lengths, values) == "lengths or index like"
    (style, *_) = other_styles(declared, values)
    sizes, generator = {"b": 50, "t": 4}, np.random.default_rng(0)
    found = draw(declared, lengths, sizes, replace(values, style=style), generator)
    assert (found[0], found[-1]) == (4, 1)


def test_an_example_cut_or_repeated() -> None:
    like = np.array([[3, 4, 5], [6, 7, 8]])
    given_ = drawn("ids", Values(like={"ids": like}, style={"ids": 1}), batch=3, time=2)
    assert given_.tolist() == [[3, 4], [6, 7], [3, 4]]


def test_other_styles_begin_with_the_likely_and_are_few() -> None:
    found = list(other_styles(DECLARED, Values(tables={"ids": 30})))
    assert len(found) == 12
    costs = [sum(style.values()) for style in found]
    assert costs == sorted(costs)
    assert costs[0] == 1
    assert not list(other_styles(Signature((), ()), Values()))


def test_two_masks_may_have_opposite_meanings() -> None:
    masks = [TensorSpec(name, "bool", ("batch", "time")) for name in ("hides", "shows")]
    found = list(other_styles(Signature((*masks,), ()), Values()))
    assert found[0] == {"hides": 1, "shows": 1}
    assert {"hides": 0, "shows": 1} in found
    assert {"hides": 1, "shows": 0} in found


def test_what_is_told() -> None:
    style = {"mask": 1, "x": 1}
    assert list(told(DECLARED, Values(tables={"ids": 30_000}, style=style))) == [
        "x: tried with positive values, as the module fails, or answers NaN or Inf, otherwise; "
        "give real ones with samples",
        "mask: tried with 0 and 1, a 0 in each row, as the module fails, or answers NaN or Inf, "
        "otherwise; give real ones with samples",
        "lengths: tried with lengths from 1 on, the longest first, as nothing says which are "
        "valid; give real ones with samples",
        "image: tried with all bytes, as nothing says which are valid; give real ones with samples",
        "ids: tried with every valid index, 0 to 29,999",
    ]


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "kind"),
    [
        ("sound", "int16", ("batch", "time"), "shorts"),
        ("readings", "uint16", (9,), "shorts"),
        ("lengths", "int16", ("batch",), "counts"),
        ("steps", "int16", (), "flag"),
    ],
)
def test_integers_of_16_bits_are_sound_where_they_have_axes(
    name: str, dtype: str, shape: tuple[int | str, ...], kind: str
) -> None:
    spec, x = TensorSpec(name, dtype, shape), TensorSpec("x", "float32", ("batch", "time"))
    declared = Signature((spec, x), ())
    assert kind_of(declared, spec, Values()) == kind
    if kind == "shorts":
        generator = np.random.default_rng(0)
        array = draw(declared, spec, {"batch": 9, "time": 99}, Values(), generator)
        assert array.dtype == dtype
        assert np.unique(array // 256).size > 8
        (sentence,) = told(declared, Values())
        assert sentence.startswith(f"{name}: tried with all integers of 16 bits, as nothing says")


def test_names_that_are_told_the_same_are_told_once() -> None:
    declared = Signature(
        (TensorSpec("a", "int32", (2, 3)), TensorSpec("b", "int64", (2, 3))),
        (),
    )
    (sentence,) = told(declared, Values())
    assert sentence.startswith("a and b: tried with 0 and 1")
