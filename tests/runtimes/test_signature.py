import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes import FormatError, Range, Signature, TensorSpec
from edgeport.runtimes.signature import DTYPES, LARGEST_DIMENSION

X = TensorSpec("x", "float32", ("batch", 4))
Y = TensorSpec("y", "float32", ("batch", 1))

names = st.text(min_size=1, max_size=5).filter(str.isprintable)
dimensions = st.one_of(st.integers(0, LARGEST_DIMENSION), names)
specs = st.builds(
    TensorSpec, names, st.sampled_from(DTYPES), st.lists(dimensions, max_size=4).map(tuple)
)


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    unique = st.lists(specs, max_size=3, unique_by=lambda spec: spec.name)
    inputs, outputs = tuple(draw(unique)), tuple(draw(unique))
    free = sorted({s for spec in (*inputs, *outputs) for s in spec.shape if isinstance(s, str)})
    ranges = {}
    for name in free:
        step = draw(st.sampled_from([1, 1, 2, 32]))
        low, opt, high = (n * step for n in sorted(draw(st.tuples(*[st.integers(0, 99)] * 3))))
        most, best = draw(st.sampled_from([(None, None), (high, None), (high, opt)]))
        ranges[name] = Range(low, most, best, step)
    leaves = [{"output": spec.name} for spec in outputs]
    structure = draw(st.sampled_from([None, {"list": leaves}, {"dict": [[7, {"tuple": leaves}]]}]))
    return Signature(inputs, outputs, ranges, structure)


@given(signatures())
def test_json_says_it_all(signature: Signature) -> None:
    assert Signature.loads(json.dumps(signature.to_json()), "a file") == signature


def test_it_reads_like_a_sentence() -> None:
    signature = Signature((X,), (Y,), {"batch": Range(1, 8)})
    assert str(signature) == "x: float32[batch, 4] -> y: float32[batch, 1] where batch in 1..8"
    assert str(Signature((X,), (Y,))) == "x: float32[batch, 4] -> y: float32[batch, 1]"
    assert str(Range(2)) == "2.."
    assert str(Range(1, 512, step=32)) == "32..512 in steps of 32"
    nested = Signature((X,), (Y,), {"batch": Range(1, 8)}, {"dict": [["score", {"output": "y"}]]})
    assert str(nested) == (
        "x: float32[batch, 4] -> y: float32[batch, 1] as {'score': y} where batch in 1..8"
    )


def test_dimensions_are_those_of_the_inputs_once_each() -> None:
    two = TensorSpec("z", "bool", ("time", "batch"))
    signature = Signature((X, two), (TensorSpec("y", "bool", ("other",)),), {"time": Range(1, 9)})
    assert signature.dimensions == ("batch", "time")
    assert signature.range_of("time") == Range(1, 9)
    assert signature.range_of("batch") == Range(1, None)


@pytest.mark.parametrize(
    ("range_", "inside", "outside"),
    [(Range(), (1, 10**9), (0,)), (Range(0, 3), (0, 3), (4,)), (Range(2, 2), (2,), (1, 3))],
)
def test_a_range_has_both_ends(
    range_: Range, inside: tuple[int, ...], outside: tuple[int, ...]
) -> None:
    assert all(size in range_ for size in inside)
    assert not any(size in range_ for size in outside)


@given(st.integers(0, 99), st.none() | st.integers(0, 99), st.integers(1, 40), st.integers(0, 200))
def test_a_step_allows_its_multiples_within_the_ends(
    low: int, more: int | None, step: int, size: int
) -> None:
    high = None if more is None else low + more
    allowed = [n for n in range(low, 500 if high is None else high + 1) if n % step == 0]
    if not allowed:
        with pytest.raises(
            FormatError, match=rf"no multiple of {step} is in {low}\.\.{high}\n  fix: w"
        ):
            Range(low, high, step=step)
        return
    found = Range(low, high, step=step)
    assert (found.min, found.max) == (allowed[0], None if high is None else allowed[-1])
    assert found == Range(found.min, found.max, step=step)
    assert (size in found) == (size in allowed)
    assert found.nearest(size) == max((n for n in allowed if n <= size), default=allowed[0])


@given(
    st.integers(0, 9), st.none() | st.integers(0, 20), st.integers(1, 4), st.integers(0, 99),
    st.integers(1, 30),
)  # fmt: skip
def test_rows_are_cut_into_parts_that_are_allowed(
    low: int, more: int | None, step: int, rows: int, most: int
) -> None:
    allowed = Range(low * step, None if more is None else (low + more) * step or step, step=step)
    parts = allowed.parts(rows, most)
    assert [row for part in parts for row in range(rows)[part]] == [*range(rows)]
    steps, top = rows // step, allowed.nearest(rows) // step
    can_be = rows % step == 0 and any(
        allowed.min // step <= steps // count and -(-steps // count) <= top
        for count in range(1, steps + 1)
    )
    assert not can_be or all(part.stop - part.start in allowed for part in parts)
    assert not can_be or all(
        part.stop - part.start <= max(most, 2 * max(allowed.min, step)) for part in parts
    )


@pytest.mark.parametrize("allowed", [Range(0, 0), Range(0, 500, step=1024)])
def test_rows_where_none_is_allowed_are_one_part(allowed: Range) -> None:
    assert allowed.parts(0, 32) == []
    assert [row for part in allowed.parts(2048, 32) for row in range(2048)[part]] == [*range(2048)]


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ((1, 8, None, 0), "the step of a range is 0, expected 1 to 2147483647\n  fix: .*MAX:STEP"),
        ((1, 8, None, -4), "the step of a range is -4"),
        ((1, None, None, 2**31), "the step of a range is 2147483648"),
        ((33, 63, None, 32), r"no multiple of 32 is in 33\.\.63\n  fix: widen the range"),
        ((32, 512, 40, 32), "to tune for is 40, which is no multiple of 32\n  fix: .* such as 32"),
    ],
)
def test_a_step_that_is_none(ends: tuple[int, ...], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Range(*ends)


@pytest.mark.parametrize(
    "ends", [(-1, None, None), (3, 2, None), (1, 8, 9), (2, 8, 1), (1, 2**31, None), (2**31,)]
)
def test_a_range_that_is_none(ends: tuple[int, ...]) -> None:
    with pytest.raises(FormatError, match=r"needs 0 <= min <= opt <= max <= 2147483647, got"):
        Range(*ends)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x", "float31", ()), "'x' has dtype 'float31'\n  fix: use one of bool"),
        (("x", "bool", (-1,)), "'x' has a dimension -1"),
        (("x", "bool", (2**31,)), "'x' has a dimension 2147483648"),
        (("x", "bool", (True,)), "'x' has a dimension True"),
        (("x", "bool", ("",)), "'x' has a dimension ''"),
        (("x", "bool", ("a\nb",)), r"'x' has a dimension 'a\\nb'"),
        (("", "bool", ()), "a tensor is named ''"),
        (("\x1b[2J", "bool", ()), r"a tensor is named '\\x1b\[2J'"),
    ],
)
def test_a_tensor_that_is_none(arguments: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        TensorSpec(*arguments)


def test_names_are_unique_on_each_side() -> None:
    assert Signature((X,), (X,)).outputs == (X,)
    for sides in (((X, X), ()), ((), (X, X))):
        with pytest.raises(FormatError, match="two tensors share a name: x, x"):
            Signature(*sides)


def test_a_range_of_no_dimension() -> None:
    with pytest.raises(FormatError, match=r"for 'bach', which is no dimension of x.*\n.*batch"):
        Signature((X,), (Y,), {"bach": Range(1, 8)})


GOOD = Signature((X,), (Y,), {"batch": Range(1, 8)}).to_json()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("inputs", ..., "'inputs' is missing"),
        ("inputs", "abc", "inputs is 'abc', expected a list"),
        ("inputs", [1], "a value is 1, expected an object"),
        ("outputs", {}, "outputs is {}, expected a list"),
        ("ranges", [], r"ranges is \[\], expected an object"),
        ("more", 1, "'more' is not a key that belongs there"),
        ("structure", ..., "'structure' is missing"),
        ("structure", [], r"not a structure of outputs: \[\] is not a node"),
        ("structure", {"constant": 1}, "the structure holds no output, the outputs are y\n"),
        ("inputs/0/shape", "ab", "a shape is 'ab', expected a list"),
        ("inputs/0/shape", [True], "a size is True, expected an integer"),
        ("inputs/0/shape", [1.0], "a size is 1.0, expected an integer"),
        ("inputs/0/shape", [-1], "'x' has a dimension -1"),
        ("inputs/0/name", 3, "a name is 3, expected a string"),
        ("inputs/0/dtype", [], r"a dtype is \[\], expected a string"),
        ("ranges/batch", 3, "a value is 3, expected an object"),
        ("ranges/batch/min", [], r"an end of a range is \[\], expected an integer"),
        ("ranges/batch/step", 0, "the step of a range is 0"),
        ("ranges/batch/step", None, "a step is None, expected an integer"),
        ("ranges/batch/stride", 1, "'stride' is not a key that belongs there"),
        ("ranges/batch/max", True, "an end of a range is True, expected an integer"),
    ],
)
def test_json_that_is_no_signature(path: str, value: object, message: str) -> None:
    broken = json.loads(json.dumps(GOOD))
    *parents, last = path.split("/")
    place: Any = broken
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    with pytest.raises(FormatError, match=message):
        Signature.from_json(broken)


def test_a_range_needs_a_smallest_size() -> None:
    broken = json.loads(json.dumps(GOOD))
    broken["ranges"]["batch"]["min"] = None
    with pytest.raises(FormatError, match="not a signature: min is None, expected an integer"):
        Signature.from_json(broken)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "m.onnx: not a signature: Expecting property name"),
        (b"\xff", "m.onnx: not a signature: 'utf-8' codec"),
        ("[" * 100_000, "m.onnx: not a signature: it nests too deeply"),
        ("NaN", "m.onnx: not a signature: NaN is not JSON"),
        ("1e999", "m.onnx: not a signature: the number '1e999' is too large"),
        ("9" * 5000, "m.onnx: not a signature: Exceeds the limit"),
        (
            '{"inputs": [], "inputs": []}',
            "m.onnx: not a signature: the key 'inputs' is there twice",
        ),
        ("[]", r"m.onnx: not a signature: a value is \[\], expected an object"),
    ],
)
def test_text_that_is_no_signature(text: str | bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        Signature.loads(text, "m.onnx")
    assert str(caught.value).count("fix:") == 1
