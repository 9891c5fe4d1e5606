"""Which device was meant, and what is said where there is none."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes import Options, UsageError
from edgeport.runtimes.devices import check_device, cuda_index, device_kind, no_such_gpu
from edgeport.runtimes.session import BACKENDS, require_device


@pytest.mark.parametrize(
    "device", ["gpu", "cuda:x", "cuda:-1", "-1", "0", "", "CUDA", "cuda:", "cpu:0", "cuda:0\n"]
)
def test_what_is_no_device(device: str) -> None:
    for refuses in (check_device, lambda name: Options(device=name)):
        with pytest.raises(UsageError, match=re.escape(f"there is no device {device!r}\n  fix: ")):
            refuses(device)


@given(st.integers(0, 9999))
def test_a_gpu_has_a_number(index: int) -> None:
    check_device(f"cuda:{index}")
    assert cuda_index(f"cuda:{index}") == index
    assert device_kind(f"cuda:{index}") == "cuda"


def test_none_is_the_backends_own() -> None:
    for name in BACKENDS:
        require_device(name, None)
    assert cuda_index(None) == cuda_index("cuda") == 0
    assert Options().device is None


def test_a_backend_says_which_devices_it_has() -> None:
    problem = "backend 'ort-cpu' runs on cpu, not on cuda:1\n  fix: leave the device out, or use .*"
    with pytest.raises(UsageError, match=f"{problem}libtorch or torch"):
        require_device("ort-cpu", "cuda:1")
    with pytest.raises(UsageError, match="backend 'null' runs on no device, not on cpu"):
        require_device("null", "cpu")


@pytest.mark.parametrize(
    ("count", "there"), [(0, "none"), (1, "one, cuda:0"), (4, "4, cuda:0 to cuda:3")]
)
def test_a_gpu_that_is_not_there(count: int, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = no_such_gpu(7, count)
    assert found.problem == (
        f"there is no cuda:7: of the GPUs that may be used here there is {there}"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert no_such_gpu(7, count).problem == f"{found.problem} (CUDA_VISIBLE_DEVICES is '1')"
    assert found.exit_code == 3
