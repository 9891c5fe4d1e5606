import ast
import inspect
import os
import subprocess
import sys

import pynvml
import pytest

from edgeport.runtimes import BackendMissingError
from edgeport.runtimes.cuda import nvml


@pytest.mark.usefixtures("no_gpu")
def test_a_machine_without_a_driver_is_told_so() -> None:
    with pytest.raises(BackendMissingError, match=r"NVML cannot be used: .*Not Found") as e:
        nvml.Watch("cuda:0")
    assert "NVIDIA's driver" in e.value.remedy


def test_a_missing_binding_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(BackendMissingError, match="NVML's Python binding is not installed") as e:
        nvml.Watch("cuda:0")
    assert e.value.remedy == "pip install 'edgeport[cuda]'"


def test_every_call_that_is_made_is_in_the_binding() -> None:
    tree = ast.parse(inspect.getsource(nvml))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.lower().startswith("nvml")
    } - {"_nvml"}
    assert len(used) > 20
    assert not [name for name in used if not hasattr(pynvml, name)]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("nvmlDeviceGetHandleByPciBusId", 1),
        ("nvmlDeviceGetClockInfo", 2),
        ("nvmlDeviceGetMaxClockInfo", 2),
        ("nvmlDeviceGetTemperature", 2),
        ("nvmlDeviceGetCurrentClocksThrottleReasons", 1),
        ("nvmlDeviceGetComputeRunningProcesses", 1),
        ("nvmlDeviceGetTotalEnergyConsumption", 1),
        ("nvmlDeviceGetMigMode", 1),
    ],
)
def test_its_calls_take_what_they_are_given(name: str, arguments: int) -> None:
    inspect.signature(getattr(pynvml, name)).bind(*range(arguments))


def test_the_bits_are_those_of_nvml() -> None:
    known = {
        "power cap": pynvml.nvmlClocksEventReasonSwPowerCap,
        "hardware slowdown": pynvml.nvmlClocksThrottleReasonHwSlowdown,
        "clocks in step with another GPU": pynvml.nvmlClocksEventReasonSyncBoost,
        "too hot for the driver": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
        "too hot for the hardware": pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
        "power brake": pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
    }
    assert {name: bit for bit, name in nvml.SLOWING.items()} == known
    by_hand = pynvml.nvmlClocksEventReasonApplicationsClocksSetting
    assert by_hand | pynvml.nvmlClocksEventReasonDisplayClockSetting == nvml.SET_BY_HAND
    assert nvml.slowing(pynvml.nvmlClocksEventReasonGpuIdle | by_hand) == ()


def test_this_process_and_its_siblings_are_of_us() -> None:
    sibling = (
        "import os, sys\n"
        "from edgeport.runtimes.cuda.nvml import _is_of_us\n"
        "print(*(_is_of_us(pid) for pid in (os.getpid(), int(sys.argv[1]), 1)))"
    )
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        command = [sys.executable, "-c", sibling, str(other.pid)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert said[:2] == ["True", "True"]
    assert said[2] == str(os.getppid() == 1 and os.getpid() == 1)


def test_bench_and_runtimes_do_not_import_it() -> None:
    code = "import sys, edgeport.runtimes.bench; print('pynvml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
