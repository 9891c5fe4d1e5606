"""Engines for carried bundles: TensorRT-RTX builds them without a GPU."""

from pathlib import Path

import pytest

from edgeport.gpu_check import engines
from edgeport.gpu_check.engines import _options, add_engine
from edgeport.runtimes import BackendMissingError, Bundle
from edgeport.runtimes.cuda.gpus import Gpus
from edgeport.runtimes.tensorrt.library import load


@pytest.mark.usefixtures("rtx")
def test_an_engine_is_added_to_a_copy(packed: Path, tmp_path: Path) -> None:
    before = (packed / "manifest.json").read_bytes()
    copy = tmp_path / "copy.edge"
    found = add_engine(packed, "tensorrt-rtx", copy)
    assert found["refused"] is None
    assert found["size_bytes"] > 1000
    assert (packed / "manifest.json").read_bytes() == before
    bundle = Bundle.read(copy)
    bundle.check_files()
    assert "tensorrt-rtx" in bundle.backends
    assert not bundle.artefact("tensorrt-rtx").proved
    again = add_engine(packed, "tensorrt-rtx", copy)
    assert again["refused"] is None
    assert [a.format for a in Bundle.read(copy).manifest.artefacts].count("tensorrt-rtx") == 1


def test_a_library_that_is_not_there_is_named(packed: Path, tmp_path: Path) -> None:
    try:
        load("tensorrt")
    except BackendMissingError:
        with pytest.raises(BackendMissingError, match="TensorRT is not installed"):
            add_engine(packed, "tensorrt", tmp_path / "copy.edge")
    else:
        pytest.skip("TensorRT is installed")


@pytest.mark.usefixtures("rtx")
def test_an_engine_is_for_the_gpu_that_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Gpus((13, 0), ("H100", "RTX 4090", "T4"), ("9.0", "8.9", "7.5"))
    monkeypatch.setattr(engines, "gpus", lambda: found)
    assert _options("tensorrt-rtx", 1).compute_capabilities == ("8.9",)
    assert _options("tensorrt-rtx", 2).compute_capabilities == ("7.5",)
    with pytest.raises(
        BackendMissingError,
        match=r"has nothing for compute capability 9\.0, which H100 has\n  fix: u",
    ):
        _options("tensorrt-rtx", 0)
