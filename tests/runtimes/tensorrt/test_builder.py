"""Real engines of TensorRT-RTX, which builds where no GPU is."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeport.runtimes import ContractError, EngineError, Signature, TensorSpec
from edgeport.runtimes.tensorrt.builder import Phases
from edgeport.runtimes.tensorrt.building import _for_gpu, build
from edgeport.runtimes.tensorrt.library import load
from edgeport.runtimes.tensorrt.order import (
    Bounds,
    Built,
    EngineOptions,
    Order,
    Problem,
    Progress,
    Refused,
)

pytestmark = pytest.mark.usefixtures("rtx")

FLOAT, INT64, UINT8, DOUBLE = (
    TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8, TensorProto.DOUBLE,
)  # fmt: skip  # one line

Made = tuple[onnx.ModelProto, Signature]


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
) -> Made:
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    opset = helper.make_opsetid("", 20)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return made, Signature(tuple(map(_spec, inputs)), tuple(map(_spec, outputs)))


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    shape = tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)
    return TensorSpec(value.name, dtype, shape)


value = helper.make_tensor_value_info
node = helper.make_node


def chain(layers: int, wide: int = 64) -> Made:
    """Products of matrices, one after the other: what takes a while to build."""
    nodes, weights = [], []
    for index in range(layers):
        last = f"r{index - 1}" if index else "x"
        nodes.append(node("MatMul", [last, f"w{index}"], [f"m{index}"], name=f"product {index}"))
        nodes.append(node("Relu", [f"m{index}"], [f"r{index}"]))
        numbers = np.random.default_rng(index).standard_normal((wide, wide), np.float32)
        weights.append(numpy_helper.from_array(numbers, f"w{index}"))  # equal ones are kept once
    x, y = value("x", FLOAT, ["batch", wide]), value(nodes[-1].output[0], FLOAT, ["batch", wide])
    return model(nodes, [x], [y], weights)


def order(made: Made, folder: Path, options: EngineOptions | None = None) -> Order:
    onnx.save(made[0], folder / "model.onnx")
    shapes = {
        spec.name: Bounds(*(_sizes(spec, free) for free in (1, 2, 8)))
        for spec in made[1].inputs
        if not all(isinstance(size, int) for size in spec.shape)
    }
    paths = str(folder / "model.onnx"), str(folder / "model.rtx")
    return Order("tensorrt-rtx", *paths, made[1], shapes, options=options or EngineOptions())


def _sizes(spec: TensorSpec, free: int) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else free for size in spec.shape)


def test_an_engine_is_written_and_its_progress_told(tmp_path: Path) -> None:
    told: list[Progress] = []
    asked = order(chain(40), tmp_path, EngineOptions(("8.6", "8.9"), workspace_bytes=2**28))
    answer = build(asked, 120, on_progress=told.append)
    assert answer == Built(load("tensorrt-rtx").version)
    assert (tmp_path / "model.rtx").stat().st_size > 40 * 64 * 64 * 4  # its weights are in it
    assert told
    assert [each.done for each in told] == sorted(each.done for each in told)
    assert all(0 <= each.done <= 1 and each.stage for each in told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.rtx"]


IN_AN_IF = [
    node("ReduceMax", ["x"], ["m"], keepdims=0),
    node("Cast", ["m"], ["c"], to=TensorProto.BOOL),
    node(
        "If", ["c"], ["y"], name="choice",
        then_branch=helper.make_graph(
            [node("NonZero", ["x"], ["a"], name="inside")], "t", [], [value("a", INT64, [2, "n"])]
        ),
        else_branch=helper.make_graph(
            [node("NonZero", ["x"], ["b"])], "e", [], [value("b", INT64, [2, "n"])]
        ),
    ),
]  # fmt: skip  # as it nests
X = value("x", FLOAT, ["batch", 4])
SQUARE = value("x", FLOAT, ["batch", 4, 4])


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (
            model(
                [node("NonZero", ["x"], ["y"], name="where")], [X], [value("y", INT64, [2, "n"])]
            ),
            Problem("Assertion failed: creator", "where", "NonZero"),
        ),
        (
            model([node("Det", ["x"], ["y"])], [SQUARE], [value("y", FLOAT, ["batch"])]),
            Problem("false", None, "Det"),
        ),
        (
            model(
                [
                    node("ScatterElements", ["x", "i", "x"], ["z"], name="plain", axis=1),
                    node(
                        "ScatterElements", ["z", "i", "x"], ["y"],
                        name="sum", axis=1, reduction="add",
                    ),
                ],
                [X, value("i", INT64, ["batch", 4])],
                [value("y", FLOAT, ["batch", 4])],
            ),
            Problem("Unsupported reduction type", "sum", "ScatterElements"),
        ),
        (model(IN_AN_IF, [X], [value("y", INT64, [2, "n"])]),
            Problem("Assertion failed: creator", "inside", "NonZero")),
        (
            model(
                [node("Add", ["x", "x"], ["y"], name="bytes")],
                [value("x", UINT8, ["batch", 4])],
                [value("y", UINT8, ["batch", 4])],
            ),
            Problem("bytes: ElementWiseOperation SUM requires inputs", "bytes", "Add"),
        ),
        (
            model(
                [node("Mine", ["x"], ["y"], name="mine", domain="my.domain")],
                [X],
                [value("y", FLOAT, ["batch", 4])],
            ),
            Problem('creator && "Plugin not found', "mine", "Mine"),
        ),
    ],
    ids=["nonzero", "without a name", "error without a node", "in an If", "dtype", "custom"],
)  # fmt: skip  # as it nests
def test_the_node_that_is_refused_has_a_name(tmp_path: Path, made: Made, problem: Problem) -> None:
    answer = build(order(made, tmp_path), 120)
    assert isinstance(answer, Refused)
    assert answer.phase == "parse"
    (found,) = answer.problems
    assert found.text.startswith(problem.text)
    assert "catchCudaError" not in found.text
    assert (found.node, found.operator) == (problem.node, problem.operator)
    assert not (tmp_path / "model.rtx").exists()


def test_every_node_that_is_refused_is_named(tmp_path: Path) -> None:
    nodes = [
        node("Det", ["x"], ["d"], name="first"),
        node("Relu", ["x"], ["r"]),
        node("Unique", ["r"], ["y"], name="second"),
    ]
    outputs = [value("d", FLOAT, ["batch"]), value("y", FLOAT, ["n"])]
    answer = build(order(model(nodes, [SQUARE], outputs), tmp_path), 120)
    assert isinstance(answer, Refused)
    assert [(p.node, p.operator) for p in answer.problems] == [
        ("first", "Det"), ("second", "Unique"),
    ]  # fmt: skip  # one line


def test_float32_products_are_refused_for_turing(tmp_path: Path) -> None:
    answer = build(order(chain(2), tmp_path, EngineOptions(("7.5",))), 120)
    text = "Cannot compile operation 'product 0' for Turing (SM75): FP32 GEMM is not supported."
    assert answer == Refused("build", (Problem(text),))
    assert not (tmp_path / "model.rtx").exists()


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        (Bounds((8, 64), (2, 64), (1, 64)), "Invalid optimization profiles for input tensors x"),
        (Bounds((1, 32), (2, 32), (8, 32)), "x"),
    ],
)
def test_sizes_that_make_no_profile_are_told(tmp_path: Path, shapes: Bounds, text: str) -> None:
    asked = replace(order(chain(1), tmp_path), shapes={"x": shapes})
    answer = build(asked, 120)
    assert isinstance(answer, Refused)
    assert any(text in problem.text for problem in answer.problems)


def test_float64_is_not_taken_for_float32(tmp_path: Path) -> None:
    made = model(
        [node("Relu", ["x"], ["y"])],
        [value("x", DOUBLE, ["batch", 4])],
        [value("y", DOUBLE, ["batch", 4])],
    )
    problem = r"asked for the input x: float64\[batch, 4\], TensorRT-RTX \S+ has float32\[\?, 4\]"
    with pytest.raises(ContractError, match=problem):
        build(order(made, tmp_path), 120)


@pytest.mark.parametrize("fault", ["name", "size"])
def test_a_network_that_is_another_than_asked_is_refused(tmp_path: Path, fault: str) -> None:
    made, signature = chain(1)
    (x,) = signature.inputs
    asked = TensorSpec("z", x.dtype, x.shape) if fault == "name" else replace(x, shape=(3, 64))
    asked = asked if fault == "name" else replace(asked, shape=("batch", 65))
    wrong = replace(signature, inputs=(asked,))
    problem = "asked for the inputs z, " if fault == "name" else r"\[batch, 65\], .* has float32"
    with pytest.raises(ContractError, match=problem):
        build(replace(order((made, signature), tmp_path), signature=wrong), 120)


def test_an_input_whose_values_are_sizes_has_their_ends(tmp_path: Path) -> None:
    made = model(
        [node("Reshape", ["x", "shape"], ["y"])],
        [value("x", FLOAT, ["batch", 4]), value("shape", INT64, [2])],
        [value("y", FLOAT, ["n", "m"])],
    )
    asked = order(made, tmp_path)
    values = {"shape": Bounds((1, 2), (2, 4), (8, 16))}
    answer = build(replace(asked, values=values), 120)
    assert isinstance(answer, Built)
    assert answer.inputs_of_values == ("shape",)


def test_a_build_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"the build took longer than 0\.01 s") as caught:
        build(order(chain(1), tmp_path), 0.01)
    assert "--time-limit" in caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_build_without_memory_is_told(tmp_path: Path) -> None:
    try:
        answer = build(order(chain(2), tmp_path), 120, memory_bytes=2**20)
    except EngineError as e:
        assert e.problem.startswith("the process that built the engine ")  # noqa: PT017
        assert "--memory-limit" in e.remedy  # noqa: PT017
    else:
        assert isinstance(answer, Refused)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_ctrl_c_ends_the_build_and_leaves_nothing(tmp_path: Path) -> None:
    asked = order(chain(200, 128), tmp_path)
    code = f"""
        from edgeport.runtimes import Signature, TensorSpec
        from edgeport.runtimes.tensorrt.building import build
        from edgeport.runtimes.tensorrt.order import *
        try:
            build({asked!r}, 120, on_progress=lambda p: print("building", flush=True))
        except KeyboardInterrupt:
            print("stopped")
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert rest.endswith("stopped\n")
    assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert not _builders_of(process.pid)


def _builders_of(parent: int) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if int(fields[1]) == parent and int(entry.name) != os.getpid():
            found.append((entry / "cmdline").read_text())
    return found


@given(steps=st.lists(st.integers(1, 5), min_size=1, max_size=4))
@settings(max_examples=30)
def test_progress_never_shrinks_and_ends_at_one(steps: list[int]) -> None:
    phases = Phases()
    seen = []

    def run(level: int, parent: str | None) -> None:
        name = str(level)
        phases.start(name, parent, steps[level])
        for step in range(steps[level]):
            if level + 1 < len(steps):
                run(level + 1, name)
            phases.step(name, step)
            seen.append(phases.done)
        phases.finish(name)

    run(0, None)
    assert seen == sorted(seen)
    assert seen[-1] == 1
    phases.step("unknown", 3)
    assert phases.done == 1


@pytest.mark.parametrize(
    ("visible", "gpu", "built_for"),
    [(None, 0, None), (None, 1, "1"), ("2,3", 0, "2,3"), ("2, 3", 1, "3")],
)
def test_the_gpu_that_tensorrt_finds_first(
    visible: str | None, gpu: int, built_for: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert {**os.environ, **_for_gpu(gpu)}.get("CUDA_VISIBLE_DEVICES") == built_for
