"""Opening an engine where that cannot work: each reason by name."""

from pathlib import Path

import pytest

from edgeport.runtimes import BackendMissingError, ContractError, Options, UsageError, probe
from edgeport.runtimes.cuda import driver
from edgeport.runtimes.cuda.gpus import gpus
from edgeport.runtimes.devices import GpuOptions
from edgeport.runtimes.session import BACKENDS, open_artefact
from edgeport.runtimes.tensorrt.library import Library, lacks, load


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "m.rtx"
    path.write_bytes(b"engine")
    return path


@pytest.fixture
def installed(name: str) -> None:
    try:
        load(name)
    except BackendMissingError as e:
        pytest.skip(e.problem)


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LIBRARIES", ("libcuda-of-nobody.so.1",))
    driver._started.cache_clear()


@pytest.mark.usefixtures("installed", "no_driver")
def test_a_machine_without_a_gpu(name: str, path: Path) -> None:
    with pytest.raises(
        BackendMissingError,
        match=r"^TensorRT\S* \S+ cannot open \S+m\.rtx: a GPU is needed, and no NVIDIA driver is "
        r"installed here: .*\n  fix: use a machine with an NVIDIA GPU",
    ):
        open_artefact(path, name)


@pytest.mark.usefixtures("installed", "no_driver")
def test_the_name_is_the_one_that_a_bundle_gives(name: str, path: Path) -> None:
    with pytest.raises(BackendMissingError, match=r"cannot open digits\.edge/model\.rtx: "):
        open_artefact(path, name, Options(name="digits.edge/model.rtx"))


@pytest.mark.usefixtures("installed")
def test_what_an_engine_cannot_be_told(name: str, path: Path) -> None:
    with pytest.raises(UsageError, match=f"^backend '{name}' cannot be told how its idle threads"):
        open_artefact(path, name, Options(spinning=False))


def test_it_never_runs_on_the_cpu(name: str, path: Path) -> None:
    with pytest.raises(UsageError, match=f"^backend '{name}' runs on cuda, not on cpu"):
        open_artefact(path, name, Options(device="cpu"))


def test_each_has_its_own_files(name: str) -> None:
    assert BACKENDS[name].format == name


def test_probing_never_fails(name: str) -> None:
    found = probe(name)
    assert found.usable or (found.reason and found.remedy)


def test_a_gpu_that_a_library_is_not_for(rtx: Library) -> None:
    assert [lacks(rtx, each) for each in ("7.5", "8.9", "9.0", "12.0")] == [
        False,
        False,
        True,
        False,
    ]


@pytest.mark.usefixtures("installed", "no_driver")
def test_what_a_probe_says_without_a_driver(name: str) -> None:
    gpus.cache_clear()
    found = probe(name)
    assert not found.usable
    assert found.version
    assert found.reason is not None
    assert found.reason.startswith("a GPU is needed, and no NVIDIA driver is installed here")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("asked", [GpuOptions(tf32=True), GpuOptions(memory_bytes=2**30)])
def test_what_was_settled_when_the_engine_was_built(
    name: str, path: Path, asked: GpuOptions
) -> None:
    with pytest.raises(UsageError, match=r"settled when the engine was built\n  fix: leave tf32"):
        open_artefact(path, name, Options(gpu=asked))


@pytest.mark.usefixtures("installed")
def test_an_environment_that_rounds(name: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    with pytest.raises(ContractError, match=r"NVIDIA_TF32_OVERRIDE makes it TF32"):
        open_artefact(path, name)
