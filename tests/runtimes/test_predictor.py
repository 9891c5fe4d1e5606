from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest

from edgeport import runtimes
from edgeport.runtimes import EngineInfo, InputError, Predictor, Signature, TensorSpec, UsageError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.text import decode


class Stub:
    """A session that answers what a function makes of its inputs."""

    engine = EngineInfo("stub", "stub", "0", "stub", "cpu", "float32", 1)

    def __init__(self, specs: Sequence[TensorSpec], answer: Any) -> None:
        self.signature = Signature(tuple(specs), ())
        self.run = answer
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> "Stub":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


TEXT = TensorSpec("text", "int32", ("batch", "characters"))
OTHER = TensorSpec("other", "int32", ("batch", "characters"))
SIZE = TensorSpec("size", "float32", ("batch",))


def test_a_bundle_with_names(packed: Path) -> None:
    hostile.edit(packed, lambda m: m.update(labels={"logits": ["a", "b", "c"]}))
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
