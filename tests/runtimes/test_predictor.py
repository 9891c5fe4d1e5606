from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import handmade
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport import runtimes
from edgeport.runtimes import (
    EngineInfo,
    FormatError,
    InputError,
    Predictor,
    Signature,
    TensorSpec,
    UsageError,
)
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.predictor import most_likely, tensors
from edgeport.runtimes.session import Closes
from edgeport.runtimes.text import decode


class Stub(Closes):
    """A session that answers what a function makes of its inputs."""

    engine = EngineInfo("stub", "stub", "0", "stub", "cpu", "float32", 1)

    def __init__(
        self, specs: Sequence[TensorSpec], answer: Any, outputs: Sequence[TensorSpec] = ()
    ) -> None:
        self.signature = Signature(tuple(specs), tuple(outputs))
        self.run = answer
        self.closed = False

    def close(self) -> None:
        self.closed = True


TEXT = TensorSpec("text", "int32", ("batch", "characters"))
OTHER = TensorSpec("other", "int32", ("batch", "characters"))
SIZE = TensorSpec("size", "float32", ("batch",))


def test_a_bundle_with_names(packed: Path) -> None:
    handmade.edit(packed, lambda m: m.update(labels={"logits": ["a", "b", "c"]}))
    rows = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    with runtimes.open(packed, threads=1) as session:
        answer = session.run({"x": rows})
    for raw in (rows, {"x": rows}, rows.tolist()):
        with runtimes.open_predictor(packed, threads=1) as predictor:
            found = predictor.predict(raw)
        assert [each.label for each in found] == ["abc"[n] for n in answer["label"]]
        for each, logits in zip(found, answer["logits"], strict=True):
            expected = np.exp(logits) / np.exp(logits).sum()
            assert each.probability == pytest.approx(expected.max(), rel=1e-6)
            np.testing.assert_array_equal(each.outputs["logits"], logits)


def test_a_bundle_without_names_and_a_bare_file(packed: Path) -> None:
    rows = np.zeros((2, 8), np.float32)
    for path in (packed, packed / "model.onnx"):
        with runtimes.open_predictor(path, threads=1) as predictor:
            assert {type(each.label) for each in predictor.predict(rows)} == {int}


def test_texts_of_several_inputs_are_equally_wide() -> None:
    def answer(inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert inputs["text"].shape == inputs["other"].shape == (2, 11)
        assert inputs["size"].dtype == np.float32
        lengths = [len(text) for text in decode(inputs["text"])]
        return {"length": np.array(lengths), "size": inputs["size"]}

    session = Stub((TEXT, OTHER, SIZE), answer)
    with Predictor(session) as predictor:
        found = predictor.predict(
            {"text": ["né", ""], "other": ["", "elf letters"], "size": [1, 2]}
        )
    assert session.closed
    assert [(each.label, each.probability) for each in found] == [(None, None)] * 2
    assert [int(each.outputs["length"]) for each in found] == [2, 0]


@pytest.mark.parametrize(
    ("specs", "raw", "problem"),
    [
        ((TEXT,), "one", "input 'text' is text, and got str\n  fix: pass a list of strings"),
        ((TEXT,), ["a", 3], "input 'text' is text, and got list"),
        ((TEXT,), [], "got no text"),
        ((TEXT, SIZE), ["a"], r"the model takes text: .*, size: .*, and got no names"),
        ((TEXT, SIZE), {"text": ["a"]}, r"and got text\n  fix: pass a dictionary of text, size"),
        ((SIZE,), {"size": [1.0], "x": 1}, "and got size, x"),
        ((SIZE,), [[1.0], [1.0, 2.0]], "input 'size' is no array: "),
        ((SIZE,), ["a"], "input 'size' is <U1, expected float32"),
        ((TensorSpec("n", "int64", ("batch",)),), [1.5], "input 'n' is float64, expected int64"),
    ],
)
def test_what_does_not_fit(specs: Sequence[TensorSpec], raw: object, problem: str) -> None:
    predictor = Predictor(Stub(specs, lambda _: pytest.fail("it ran")))
    with pytest.raises(InputError, match=problem):
        predictor.predict(raw)


def test_the_session_checks_arrays(packed: Path) -> None:
    with runtimes.open_predictor(packed, threads=1) as predictor:
        for bad in (np.zeros((2, 8)), np.zeros((2, 7), np.float32), np.float32(3)):
            with pytest.raises(InputError, match="input 'x' "):
                predictor.predict(bad)


def test_an_output_of_all_rows() -> None:
    predictor = Predictor(Stub((SIZE,), lambda _: {"sum": np.float32(3)}))
    with pytest.raises(
        UsageError, match=r"no row for each row of the input: sum: \[\]\n  fix: call"
    ):
        predictor.predict([1, 2])


def test_rows_that_are_not_along_the_first_axis() -> None:
    state = np.arange(12).reshape(2, 2, 3)  # (layers, batch, units): as many layers as rows
    outputs = (TensorSpec("y", "int64", ("batch",)), TensorSpec("h", "int64", (2, "batch", 3)))
    answer = {"y": np.arange(2), "h": state}
    found = Predictor(Stub((SIZE,), lambda _: answer, outputs)).predict([1, 2])
    for row, each in enumerate(found):
        np.testing.assert_array_equal(each.outputs["h"], state[:, row])
    fixed = TensorSpec("h", "int64", (2, 2, 3))
    with pytest.raises(
        UsageError, match=r"no row for each row of the input: y: \[2\], h: \[2, 2, 3\]"
    ):
        Predictor(Stub((SIZE,), lambda _: answer, (outputs[0], fixed))).predict([1, 2])


INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")


def converted(raw: object, dtype: str) -> Array:
    return tensors(raw, (TensorSpec("x", dtype, ("batch", "n")),))["x"]


@given(
    st.sampled_from(("bool", *INTEGERS)),
    st.lists(st.integers(-(2**65), 2**65) | st.integers(-2, 300) | st.booleans(), min_size=1),
)
def test_integers_arrive_as_they_are_or_are_told(dtype: str, numbers: list[int]) -> None:
    least, most = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if all(least <= number <= most for number in numbers):
        found = converted([numbers], dtype)
        assert found.dtype == dtype
        assert found.tolist() == [numbers]
    else:
        with pytest.raises(InputError, match=f"and {dtype} ends at {least} and {most}"):
            converted([numbers], dtype)


@pytest.mark.parametrize(
    ("raw", "dtype"),
    [
        ([[255, 1]], "uint8"),
        ([[2**64 - 1, 1]], "uint64"),
        ([[-128, 127]], "int8"),
        ([[]], "int8"),
        ([[0, 1]], "bool"),
        ([[True, False]], "int32"),
        ([[True, False]], "float32"),
        ([[65504.0, float("-inf")]], "float16"),
        ([[3, 4]], "float16"),
    ],
)
def test_numbers_that_fit(raw: list[list[float]], dtype: str) -> None:
    found = converted(raw, dtype)
    assert found.dtype == dtype
    assert found.tolist() == raw


@pytest.mark.parametrize(
    ("raw", "dtype", "problem"),
    [
        ([[2**32 + 7, 1]], "int32", "4294967303, and int32 ends at -2147483648 and 2147483647"),
        ([[300, 1]], "int8", "300, and int8 ends at -128 and 127"),
        ([[-1, 1]], "uint8", "-1, and uint8 ends at 0 and 255"),
        ([[2**64 - 1]], "int64", "18446744073709551615, and int64 ends at "),
        ([[2**63, -1]], "int64", "9223372036854775808, and int64 ends at "),
        ([[2, 1]], "bool", "2, and bool ends at 0 and 1"),
        ([[1e6, 1]], "float16", r"1000000\.0, and float16 ends at -65504\.0 and 65504\.0"),
        ([[70000]], "float16", "70000, and float16 ends at "),
        ([[-1e39]], "float32", r"-1e\+39, and float32 ends at -3\.40282346\d*e\+38 and "),
    ],
)
def test_numbers_beyond_a_type(raw: object, dtype: str, problem: str) -> None:
    expected = f"^input 'x' holds {problem}.*\n  fix: pass numbers between these$"
    with pytest.raises(InputError, match=expected):
        converted(raw, dtype)


def test_tensors_of_torch() -> None:
    torch = pytest.importorskip("torch")
    assert converted(torch.tensor([[1, 255]]), "uint8").tolist() == [[1, 255]]
    with_gradient = torch.ones(1, 2, requires_grad=True)
    for raw in (with_gradient, with_gradient.conj() * 1j):
        with pytest.raises(
            InputError, match=r"is no array: Can't call numpy.*\n  fix: pass .*detach"
        ):
            converted(raw, "float32")
    assert converted(with_gradient.detach(), "float32").tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("row", "label", "probability"),
    [
        ([0.0, np.inf, 1.0], 1, 1.0),
        ([np.inf, 0.0, np.inf], 0, 0.5),
        ([-np.inf, -np.inf, 3.0], 2, 1.0),
        ([-np.inf] * 3, 0, 1 / 3),
        ([-1.7e308, 1.7e308, 0.0], 1, 1.0),
        ([0.0, np.nan, np.inf], 1, np.nan),
    ],
)
def test_logits_without_bound(row: list[float], label: int, probability: float) -> None:
    labels, likely = most_likely(np.array([row, [0.0, 0.0, 0.0]]), ())
    assert labels == [label, 0]
    assert likely == pytest.approx([probability, 1 / 3], nan_ok=True)


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "c", "d"]])
def test_labels_that_are_not_those_of_the_logits(labels: list[str]) -> None:
    with pytest.raises(
        FormatError,
        match=f"logits has 3 classes, and there are labels of {len(labels)}\n  fix: export the",
    ):
        most_likely(np.zeros((1, 3), np.float32), labels)


def test_no_classes_and_no_rows() -> None:
    with pytest.raises(UsageError, match=r"logits has no classes: \[2, 0\]\n  fix: call"):
        most_likely(np.zeros((2, 0), np.float32), ())
    assert most_likely(np.zeros((0, 3), np.float32), ("a", "b", "c")) == ([], [])


def test_a_bundle_is_read_once(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no second reading can fail behind an open session, or be of another bundle."""
    read, paths = runtimes.Bundle.read, list[Path]()

    def counted(path: Path) -> runtimes.Bundle:
        paths.append(path)
        return read(path)

    monkeypatch.setattr(runtimes.Bundle, "read", counted)
    runtimes.open_predictor(packed, threads=1).close()
    assert paths == [packed]
