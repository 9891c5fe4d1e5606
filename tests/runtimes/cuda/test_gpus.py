"""What the driver says, without starting CUDA in the process that asks."""

import ctypes
import json

import pytest

from edgeport.runtimes import BackendMissingError
from edgeport.runtimes.cuda.driver import LIBRARIES
from edgeport.runtimes.cuda.gpus import Gpus, _read, gpus


def _driver() -> bool:
    try:
        ctypes.CDLL(LIBRARIES[0])
    except OSError:
        return False
    return True


@pytest.mark.skipif(_driver(), reason="this machine has an NVIDIA driver")
def test_a_machine_without_a_driver() -> None:
    for _ in range(2):  # a failure is not remembered as an answer
        with pytest.raises(
            BackendMissingError, match="a GPU is needed, and no NVIDIA driver is in"
        ):
            gpus()


def test_what_the_child_says() -> None:
    told = json.loads(
        json.dumps({"cuda": (13, 0), "names": ("A", "B"), "capabilities": ("8.6", "9.0")})
    )
    assert _read(told) == Gpus((13, 0), ("A", "B"), ("8.6", "9.0"))
    with pytest.raises(BackendMissingError, match=r"^no GPU\n  fix: get one$"):
        _read({"error": "BackendMissingError", "problem": "no GPU", "remedy": "get one"})


@pytest.mark.gpu
def test_the_gpus_of_this_machine() -> None:
    try:
        found = gpus()
    except BackendMissingError as e:
        pytest.skip(e.problem)
    assert found.names
    assert found.cuda >= (11, 0)
