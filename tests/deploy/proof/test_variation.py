"""What a file that rounds keeps of that which changes from input to input."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport.deploy.proof.variation import Variation, variation
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array


@pytest.fixture
def rounds(tmp_path: Path) -> Path:
    """An ONNX file that rounds: what is asked of it is the module's own answer."""
    nodes = [helper.make_node("Round", ["x"], ["y"])]
    return saved(nodes, TensorProto.FLOAT, tmp_path / "rounds.onnx")


def saved(nodes: Sequence[onnx.NodeProto], dtype: int, path: Path) -> Path:
    values = [
        helper.make_tensor_value_info(name, each, ["batch", "width"])
        for name, each in (("x", TensorProto.FLOAT), ("y", dtype))
    ]
    graph = helper.make_graph(nodes, "rounds", values[:1], values[1:])
    opset = [helper.make_opsetid("", 20)]
    onnx.save_model(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


def asked(path: Path, answers: Sequence[Array], constant: Sequence[str] = ()) -> Variation:
    golden = [
        Golden(f"{place}", "real", {"x": each}, {"y": each}, {"y": each.astype(np.float64)})
        for place, each in enumerate(answers)
    ]
    return variation(path, golden, constant)


def drawn(width: int) -> list[Array]:
    generator = np.random.default_rng(0)
    return [generator.random((rows, width), np.float32) for rows in (2, 3, 5)]


def test_what_changes_is_lost_beside_what_does_not(rounds: Path) -> None:
    found = asked(rounds, [293 + each / 3 for each in drawn(1)])
    told = "y is no nearer to the module's than its mean is: nothing is left of what changes"
    assert [each[: len(told)] for each in found.lost.values()] == [told]
    assert found.parts == ()


def test_parts_of_another_size_are_lost_beside_large_ones(rounds: Path) -> None:
    sizes = np.array([640, 640, 0.3, 0.4], np.float32)
    found = asked(rounds, [each * sizes for each in drawn(4)])
    assert not found.lost
    assert found.parts == (
        "nothing is left of what changes from input to input in 2 of the 4 parts of y along axis "
        "1 (the first at 2)",
    )
    assert 50 < found.kept_db["y"] < 70


def test_shares_of_one_whole_may_be_small(rounds: Path) -> None:
    columns = [each * np.array([1, 1e-3], np.float32) for each in drawn(2)]
    shares = [np.concatenate([1 - each.sum(1, keepdims=True), each], 1) for each in columns]
    assert asked(rounds, shares).parts == ()
    assert asked(rounds, [each * 2 for each in shares]).parts  # no shares


def test_an_output_that_is_meant_not_to_change(rounds: Path) -> None:
    assert asked(rounds, [293 + each / 3 for each in drawn(1)], ["y"]) == Variation()


def test_too_few_answers_say_nothing(rounds: Path) -> None:
    assert asked(rounds, [293 + each[:1] / 3 for each in drawn(1)]) == Variation()


def test_what_is_rare_and_never_found(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Round", ["x"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["y"], to=TensorProto.BOOL),
    ]
    path = saved(nodes, TensorProto.BOOL, tmp_path / "rare.onnx")
    inputs = [each * 0.4 for each in drawn(20)]  # all are rounded to 0
    golden = [
        Golden(f"{place}", "real", {"x": each}, {"y": each > 0.38}, {})
        for place, each in enumerate(inputs)
    ]
    (told,) = variation(path, golden, ()).lost.values()
    count = sum(int(sample.eager["y"].sum()) for sample in golden)
    assert told == (
        f"{count} elements of y differ, and {count} would if the most usual value was given to "
        "all inputs"
    )
    few = [Golden("0", "real", {"x": inputs[0]}, {"y": inputs[0] == inputs[0].max()}, {})]
    assert variation(path, few, ()) == Variation()  # one always may
