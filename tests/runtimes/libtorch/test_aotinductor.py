"""Packages of AOTInductor, from the export to the call. One is compiled for all of it: half a
minute."""

import platform
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.__main__ import main
from edgeport.runtimes import (
    BackendMissingError,
    Bundle,
    ContractError,
    EngineError,
    FormatError,
    InputError,
    IntegrityError,
    Options,
    Range,
    Signature,
    TensorSpec,
    UsageError,
    open,
    probe,
    verify,
)
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.libtorch import aotinductor, native_target
from edgeport.runtimes.libtorch.native_target import NativeTarget, best_level
from edgeport.runtimes.libtorch.session import EXTRA_FILE
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.rehearsal import rehearse
from edgeport.runtimes.safety.aoti_package import CALLS, LIBRARY, unpacked
from edgeport.runtimes.safety.isolation import Limits
from edgeport.runtimes.session import open_artefact

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="AOTInductor: x86_64 alone"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor: no C++ compiler"),
]


class Sharing(nn.Module):
    """Computes with its two inputs, and gives out one of them, a view of it, and a weight.

    Eigenvalues are called through torch's dispatcher: a file beside the library says how.
    """

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 16)
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        hidden = self.linear(x).relu() @ self.linear.weight
        largest = torch.linalg.eigvalsh(x[:, :, None] * x[:, None, :])[:, -1]
        return (hidden - y).softmax(1), largest, x, y[:, 1:3], self.weight[1:]


OUTPUTS = ("out", "largest", "x_again", "view", "weight")


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return Sharing().eval()


@pytest.fixture(scope="module")
def bundle(module: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("aoti") / "sharing.edge"
    example = {"x": torch.randn(2, 6), "y": torch.randn(2, 6)}
    deploy.export(
        module,
        example,
        path,
        dimensions={"x": {0: "batch"}, "y": {0: "batch"}},
        ranges={"batch": Range(1, 64)},
        output_names=OUTPUTS,
        formats=["aotinductor"],
        thresholds=Thresholds(constant_outputs=("weight",)),
    )
    return path


def inputs(rows: int, seed: int = 0) -> dict[str, Array]:
    draw = np.random.default_rng(seed)
    return {name: draw.standard_normal((rows, 6), np.float32) for name in ("x", "y")}


def check(found: dict[str, Array], module: nn.Module, given: dict[str, Array]) -> None:
    with torch.no_grad():
        expected = module(*map(torch.tensor, given.values()))
    for name, tensor in zip(OUTPUTS, expected, strict=True):
        np.testing.assert_allclose(found[name], tensor.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_any_size_in_any_layout(bundle: Path, module: nn.Module) -> None:
    with open(bundle, "aotinductor", threads=1) as session:
        for rows in (1, 2, 7, 64):
            given = inputs(rows, seed=rows)
            check(session.run(given), module, given)
            turned = {name: np.asfortranarray(array) for name, array in given.items()}
            every_second = {name: array.repeat(2, 0)[::2] for name, array in given.items()}
            for other in (turned, every_second):
                check(session.run(other), module, given)


def test_other_sizes_are_refused_by_name(bundle: Path) -> None:
    with open(bundle, "aotinductor") as session:
        for wrong, message in (
            ({"y": np.ones((3, 6), np.float32)}, "dimension 'batch' is 2 in input 'x' but 3"),
            ({"x": np.ones((2, 5), np.float32)}, "axis 1 is 5, expected 6"),
            ({"x": np.ones((2, 6))}, "float64, expected float32"),
            (inputs(65), r"axis 0 is 65, expected batch in 1\.\.64"),
        ):
            with pytest.raises(InputError, match=message):
                session.run({**inputs(2), **wrong})


def test_outputs_are_the_callers(bundle: Path, module: nn.Module) -> None:
    with open(bundle, "aotinductor", threads=1) as session:
        for rows in (3, 3, 3):
            given = inputs(rows)
            kept = {name: array.copy() for name, array in given.items()}
            found = session.run(given)
            check(found, module, given)
            for array in found.values():
                array[...] = -1
            assert all(np.array_equal(kept[name], given[name]) for name in kept)


def test_threads(bundle: Path, module: nn.Module) -> None:
    before = torch.get_num_threads()
    with open(bundle, "aotinductor", threads=before + 1) as session:
        assert session.engine.threads == torch.get_num_threads() == before + 1
        assert (session.engine.backend, session.engine.device) == ("aotinductor", "cpu")
        assert session.engine.version == torch.__version__

        def call(index: int) -> None:
            given = inputs(1 + index % 5, seed=index)
            check(session.run(given), module, given)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(call, range(100)))
    assert torch.get_num_threads() == before
    with pytest.raises(EngineError, match="the session is closed"):
        session.run(inputs(1))


def test_two_bundles_at_once_are_two_libraries(bundle: Path, module: nn.Module) -> None:
    with open(bundle, "aotinductor") as one, open(bundle, "aotinductor") as other:
        for session in (one, other, one):
            check(session.run(inputs(2)), module, inputs(2))


def test_it_is_verified_in_a_child_and_leaves_no_file(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = Bundle.read(bundle)
    report = verify(found, limits=Limits(time_s=60))
    assert report.passed
    assert [each.backend for each in report.backends] == ["aotinductor"]
    rehearse(found, "aotinductor", [inputs(2)], Options(), Limits(time_s=60))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def unloadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any) -> None:
        raise AssertionError("it was loaded")

    monkeypatch.setattr(vars(torch._C)["_aoti"], "AOTIModelContainerRunnerCpu", load)


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize("what", ["cpu", "torch", "machine"])
def test_what_is_for_another_machine_is_named_and_not_loaded(
    what: str,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if what == "cpu":
        (tmp_path / "cpuinfo").write_text("flags : fpu sse sse2")
        monkeypatch.setattr(native_target, "_CPUINFO", tmp_path / "cpuinfo")
        reason = f"it was compiled for {best_level_at_export(bundle)}, and this CPU has no "
    elif what == "torch":
        release, _, _ = torch.__version__.partition("+")
        monkeypatch.setattr(torch, "__version__", "2.99.0+cpu")
        reason = f"it was compiled for torch {release}, and this is torch 2.99.0+cpu"
    else:
        monkeypatch.setattr("platform.machine", lambda: "aarch64")
        reason = "it was compiled for x86_64, and this machine is aarch64"
        monkeypatch.setattr(aotinductor, "MACHINES", ("aarch64",))
    with pytest.raises(BackendMissingError, match=r"model\.aoti cannot run here: ") as caught:
        open(bundle, "aotinductor")
    assert reason in caught.value.problem
    assert caught.value.remedy.startswith("export it again on this machine, or use another backe")
    (report,) = verify(Bundle.read(bundle)).backends
    assert report.outcome == "unusable"
    assert reason in (report.reason or "")
    assert main(["verify", str(bundle), "--backend", "aotinductor"]) == 3
    assert reason in capsys.readouterr().err


def best_level_at_export(bundle: Path) -> str:
    (artefact,) = Bundle.read(bundle).manifest.artefacts
    return str(artefact.details["instructions"])


def test_what_it_is_for_is_in_the_manifest(bundle: Path) -> None:
    (artefact,) = Bundle.read(bundle).manifest.artefacts
    assert artefact.stored.file == "model.aoti"
    assert artefact.proved
    assert artefact.details["machine"] == "x86_64"
    assert str(artefact.details["instructions"]).startswith(best_level())
    assert artefact.details["torch"] == torch.__version__.partition("+")[0]
    with unpacked(bundle / "model.aoti", "m") as library:
        assert (library.parent / CALLS).is_file()
        text = (library.parent / aotinductor.TARGET_FILE).read_text()
        assert NativeTarget.loads(text, "m").mismatch(torch.__version__) is None


@pytest.mark.usefixtures("unloadable")
def test_it_is_looked_at_and_not_loaded(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(bundle)]) == 0
    assert "aotinductor is native code for one kind of CPU" in capsys.readouterr().out


@pytest.mark.usefixtures("unloadable")
def test_what_is_not_the_packed_file_is_not_loaded(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.edge"
    shutil.copytree(bundle, copy)
    data = bytearray((copy / "model.aoti").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.aoti").write_bytes(data)
    with pytest.raises(IntegrityError, match="is not the file that was packed"):
        open(copy, "aotinductor")
    with pytest.raises(UsageError, match=r"bare \.aoti file, and loading one can run code"):
        open(copy / "model.aoti", "aotinductor")


def test_no_path_of_this_machine_is_inside(bundle: Path) -> None:
    data = (bundle / "model.aoti").read_bytes()
    for path in (bundle.parent, Path(torch.__file__).parent, Path.home(), Path.cwd()):
        assert str(path).encode() not in data


def test_torch_itself_opens_it(bundle: Path, module: nn.Module) -> None:
    with (bundle / "model.aoti").open("rb") as file:
        model = torch._inductor.aoti_load_package(file)
    found = model(*map(torch.tensor, inputs(5).values()))
    check({n: t.detach().numpy() for n, t in zip(OUTPUTS, found, strict=True)}, module, inputs(5))


def test_another_signature_or_device_than_asked(bundle: Path) -> None:
    spec = TensorSpec("z", "float32", ("batch", 6))
    asked = Signature((spec,), (TensorSpec("o", "float32", ("batch",)),))
    with pytest.raises(ContractError, match="was asked for"):
        open_artefact(bundle / "model.aoti", "aotinductor", Options(signature=asked))
    with pytest.raises(UsageError, match="backend 'aotinductor' runs on cpu, not on cuda"):
        open(bundle, "aotinductor", device="cuda")


def test_a_library_that_torch_cannot_open(bundle: Path, tmp_path: Path) -> None:
    with unpacked(bundle / "model.aoti", "m") as library:
        shutil.copytree(library.parent, tmp_path / "m")
    broken = tmp_path / "m" / LIBRARY
    broken.write_bytes(b"no library" * 100)
    with pytest.raises(EngineError, match=r"torch cannot open .*: .*invalid ELF header"):
        open_artefact(broken, "aotinductor")
    (tmp_path / "m" / EXTRA_FILE).unlink()
    with pytest.raises(FormatError, match=r"has no edgeport\.signature\.json"):
        open_artefact(broken, "aotinductor")
    package = tmp_path / "x.aoti"
    package.write_bytes(b"no package")
    with pytest.raises(FormatError, match="is no package of edgeport: it is no zip file"):
        open_artefact(package, "aotinductor")


@pytest.mark.parametrize(
    ("message", "missing"),
    [
        ("libc.so.6: version `GLIBC_2.99' not found (required by x)", "`GLIBC_2.99' not found"),
        ("x: undefined symbol: aoti_torch_cpu_new", "undefined symbol: aoti_torch_cpu_new"),
    ],
)
def test_a_library_of_a_newer_system(
    message: str, missing: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> None:
        raise RuntimeError(f"Error in dlopen: {message}\nException raised from")

    monkeypatch.setattr(vars(torch._C)["_aoti"], "AOTIModelContainerRunnerCpu", load)
    with pytest.raises(BackendMissingError, match="linked with newer libraries") as caught:
        open(bundle, "aotinductor")
    assert missing in caught.value.problem


def test_on_which_machines_it_is_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe("aotinductor").usable
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    found = probe("aotinductor")
    assert not found.usable
    assert found.reason == "it is for x86_64, and this machine is riscv64"
    assert found.remedy == "use another backend: ort-cpu"
