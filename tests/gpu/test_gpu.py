"""The checks of ``scripts/gpu-check`` on a few modules of the zoo: ``pytest -m gpu``."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgeport.gpu_check.__main__ import CheckArgs, run
from edgeport.gpu_check.machine import Machine, look
from edgeport.gpu_check.work import sweep_of
from edgeport.runtimes import BackendMissingError, Bundle, ContractError, open, probe
from edgeport.runtimes.bench import benchmark
from edgeport.runtimes.cuda.nvml import Watch
from edgeport.runtimes.devices import GpuOptions
from scripts.export_zoo import NARROW, export_entry

pytestmark = pytest.mark.gpu

MODULES = ("convnet", "text encoder", "lstm with state", "no free dimension", "wide mlp")


@pytest.fixture(scope="module")
def machine() -> Machine:
    try:
        return look("cuda:0")
    except BackendMissingError as e:
        pytest.skip(e.problem.splitlines()[0])


@pytest.fixture(scope="module")
def models(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in (*MODULES, *NARROW):
        assert export_entry(name, folder / f"{name.replace(' ', '-')}.edge") is None
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
    code = run(CheckArgs(models, tmp_path, 3.0, "cuda:0"))
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


@pytest.fixture
def ort_cuda(machine: Machine) -> None:
    found = probe("ort-cuda")
    if not found.usable:
        pytest.skip(str(found.reason))


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("convnet-float16", "float16"),
        ("lstm-float16", "float16"),
        ("patch-transformer-float16", "float16"),
        ("wide-mlp-float16", "float16"),
        ("convnet-int8", "int8"),
        ("convnet-int8-for-tensorrt", "int8"),
    ],
)
@pytest.mark.usefixtures("ort_cuda")
def test_a_narrower_file_is_computed_on_the_gpu_alone(
    models: Path, name: str, precision: str
) -> None:
    sample = Bundle.read(models / f"{name}.edge").golden()[0]
    for tf32 in (False, True):  # which rounds float32 alone
        with open(models / f"{name}.edge", device="cuda:0", gpu=GpuOptions(tf32=tf32)) as session:
            assert session.engine.precision == precision
            assert session.engine.cpu_nodes == ()
            answer = session.run(sample.inputs)
    for output, array in answer.items():
        far = np.abs(array - sample.eager[output]).max() / np.abs(sample.eager[output]).max()
        assert far < {"float16": 0.01, "int8": 0.1}[precision]


@pytest.mark.usefixtures("ort_cuda")
def test_ranges_that_each_call_measures_are_the_cpus(models: Path) -> None:
    with pytest.raises(ContractError, match=r"it has no kernel for .* DynamicQuantize"):
        open(models / "mlp-int8.edge", device="cuda:0")
    allowed = GpuOptions(allow_cpu_nodes=True)
    with open(models / "mlp-int8.edge", device="cuda:0", gpu=allowed) as session:
        assert session.engine.precision == "int8"
        assert any("DynamicQuantize" in node for node in session.engine.cpu_nodes)


@pytest.mark.usefixtures("ort_cuda")
def test_large_weights_that_are_shown_where_they_lie(models: Path) -> None:
    bundle = Bundle.read(models / "wide-mlp.edge")
    sample = bundle.golden()[0]
    with bundle.open("ort-cuda") as session:
        answer = session.run(sample.inputs)["output"]
        np.testing.assert_allclose(answer, sample.eager["output"], rtol=1e-3, atol=1e-4)
