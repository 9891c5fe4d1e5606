from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeport.runtimes import EngineError, Range, Signature, TensorSpec
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.null import NullSession
from edgeport.runtimes.ort.cpu import open
from edgeport.runtimes.outputs import OutputCheck, check_outputs
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.parity.verification import check_session
from edgeport.runtimes.session import Options
from edgeport.runtimes.signature import DTYPES

X = TensorSpec("x", "float32", ("batch", "time"))
Y = TensorSpec("y", "float32", ("batch", 3))
FOUND = TensorSpec("found", "int64", ("found_0",))
WHERE = TensorSpec("where", "int64", ("found_0", 2))
SIGNATURE = Signature((X,), (Y, FOUND, WHERE), {"batch": Range(1, 8)})
RIGHT: dict[str, Array] = {
    "y": np.zeros((2, 3), np.float32),
    "found": np.zeros(4, np.int64),
    "where": np.zeros((4, 2), np.int64),
}


def test_a_right_answer_passes() -> None:
    check_outputs(SIGNATURE, [(2, 5)], RIGHT)
    empty = {**RIGHT, "found": RIGHT["found"][:0], "where": RIGHT["where"][:0]}
    check_outputs(SIGNATURE, [(2, 5)], empty)  # of what is found there may be none


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("y", None, "output 'y' is missing"),
        ("y", np.zeros((2, 3)), "output 'y' is float64, declared as float32"),
        (
            "y",
            np.zeros((2, 3, 1), np.float32),
            r"output 'y' has 3 axes \[2, 3, 1\], declared as y: float32\[batch, 3\]",
        ),
        (
            "y",
            np.zeros((2, 4), np.float32),
            r"output 'y' has shape \[2, 4\]: axis 1 is 4, declared as 3",
        ),
        (
            "y",
            np.zeros((1, 3), np.float32),
            r"output 'y' has shape \[1, 3\]: axis 0 is 1, but 'batch' is 2 in input 'x'",
        ),
        (
            "where",
            np.zeros((5, 2), np.int64),
            r"output 'where' has shape \[5, 2\]: axis 0 is 5, but 'found_0' is 4 in output 'found'",
        ),
    ],
)
def test_a_wrong_answer_is_told(name: str, array: Array | None, message: str) -> None:
    others = {key: value for key, value in RIGHT.items() if key != name}
    wrong = others if array is None else {**RIGHT, name: array}
    with pytest.raises(EngineError, match=rf"{message}\n  fix: export the model again, with a sam"):
        check_outputs(SIGNATURE, [(2, 5)], wrong)


def test_a_range_that_was_declared_for_an_output_holds() -> None:
    signature = replace(SIGNATURE, ranges={"found_0": Range(1, 3)})
    with pytest.raises(EngineError, match=r"axis 0 is 4, declared as found_0 in 1\.\.3"):
        check_outputs(signature, [(2, 5)], RIGHT)


def test_a_size_that_follows_others_is_compared() -> None:
    past, time = (TensorSpec(name, "float32", (name,)) for name in ("past", "time"))
    signature = Signature((past, time), (TensorSpec("y", "float32", ("past+time",)),))
    check_outputs(signature, [(3,), (4,)], {"y": np.zeros(7, np.float32)})
    with pytest.raises(EngineError, match=r"axis 0 is 9, but 'past\+time' is 7\n"):
        check_outputs(signature, [(3,), (4,)], {"y": np.zeros(9, np.float32)})
    other = Signature((past, time), (TensorSpec("y", "float32", ("past + 1",)),))  # as optimum's
    check_outputs(other, [(3,), (4,)], {"y": np.zeros(7, np.float32)})


names = st.sampled_from(["batch", "time", "width"])


@st.composite
def answers(draw: st.DrawFn) -> tuple[Signature, list[tuple[int, ...]], dict[str, Array]]:
    """A signature, shapes of inputs that fit it, and an answer that fits both."""
    sizes: dict[str, int] = {}

    def specs(prefix: str, at_least: int) -> tuple[TensorSpec, ...]:
        shapes = st.lists(st.one_of(st.integers(0, 4), names), max_size=4)
        found = draw(st.lists(st.tuples(st.sampled_from(DTYPES), shapes), min_size=at_least))
        return tuple(
            TensorSpec(f"{prefix}{index}", dtype, tuple(shape))
            for index, (dtype, shape) in enumerate(found[:3])
        )

    def shape(spec: TensorSpec) -> tuple[int, ...]:
        return tuple(
            size if isinstance(size, int) else sizes.setdefault(size, draw(st.integers(1, 5)))
            for size in spec.shape
        )

    signature = Signature(specs("in", 0), specs("out", 1))
    shapes = [shape(spec) for spec in signature.inputs]
    outputs = {spec.name: np.zeros(shape(spec), spec.dtype) for spec in signature.outputs}
    return signature, shapes, outputs


@given(answers())
def test_what_fits_passes(
    case: tuple[Signature, list[tuple[int, ...]], dict[str, Array]],
) -> None:
    check_outputs(*case)


@given(answers(), st.data())
def test_what_does_not_fit_is_refused(
    case: tuple[Signature, list[tuple[int, ...]], dict[str, Array]], data: st.DataObject
) -> None:
    signature, shapes, outputs = case
    spec = data.draw(st.sampled_from(signature.outputs))
    array = outputs[spec.name]
    owned = [size for inputs in signature.inputs for size in inputs.shape]
    bound = [axis for axis, size in enumerate(spec.shape) if isinstance(size, int) or size in owned]
    change = data.draw(st.sampled_from(["dtype", "rank", *(["size"] if bound else [])]))
    if change == "dtype":
        other = data.draw(st.sampled_from([dtype for dtype in DTYPES if dtype != spec.dtype]))
        wrong = np.zeros(array.shape, other)
    elif change == "rank":
        wrong = array[..., None]
    else:
        axis = data.draw(st.sampled_from(bound))
        size = data.draw(st.integers(0, 9).filter(lambda size: size != array.shape[axis]))
        wrong = np.zeros([*array.shape[:axis], size, *array.shape[axis + 1 :]], spec.dtype)
    with pytest.raises(EngineError, match=f"output '{spec.name}' "):
        check_outputs(signature, shapes, {**outputs, spec.name: wrong})


def test_shapes_that_were_right_are_not_looked_at_again() -> None:
    check = OutputCheck(SIGNATURE)
    x, wrong = np.zeros((2, 5), np.float32), {**RIGHT, "y": np.zeros((1, 3), np.float32)}
    for _ in range(2):  # what was wrong is not remembered as right
        with pytest.raises(EngineError, match="axis 0 is 1"):
            check([x], wrong)
    check([x], RIGHT)
    check([x], wrong)
    with pytest.raises(EngineError, match="axis 0 is 1"):
        check([x[:, :4]], wrong)


def test_it_does_not_remember_without_end() -> None:
    check = OutputCheck(SIGNATURE)
    for time in range(3000):
        check([np.zeros((2, time), np.float32)], RIGHT)
    assert len(check._seen) <= 1024


# ---- engines

SHORT = Signature(
    (TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", ("batch", 4)),)
)
"""Of what answers only the rows whose sum is above 0."""

TOO_SHORT = r"output 'y' has shape \[2, 4\]: axis 0 is 2, but 'batch' is 3 in input 'x'"
ALL = np.ones((3, 4), np.float32)
SOME = ALL * np.array([[1], [-1], [1]], np.float32)


@pytest.fixture
def short(tmp_path: Path) -> Path:
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["sums"], keepdims=0),
            helper.make_node("Greater", ["sums", "zero"], ["kept"]),
            helper.make_node("Compress", ["x", "kept"], ["y"], axis=0),
        ],
        "short",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [
            numpy_helper.from_array(np.array([1]), "axes"),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
        ],
    )
    opset = helper.make_opsetid("", 20)
    path = tmp_path / "short.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


def test_onnx_runtime_answers_less_than_the_file_declares(short: Path) -> None:
    with open(short, Options(threads=1)) as session:
        assert session.signature == SHORT
        with pytest.raises(EngineError, match=TOO_SHORT):
            session.run({"x": SOME})
        np.testing.assert_array_equal(session.run({"x": ALL})["y"], ALL)
        with pytest.raises(EngineError, match=r"axis 0 is 0, but 'batch' is 2 in input 'x'"):
            session.run({"x": -ALL[:2]})  # a combination of shapes that was not seen


def test_torch_answers_less_than_was_declared() -> None:
    torch = pytest.importorskip("torch")
    from edgeport.runtimes.libtorch.session import TorchSession

    def forward(x: Any) -> Any:
        return x[x.sum(1) > 0] * torch.ones(())

    with TorchSession("libtorch", forward, SHORT, Options(threads=1)) as session:
        with pytest.raises(EngineError, match=TOO_SHORT):
            session.run({"x": SOME})
        np.testing.assert_array_equal(session.run({"x": ALL})["y"], ALL)


def test_a_proof_looks_at_every_answer(short: Path) -> None:
    """Also where the golden answers are as wrong, and the shapes of the inputs as before."""
    samples = [
        Golden(name, "real", {"x": x}, {"y": x[x.sum(1) > 0]}, {})
        for name, x in {"all": ALL, "some": SOME}.items()
    ]
    with open(short, Options(threads=1)) as session:
        assert check_session(session, samples[:1], Thresholds())
        with pytest.raises(EngineError, match=f"sample 'some': {TOO_SHORT}"):
            check_session(session, samples, Thresholds())


class Eager(NullSession):
    """Answers what the module answered."""

    def __init__(self, signature: Signature, samples: Sequence[Golden]) -> None:
        super().__init__(signature, 1)
        self._samples = samples

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        (found,) = (sample for sample in self._samples if sample.inputs is inputs)
        return dict(found.eager)

    def __enter__(self) -> "Eager":
        return self


def test_a_signature_that_is_as_wrong_as_the_artefact_fails(
    packed: Path, samples: tuple[Golden, ...], signature: Signature
) -> None:
    """Eager and engine agree, and both answer something else than they are said to."""
    logits, label = signature.outputs
    wide = replace(signature, outputs=(replace(logits, shape=("batch", 4)), label))

    with pytest.raises(
        EngineError,
        match=r"sample 'sample 0': output 'logits' has shape \[1, 3\]: axis 1 is 3, declared as 4",
    ):
        check_session(Eager(wide, samples), samples, Thresholds())
    assert check_session(Eager(signature, samples), samples, Thresholds())
