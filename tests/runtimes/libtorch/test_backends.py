"""The two torch backends: what they refuse, and what they leave as it was."""

import io
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeport import deploy
from edgeport.runtimes import (
    BackendMissingError,
    Bundle,
    ContractError,
    EngineError,
    FormatError,
    InputError,
    Options,
    Signature,
    TensorSpec,
    UsageError,
    open,
    verify,
)
from edgeport.runtimes.libtorch.session import TorchSession
from edgeport.runtimes.libtorch.threads import thread_count
from edgeport.runtimes.rehearsal import rehearse
from edgeport.runtimes.safety.isolation import Limits
from edgeport.runtimes.session import open_artefact

FILES = {"libtorch": "model.ts", "torch": "model.pt2"}
both = pytest.mark.parametrize("backend", FILES)
X = {"x": np.ones((2, 4), np.float32)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("torch") / "linear.edge"
    formats = ["torchscript", "pt2"]
    example = {"x": torch.randn(2, 4)}
    deploy.export(nn.Linear(4, 2), example, path, dimensions={"x": {0: "batch"}}, formats=formats)
    return path


@pytest.mark.slow
def test_a_read_only_device_opens_exported_programs(bundle: Path) -> None:
    """In a process of its own, as torch asks for folders while it is imported."""
    code = """
import os, sys, tempfile
def find():
    raise FileNotFoundError("No usable temporary directory found")
tempfile._get_default_tempdir = find
before = dict(os.environ)
from edgeport import runtimes
runtimes.open(sys.argv[1], backend="torch", threads=1).close()
assert (tempfile.tempdir, dict(os.environ)) == (None, before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@both
def test_what_a_script_sets_around_a_session_changes_nothing(backend: str, bundle: Path) -> None:
    inputs = {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)}
    with open(bundle, backend=backend) as session:
        want = session.run(inputs)
    with (
        torch.device("meta"),
        torch.autocast("cpu", dtype=torch.bfloat16),
        open(bundle, backend=backend) as session,
    ):
        for _ in range(3):  # the second call is the one that is quick
            np.testing.assert_equal(session.run(inputs), want)


@both
def test_a_damaged_file(backend: str, bundle: Path, tmp_path: Path) -> None:
    whole = (bundle / FILES[backend]).read_bytes()
    file = tmp_path / FILES[backend]
    for data in (b"", b"not an archive", whole[: len(whole) // 2]):
        file.write_bytes(data)
        with pytest.raises(EngineError, match="torch cannot open") as caught:
            open_artefact(file, backend)
        assert "torch is as new as its producer" in caught.value.remedy


@both
def test_a_file_that_carries_no_signature(backend: str, tmp_path: Path) -> None:
    file = tmp_path / FILES[backend]
    module, example = nn.Linear(4, 2), (torch.ones(2, 4),)
    buffer = io.BytesIO()
    if backend == "torch":
        torch.export.save(torch.export.export(module, example), buffer)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated")
            torch.jit.save(torch.jit.trace(module, example), buffer)  # type: ignore[no-untyped-call]
    file.write_bytes(buffer.getvalue())
    with pytest.raises(FormatError, match="carries no signature") as caught:
        open_artefact(file, backend)
    assert caught.value.remedy == "export it with edgeport"


@both
def test_another_signature_than_asked(backend: str, bundle: Path) -> None:
    asked = Signature(
        (TensorSpec("y", "float32", ("batch", 4)),), (TensorSpec("o", "float32", ("batch", 2)),)
    )
    with pytest.raises(ContractError, match="was asked for"):
        open_artefact(bundle / FILES[backend], backend, Options(signature=asked))


@both
def test_threads_are_read_back_and_given_back(backend: str, bundle: Path) -> None:
    before = torch.get_num_threads()
    other = before + 1
    with open(bundle, backend, threads=other) as session:
        assert session.engine.threads == torch.get_num_threads() == other
        assert session.engine.backend == backend
        assert session.engine.version == torch.__version__
    assert torch.get_num_threads() == before


@both
def test_a_closed_session(backend: str, bundle: Path) -> None:
    session = open(bundle, backend)
    session.close()
    session.close()
    with pytest.raises(EngineError, match="the session is closed"):
        session.run(X)


@both
def test_inputs_are_checked_and_left_alone(backend: str, bundle: Path) -> None:
    read_only = X["x"].copy()
    read_only.setflags(write=False)
    with open(bundle, backend) as session:
        answer = session.run({"x": read_only})["output"]
        with pytest.raises(InputError, match="expected float32"):
            session.run({"x": np.ones((2, 4))})
    answer += 1  # it is the caller's


WEIGHT = torch.ones(3)
KEPT: list[tuple[torch.Tensor, float]] = []


def ill_behaved(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Writes into its input, changes its shape, keeps it, and gives it out, and a weight too."""
    x.unsqueeze_(0).add_(1)
    KEPT.append((x, x.sum().item()))
    return x[0], WEIGHT[1:], x.sum(-1)


def test_no_call_sees_what_became_of_another() -> None:
    shapes: dict[str, tuple[int | str, ...]] = {"seen": ("n", 2), "weight": (2,), "sum": (1, "n")}
    outputs = tuple(TensorSpec(name, "float32", shape) for name, shape in shapes.items())
    signature = Signature((TensorSpec("x", "float32", ("n", 2)),), outputs)

    def call(_: int) -> None:
        for size in (1, 3, 1, 3):
            x = np.random.default_rng(size).random((size, 2), np.float32)
            before = x.copy()
            found = session.run({"x": x})
            np.testing.assert_array_equal(x, before)
            np.testing.assert_array_equal(found["seen"], x + 1)
            np.testing.assert_array_equal(found["weight"], [1, 1])
            np.testing.assert_array_equal(found["sum"], [(x + 1).sum(-1)])
            for array in (found["weight"], found["sum"]):
                array[...] = -1  # they are the caller's

    with (
        TorchSession("torch", ill_behaved, signature, Options()) as session,
        ThreadPoolExecutor(4) as pool,
    ):
        list(pool.map(call, range(100)))
    assert len(KEPT) == 400
    assert all(tensor.sum().item() == total for tensor, total in KEPT)  # as a memo would need it


def test_bare_files(bundle: Path) -> None:
    with open(bundle / "model.ts", "libtorch") as session:
        assert session.run(X)["output"].shape == (2, 2)
    with pytest.raises(UsageError, match=r"bare \.pt2 file, and loading one can run code"):
        open(bundle / "model.pt2", "torch")


@both
def test_a_child_does_not_wait_for_threads_that_it_has_not(backend: str, bundle: Path) -> None:
    with thread_count(2):
        torch.ones(400, 400).mm(torch.ones(400, 400)).sqrt()  # starts OpenMP's threads
        found = Bundle.read(bundle)
        report = verify(found, [backend], limits=Limits(time_s=60))
        assert report.passed
        assert [each.engine.threads for each in report.backends if each.engine] == [1]
        rehearse(found, backend, [found.golden()[0].inputs], Options(threads=2), Limits(time_s=60))


@both
def test_the_device_is_said_and_asked_for(backend: str, bundle: Path) -> None:
    with open(bundle, backend, threads=1, device="cpu") as session:
        assert (session.engine.device, session.engine.provider) == ("cpu", "cpu")
    if torch.version.cuda is None:
        with pytest.raises(BackendMissingError, match="built without CUDA, so it cannot run on cu"):
            open(bundle, backend, device="cuda:1")


def test_torch_may_find_no_gpu_in_a_forked_process(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so while it loads, if the process that was forked uses CUDA; here nobody asked."""
    load = torch.export.load

    def look_for_gpus(*args: Any, **kwargs: Any) -> Any:
        warnings.warn("CUDA initialization: CUDA driver initialization failed", stacklevel=1)
        return load(*args, **kwargs)

    monkeypatch.setattr(torch.export, "load", look_for_gpus)
    with open_artefact(bundle / "model.pt2", "torch") as session:
        assert session.engine.device == "cpu"
