"""What a GPU is and how it is doing: clocks, power, temperature, memory, who else computes on it.

Everything is NVIDIA's management library's (https://docs.nvidia.com/deploy/nvml-api/), which comes
with the driver. It can't tell everything on every GPU, nor inside every container: what it does
not tell is ``None``, and never a zero.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from edgeport.runtimes.errors import BackendMissingError

from .device import device as cuda_device

T = TypeVar("T")

SLOWING: Final = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x10: "clocks in step with another GPU",
    0x20: "too hot for the driver",
    0x40: "too hot for the hardware",
    0x80: "power brake",
}
"""Reasons for which a GPU runs below the clock that it was asked for, by bit (nvml.h,
``nvmlClocksEventReason*``). Idle, and clocks that somebody set, are none."""

SET_BY_HAND: Final = 0x02 | 0x100
"""Bits of clocks that were set: for applications, or by a display."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a GPU is.

    Attributes:
        name: As its maker calls it.
        uuid: Of this very card.
        bus_id: Where it is plugged in.
        driver: Version of the kernel's driver.
        cuda: The newest CUDA that the driver knows.
        compute_capability: ``"8.6"``; it decides which kernels an engine takes.
        memory_bytes: Of the card.
        power_limit_mw: What it may draw.
        max_sm_clock_mhz: Of its multiprocessors.
        max_memory_clock_mhz: Of its memory.
        divided: Whether it is split into instances (MIG), of which this process sees one.
    """

    name: str
    uuid: str
    bus_id: str
    driver: str | None
    cuda: str | None
    compute_capability: str | None
    memory_bytes: int | None
    power_limit_mw: int | None
    max_sm_clock_mhz: int | None
    max_memory_clock_mhz: int | None
    divided: bool


@dataclass(frozen=True, slots=True)
class GpuReading:
    """How a GPU is doing at a moment.

    Attributes:
        sm_clock_mhz: Of its multiprocessors.
        memory_clock_mhz: Of its memory.
        slowed_by: Of ``SLOWING``, what holds its clock back.
        set_by_hand: Whether somebody set its clocks.
        power_mw: The whole card's; on newer ones the mean of the last second.
        temperature_c: Of the chip.
        used_bytes: Of its memory, by everybody.
        process_bytes: By this process; ``None`` where processes can't be told apart.
        others: Processes that compute on it and are not of this benchmark; ``None`` where they
            can't be told apart, as in most containers.
    """

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    slowed_by: tuple[str, ...] | None
    set_by_hand: bool | None
    power_mw: int | None
    temperature_c: int | None
    used_bytes: int | None
    process_bytes: int | None
    others: int | None


class Watch:
    """Looks at one GPU. A reading takes milliseconds, and is no part of anything timed.

    Args:
        device: As ``Options`` and ``EngineInfo`` name it: ``"cuda"`` or ``"cuda:1"``.

    Raises:
        BackendMissingError: NVML or the driver is not there, or knows no such GPU.
        EngineError: CUDA cannot be used in this process.
    """

    def __init__(self, device: str) -> None:
        nvml = self._nvml = _library()
        bus_id = cuda_device(int(device.partition(":")[2] or 0)).pci_bus_id  # NVML counts otherwise
        try:
            self._handle = nvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode())
            name = nvml.nvmlDeviceGetName(self._handle)
            uuid = nvml.nvmlDeviceGetUUID(self._handle)
        except nvml.NVMLError as e:
            raise BackendMissingError(
                f"NVML does not know the GPU at {bus_id}: {e}",
                remedy="nvidia-smi tells whether the driver knows it",
            ) from e
        self.gpu = self._described(name, uuid, bus_id)

    def read(self) -> GpuReading:
        """Look now."""
        nvml, handle = self._nvml, self._handle
        reasons = self._told(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
        used = self._told(nvml.nvmlDeviceGetMemoryInfo, handle)
        process_bytes, others = self._processes()
        return GpuReading(
            sm_clock_mhz=self._told(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
            memory_clock_mhz=self._told(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
            slowed_by=None if reasons is None else slowing(reasons),
            set_by_hand=None if reasons is None else bool(reasons & SET_BY_HAND),
            power_mw=self._told(nvml.nvmlDeviceGetPowerUsage, handle),
            temperature_c=self._told(
                nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU
            ),
            used_bytes=None if used is None else int(used.used),
            process_bytes=process_bytes,
            others=others,
        )

    def energy_mj(self) -> int | None:
        """Of the whole card since the driver was loaded; updated some ten times a second."""
        return self._told(self._nvml.nvmlDeviceGetTotalEnergyConsumption, self._handle)

    def _described(self, name: str, uuid: str, bus_id: str) -> Gpu:
        nvml, handle = self._nvml, self._handle
        capability = self._told(nvml.nvmlDeviceGetCudaComputeCapability, handle)
        cuda = self._told(nvml.nvmlSystemGetCudaDriverVersion_v2)
        memory = self._told(nvml.nvmlDeviceGetMemoryInfo, handle)
        mode = self._told(nvml.nvmlDeviceGetMigMode, handle)
        return Gpu(
            name=name,
            uuid=uuid,
            bus_id=bus_id,
            driver=self._told(nvml.nvmlSystemGetDriverVersion),
            cuda=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            compute_capability=None if capability is None else "{}.{}".format(*capability),
            memory_bytes=None if memory is None else int(memory.total),
            power_limit_mw=self._told(nvml.nvmlDeviceGetEnforcedPowerLimit, handle),
            max_sm_clock_mhz=self._told(nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_SM),
            max_memory_clock_mhz=self._told(
                nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_MEM
            ),
            divided=mode is not None and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE,
        )

    def _processes(self) -> tuple[int | None, int | None]:
        """What this process holds, and how many others there are.

        The driver counts processes as the host does. In a container with numbers of its own this
        process is not among them, and nobody can be told from anybody.
        """
        told = self._told(self._nvml.nvmlDeviceGetComputeRunningProcesses, self._handle) or []
        held = {int(each.pid): each.usedGpuMemory for each in told}
        if (own := os.getpid()) not in held:
            return None, None
        return held[own], sum(not _is_of_us(pid) for pid in held)

    def _told(self, ask: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return ask(*arguments)
        except self._nvml.NVMLError:  # not on this GPU, not to this user, not by this driver
            return None


def slowing(reasons: int) -> tuple[str, ...]:
    """The names of what holds a clock back.

    Args:
        reasons: Bits, as NVML tells them.

    Examples:
        >>> slowing(0x01), slowing(0x24)
        ((), ('power cap', 'too hot for the driver'))
    """
    return tuple(name for bit, name in SLOWING.items() if reasons & bit)


def _library() -> ModuleType:
    try:
        import pynvml
    except ModuleNotFoundError as e:
        raise BackendMissingError(
            "NVML's Python binding is not installed",
            remedy="pip install 'edgeport[cuda]'",
        ) from e
    try:
        pynvml.nvmlInit()  # counted: once more for every watch is cheap, and safe
    except pynvml.NVMLError as e:
        raise BackendMissingError(
            f"NVML cannot be used: {e}",
            remedy="it comes with NVIDIA's driver; install that, or start the container with "
            "--gpus all",
        ) from e
    library: ModuleType = pynvml
    return library


def _is_of_us(pid: int) -> bool:
    """Whether it is this process, or one that the same process started."""
    if pid == os.getpid():
        return True
    try:
        told = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except (OSError, ValueError):
        return False
    return int(told.rpartition(")")[2].split()[1]) == os.getppid()  # pid (name) state parent ...
