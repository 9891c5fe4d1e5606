"""What is made of readings. No GPU is imitated: a session on the CPU has none to read."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeport.runtimes import Bundle, EngineInfo, Signature
from edgeport.runtimes.bench.doubts import of_gpu
from edgeport.runtimes.bench.gpu import (
    ENERGY_NS,
    Card,
    Gauge,
    GpuRound,
    GpuUse,
    energy_uj_per_call,
    gpu_round,
    timed_parts,
)
from edgeport.runtimes.cuda.nvml import Gpu, GpuReading
from edgeport.runtimes.formats.records import to_json
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.session import Closes
from edgeport.runtimes.timed_parts import Parts

CARD = Card(Gpu("A card", "GPU-1", "0:1", "580.1", "13.0", "8.6", 8 << 30, 150_000, 1800, 7000,
                divided=False))  # fmt: skip
CALM = GpuReading(1700, 7000, (), False, 90_000, 55, 1 << 30, 1 << 28, 0)


def use(*readings: GpuReading, card: Card = CARD) -> GpuUse:
    rounds = tuple(GpuRound(CALM, reading, None) for reading in readings)
    return GpuUse(card, (rounds,), None, None)


def test_a_calm_gpu_gives_no_doubt() -> None:
    assert of_gpu(None) == of_gpu(use(CALM, CALM)) == ()
    assert of_gpu(use(CALM, replace(CALM, set_by_hand=True))) == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"slowed_by": ("power cap", "too hot for the driver")},
            "the GPU held its clock back at the end of 50% of the rounds: power cap, too hot for "
            "the driver",
        ),
        (
            {"sm_clock_mhz": 1400},
            "the GPU's clock was between 1,400 and 1,700 MHz; for figures that repeat, fix it: "
            "nvidia-smi -lgc",
        ),
        ({"others": 1}, "1 other process computed on the GPU meanwhile"),
        ({"others": 2}, "2 other processes computed on the GPU meanwhile"),
    ],
)
def test_what_disturbs_is_told(changes: Mapping[str, object], told: str) -> None:
    assert of_gpu(use(CALM, replace(CALM, **changes))) == (told,)  # type: ignore[arg-type]


def test_what_cannot_be_seen_is_told() -> None:
    assert of_gpu(use(replace(CALM, others=None))) == (
        "whether others compute on the GPU cannot be seen from here (a container?)",
    )
    assert of_gpu(use(card=Card(None, "NVML is not there"))) == (
        "the GPU's clocks, power and temperature are not known: NVML is not there",
    )
    assert CARD.gpu is not None
    (told,) = of_gpu(use(CALM, card=Card(replace(CARD.gpu, divided=True))))
    assert "split into instances" in told
    unknown = GpuReading(None, None, None, None, None, None, None, None, 0)
    assert of_gpu(use(unknown)) == ()


def test_energy_is_told_of_enough_time_only() -> None:
    rounds = [[GpuRound(CALM, CALM, 40), GpuRound(CALM, CALM, 60)]]
    assert energy_uj_per_call(rounds, ENERGY_NS, 50) == 2000
    assert energy_uj_per_call(rounds, ENERGY_NS - 1, 50) is None
    assert energy_uj_per_call([[*rounds[0], GpuRound(CALM, CALM, None)]], ENERGY_NS, 50) is None
    assert energy_uj_per_call([], ENERGY_NS, 0) is None


def test_a_round_has_both_ends_or_is_none() -> None:
    assert gpu_round(None, CALM, (1, 2)) is None
    assert gpu_round(CALM, CALM, (5, 12)) == GpuRound(CALM, CALM, 7)
    assert gpu_round(CALM, CALM, (None, 12)) == GpuRound(CALM, CALM, None)


def test_a_session_on_the_cpu_has_no_gpu_and_no_parts(packed: Path) -> None:
    bundle = Bundle.read(packed)
    with bundle.open("ort-cpu") as session:
        gauge = Gauge(session)
        assert (gauge.card, gauge.read(), gauge.energy_mj()) == (None, None, None)
        assert timed_parts(session, bundle.golden()[0].inputs, 100) is None


class Parted(Closes):
    """A session that can tell its parts."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.engine = EngineInfo("a", "b", "1", "p", "cpu", "float32", 1)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        raise AssertionError("the timed calls are not these")

    def timed_parts(self, inputs: Mapping[str, Array]) -> Parts:
        return Parts(10, 100, 5)


@pytest.mark.parametrize(("calls", "rows"), [(1, 1), (9, 1), (100, 10)])
def test_parts_are_asked_of_a_tenth_of_the_calls(
    signature: Signature, calls: int, rows: int
) -> None:
    found = timed_parts(Parted(signature), {}, calls)
    assert found is not None
    assert found.shape == (rows, 4)
    assert found[:, :3].tolist() == [[10, 100, 5]] * rows
    assert (found[:, 3] > 0).all()


def test_it_is_json() -> None:
    found = replace(use(CALM), parts_ns=np.array([[1, 2, 3, 9]]))
    told = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert told["card"]["gpu"]["compute_capability"] == "8.6"
    assert told["rounds"][0][0]["after"]["power_mw"] == 90_000
    assert told["parts_ns"] == [[1, 2, 3, 9]]
