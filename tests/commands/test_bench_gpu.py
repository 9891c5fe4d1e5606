from dataclasses import replace

import numpy as np

from edgeport.commands.bench_gpu import card_text, state
from edgeport.runtimes.bench.gpu import Card, GpuRound, GpuUse
from edgeport.runtimes.cuda.nvml import Gpu, GpuReading

GPU = Gpu("A card <1>", "GPU-1", "0:1", "580.1", "13.0", "8.6", 8 << 30, 150_000, 1800, 7000,
          divided=False)  # fmt: skip
BUSY = GpuReading(1700, 7000, ("power cap",), False, 90_400, 55, 1 << 30, 1 << 28, 0)
UNKNOWN = GpuReading(None, None, None, None, None, None, None, None, None)


def use(*readings: GpuReading) -> GpuUse:
    rounds = tuple(GpuRound(UNKNOWN, reading, None) for reading in readings)
    return GpuUse(Card(GPU), (rounds,), 2500.0, np.array([[10_000, 70_000, 5_000, 100_000]]))


def test_a_card_in_a_line() -> None:
    assert card_text(GPU) == (
        "A card <1>, compute capability 8.6, 8.0 GiB, at most 150 W, driver 580.1, CUDA up to 13.0"
    )
    assert card_text(None) == "a GPU that NVML does not tell of"
    bare = replace(GPU, memory_bytes=None, power_limit_mw=None, driver=None)
    assert "driver unavailable" in card_text(bare)


def test_the_state_is_a_range_with_its_unit() -> None:
    cooler = replace(BUSY, sm_clock_mhz=1650, temperature_c=50, slowed_by=())
    assert state(use(BUSY, cooler)) == [
        "1,650 to 1,700 MHz", "7,000 MHz", "power cap", "90.4 W", "50 to 55 °C", "256.0 MiB",
        "2.5 mJ",
    ]  # fmt: skip
    shared = replace(BUSY, process_bytes=None, slowed_by=())
    assert state(use(shared))[2::3] == ["nothing", "1.0 GiB of all processes"]


def test_what_is_not_told_is_unavailable_and_never_zero() -> None:
    unknown = replace(use(UNKNOWN), energy_uj_per_call=None)
    assert state(unknown) == ["unavailable"] * 7
