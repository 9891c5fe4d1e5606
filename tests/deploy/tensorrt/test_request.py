"""Options of an engine that make no sense are refused before anything is compiled."""

import pytest

from edgeport import deploy
from edgeport.deploy.tensorrt.request import capabilities, engines, target_of
from edgeport.runtimes import BackendMissingError, EdgeportError, UsageError
from edgeport.runtimes.cuda import driver
from edgeport.runtimes.tensorrt import library
from edgeport.runtimes.tensorrt.library import load
from edgeport.runtimes.tensorrt.order import EngineOptions

RTX = ("tensorrt-rtx",)


@pytest.mark.parametrize(
    ("formats", "options", "problem", "remedy"),
    [
        (
            ("onnx",), EngineOptions(refit=True),
            "an option of TensorRT was given, and --format asks for no engine",
            "add one to --format: tensorrt or tensorrt-rtx",
        ),
        (
            ("tensorrt",), EngineOptions(("8.6",)),
            "--compute-capability is for --format tensorrt-rtx: TensorRT builds for the GPU that",
            "leave --compute-capability out",
        ),
        (
            RTX, EngineOptions(timing_cache="times"),
            "--timing-cache is for --format tensorrt: TensorRT-RTX measures nothing",
            "leave --timing-cache out",
        ),
        (
            RTX, EngineOptions(version_compatible=True),
            "--version-compatible is for --format tensorrt: TensorRT-RTX has no lean runtime",
            "leave --version-compatible out",
        ),
        (
            RTX, EngineOptions(hardware_compatible=True),
            "--hardware-compatible is for --format tensorrt: engines of TensorRT-RTX run on all",
            "leave --hardware-compatible out",
        ),
    ],
)  # fmt: skip  # as it reads
def test_an_option_of_another_library_is_refused(
    formats: tuple[str, ...], options: EngineOptions, problem: str, remedy: str
) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        engines(formats, options)
    assert remedy in caught.value.remedy
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("asked", ["9.0", "10.0", "8.7", "86", "SM86", ""])
def test_a_gpu_that_it_does_not_build_for_is_refused(rtx: library.Library, asked: str) -> None:
    problem = rf"{rtx} builds for no compute capability '{asked}'"
    with pytest.raises(UsageError, match=problem) as caught:
        engines(RTX, EngineOptions(("8.6", asked)))
    assert "7.5, 8.0, 8.6, 8.9, 12.0, 12.1" in caught.value.remedy


def test_a_gpu_that_is_named_twice_is_refused(rtx: library.Library) -> None:
    assert capabilities(rtx.module)[0] == "7.5"
    with pytest.raises(UsageError, match=r"the compute capabilities 8\.6, 8\.6 name one twice"):
        engines(RTX, EngineOptions(("8.6", "8.6")))


def test_each_library_gets_what_is_for_it(rtx: library.Library) -> None:
    options = EngineOptions(("8.6",), workspace_bytes=2**20)
    assert engines(("onnx", *RTX), options) == {rtx: options}
    assert engines(("onnx",), EngineOptions()) == {}


@pytest.mark.usefixtures("rtx")
def test_weights_that_can_be_exchanged_need_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LIBRARIES", ("libcuda-of-nobody.so.1",))
    driver._started.cache_clear()
    with pytest.raises(BackendMissingError, match="needs an NVIDIA GPU to build an engine whose"):
        engines(RTX, EngineOptions(refit=True))


def test_tensorrt_that_is_missing_is_told_with_what_to_install() -> None:
    try:
        load("tensorrt")
    except BackendMissingError:
        pass
    else:
        pytest.skip("TensorRT is installed here")
    with pytest.raises(EdgeportError, match="TensorRT is not installed") as caught:
        engines(("tensorrt",), EngineOptions())
    assert "pip install 'edgeport[tensorrt]'" in caught.value.remedy
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("name", "version", "target"),
    [
        ("tensorrt", "10.13.3.9", "tensorrt-10"),
        ("tensorrt", "11.4.0.106", "tensorrt-11"),
        ("tensorrt", "12.0", "tensorrt-11"),
        ("tensorrt-rtx", "1.7.1.116", "tensorrt-rtx-1"),
    ],
)
def test_a_library_reads_what_its_target_says(
    name: library.Name, version: str, target: str
) -> None:
    found = library.Library(name, library.TITLES[name], version, None, None, library._Ear())
    assert target_of(found) == deploy.find_target(target)
