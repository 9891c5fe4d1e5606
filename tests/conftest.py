"""A bundle made by hand: an ONNX MLP whose golden answers are numpy's, so no torch is needed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import handmade
import hypothesis
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.runtimes import BackendMissingError, EdgeportError, Range, Signature, TensorSpec
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.bundles.manifest import Kind
from edgeport.runtimes.cpus import available_cpus
from edgeport.runtimes.cuda.gpus import gpus
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import METADATA_KEY
from edgeport.runtimes.tensorrt.library import Library, load

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process of pytest for every CPU: threads of
# torch that wait for one another take three times the CPU time and more of the wall's

hypothesis.settings.register_profile("edgeport", deadline=None)  # others may have the CPU
hypothesis.settings.load_profile("edgeport")


_HANDLED: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

for _number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(_number) == signal.SIG_IGN:  # behind nohup, or in the background
        signal.signal(_number, lambda *_: None)  # what is ignored stays so in a new process


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """Many tests wait for a process that they started: one worker more than there are CPUs."""
    return available_cpus() + 1


@pytest.hookimpl(tryfirst=True)  # before -m is looked at
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The README's commands take longest: last, they would leave the other CPUs idle.

    ``usually`` names the variants of a test that are run by default; the others are slow.
    """
    for item in items:
        usual = [word for mark in item.iter_markers("usually") for word in mark.args]
        if usual and not any(word in item.name for word in usual):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """A command that was interrupted ignores the next Ctrl-C, and so do processes started later."""
    before = {number: signal.getsignal(number) for number in _HANDLED}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _weights_as_before() -> None:
    """A test has the same weights whatever ran before it, alone and among others."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _no_caches_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


MANY: Final = 20
"""Tests for which it pays to run the compilers once before; a few need not wait for that."""


@pytest.fixture(scope="session", autouse=True)
def _compilers_ran_before(request: pytest.FixtureRequest) -> None:
    if request.session.testscollected > MANY and "edgeport.deploy" in sys.modules:
        request.getfixturevalue("loaded_late")


@pytest.fixture(scope="session")
def loaded_late(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Run each compiler once in this process: those that are forked later have its tables.

    It halves their CPU time, and says which modules ``warm_up`` did not load before.
    """
    import torch

    from edgeport import deploy
    from edgeport.deploy.compilers.routes import routes
    from edgeport.deploy.compilers.targets import OnnxRequest
    from edgeport.deploy.compilers.upstream import inference_only, quiet
    from edgeport.deploy.compilers.warm import warm_up

    formats = ("torchscript", "onnx", "pt2")
    module, example = torch.nn.Linear(3, 2).eval(), {"x": torch.ones(2, 3)}
    source = deploy.source_of("linear", module, example, {"x": {0: "batch"}})
    warm_up(formats, 20)
    before = set(sys.modules)
    for name in formats:
        first, *_ = routes(name, OnnxRequest(20, 10))
        with quiet(), inference_only():
            first.compile(source, tmp_path_factory.mktemp(name))
    return set(sys.modules) - before


@pytest.fixture(scope="session")
def rtx() -> Library:
    """TensorRT-RTX, which builds engines without a GPU; NVIDIA has it for few platforms."""
    try:
        return load("tensorrt-rtx")
    except BackendMissingError as e:
        pytest.skip(e.problem)


@pytest.fixture(scope="session")
def no_gpu() -> None:
    """What is tested is what happens without one."""
    try:
        gpus()
    except EdgeportError:
        return
    pytest.skip("there is a GPU here")


@pytest.fixture(scope="session")
def signature() -> Signature:
    return Signature(
        (TensorSpec("x", "float32", ("batch", 8)),),
        (TensorSpec("logits", "float32", ("batch", 3)), TensorSpec("label", "int64", ("batch",))),
        {"batch": Range(1, 64)},
    )


@pytest.fixture(scope="session")
def weights() -> dict[str, Array]:
    draw = np.random.default_rng(0).normal
    shapes = {"w1": (8, 16), "b1": (16,), "w2": (16, 3), "b2": (3,)}
    return {name: draw(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="session")
def mlp_onnx(signature: Signature, weights: Mapping[str, Array]) -> bytes:
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["logits"]),
            helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
        ],
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = helper.make_opsetid("", 20)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(signature.to_json())})
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture(scope="session")
def samples(weights: Mapping[str, Array]) -> tuple[Golden, ...]:
    generator = np.random.default_rng(1)
    inputs = [generator.normal(size=(rows, 8)).astype(np.float32) for rows in (1, 2, 7)]
    kinds: tuple[Kind, ...] = ("real", "real", "real", "edge")
    return tuple(
        Golden(f"sample {index}", kind, {"x": x}, _answer(x, weights), _oracle(x, weights))
        for index, (kind, x) in enumerate(
            zip(kinds, [*inputs, np.zeros((2, 8), np.float32)], strict=True)
        )
    )


@pytest.fixture
def packed(
    tmp_path: Path, mlp_onnx: bytes, samples: tuple[Golden, ...], signature: Signature
) -> Path:
    """A bundle of one's own to damage: ``onnx`` and ``null`` artefacts."""
    artefacts = {"onnx": mlp_onnx, "null": json.dumps(signature.to_json()).encode()}
    path: Path = handmade.bundle(tmp_path / "mlp.edge", signature, artefacts, samples)
    return path


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def _answer(x: Array, weights: Mapping[str, Array]) -> dict[str, Array]:
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0)
    logits = hidden @ weights["w2"] + weights["b2"]
    return {"logits": logits, "label": logits.argmax(1)}


def _oracle(x: Array, weights: Mapping[str, Array]) -> dict[str, Array]:
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    return {"logits": _answer(x.astype(np.float64), wide)["logits"]}
