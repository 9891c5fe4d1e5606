"""The checks of ``scripts/gpu-check`` on a few modules of the zoo: ``pytest -m gpu``."""

import json
from pathlib import Path

import pytest
import zoo

from edgeport import deploy
from edgeport.gpu_check.__main__ import CheckArgs, run
from edgeport.gpu_check.machine import Machine, look
from edgeport.gpu_check.work import sweep_of
from edgeport.runtimes import BackendMissingError, Bundle
from edgeport.runtimes.bench import benchmark
from edgeport.runtimes.nvml import Watch

pytestmark = pytest.mark.gpu

MODULES = ("convnet", "text encoder", "lstm with state", "no free dimension")


@pytest.fixture(scope="module")
def machine() -> Machine:
    try:
        return look("cuda:0")
    except BackendMissingError as e:
        pytest.skip(e.problem.splitlines()[0])


@pytest.fixture(scope="module")
def models(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in MODULES:
        entry = zoo.ZOO[name]
        path = folder / f"{name.replace(' ', '-')}.edge"
        deploy.export(zoo.make(name), zoo.inputs(name), path, dimensions=entry.dimensions,
                      ranges=entry.ranges)  # fmt: skip
    return folder


def test_nvml_tells_of_the_gpu_that_cuda_uses(machine: Machine) -> None:
    watch = Watch(machine.device)
    assert machine.cuda is not None
    assert watch.gpu.name in machine.cuda
    assert watch.gpu.compute_capability is not None
    reading = watch.read()
    assert reading.used_bytes is not None
    assert reading.temperature_c is None or 0 < reading.temperature_c < 120


def test_everything_that_can_be_checked_passes(models: Path, tmp_path: Path) -> None:
    code = run(CheckArgs(models, tmp_path, 4.0, "cuda:0"))
    told = json.loads((tmp_path / "gpu-report.json").read_text())
    failed = [row for row in told["rows"] if row["status"] == "fail"]
    assert not failed
    assert code == 0
    for row in told["rows"]:
        if row["stage"] == "parity" and row["status"] == "pass":
            assert row["figures"]["engine"]["device"] == "cuda:0"
            assert row["figures"]["repeats"]["runs"] == 20


def test_a_benchmark_tells_what_the_gpu_did(machine: Machine, models: Path) -> None:
    bundle = Bundle.read(models / "no-free-dimension.edge")
    backends = tuple(b for b in bundle.backends if b in machine.usable)
    result = benchmark([bundle], sweep_of(bundle, backends, machine.device), budget_s=5)
    for variant in result.variants:
        assert variant.engine.device == "cuda:0"
        assert variant.gpu is not None
        assert variant.gpu.card.gpu is None or variant.gpu.readings
        assert (variant.gpu.parts_ns is None) is variant.engine_only
        if variant.gpu.parts_ns is None:
            continue
        device_ns, wall_ns = variant.gpu.parts_ns[:, :3].sum(1), variant.gpu.parts_ns[:, 3]
        assert (variant.gpu.parts_ns >= 0).all()
        assert (device_ns <= 1.05 * wall_ns + 5_000).all()  # events have a resolution of 0.5 us
