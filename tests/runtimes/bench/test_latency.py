"""Benchmarks of a bundle made by hand: one ONNX file and one null artefact."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from edgeport.runtimes import (
    BackendMissingError,
    Bundle,
    IntegrityError,
    Range,
    Signature,
    TensorSpec,
    UsageError,
)
from edgeport.runtimes.bench import benchmark
from edgeport.runtimes.bench.batch import batch_inputs
from edgeport.runtimes.golden import Golden, to_tensors
from edgeport.runtimes.manifest import Artefact, Kind, Manifest, StoredFile
from edgeport.runtimes.thresholds import Thresholds

Make = Callable[..., Bundle]

WEIGHT = np.arange(8, dtype=np.float32).reshape(4, 2)


def _onnx(rows: int | str) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 2])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10  # what every ONNX Runtime that we support reads
    return bytes(model.SerializeToString())


def _sample(kind: Kind, rows: int) -> Golden:
    x = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    return Golden(f"{kind}, batch={rows}", kind, {"x": x}, {"y": x @ WEIGHT}, {})


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a bundle whose backends are ort-cpu, null and what else is named."""

    def make(
        rows: int | str = "batch",
        samples: tuple[Golden, ...] = (_sample("edge", 1), _sample("real", 3)),
        more: tuple[str, ...] = (),
        ranges: dict[str, Range] | None = None,
    ) -> Bundle:
        x, y = TensorSpec("x", "float32", (rows, 4)), TensorSpec("y", "float32", (rows, 2))
        signature = Signature((x,), (y,), ranges or {})
        contents = {
            "model.onnx": _onnx(rows) if not ranges else b"never opened",
            "model.null": json.dumps(signature.to_json()).encode(),
            "golden.safetensors": save(to_tensors(samples)),
            **{f"model.{format_}": b"never opened" for format_ in more},
        }
        path = tmp_path / "linear.edge"
        path.mkdir()
        for name, data in contents.items():
            (path / name).write_bytes(data)
        stored = {
            name: StoredFile(name, hashlib.sha256(data).hexdigest(), len(data))
            for name, data in contents.items()
        }
        artefacts = [
            Artefact(format_, "float32", stored[f"model.{format_}"])
            for format_ in ("onnx", "null", *more)
        ]
        labels: tuple[tuple[str, Kind], ...] = tuple(
            (sample.name, sample.kind) for sample in samples
        )
        golden = stored["golden.safetensors"]
        manifest = Manifest("linear", signature, tuple(artefacts), golden, labels, Thresholds(), {})
        (path / "manifest.json").write_text(manifest.dumps(), "utf-8")
        return Bundle.read(path)

    return make


def test_every_usable_backend_is_timed(make: Make) -> None:
    bundle = make()
    rounds: list[tuple[int, int]] = []
    result = benchmark(
        bundle, threads=1, batch=5, budget_s=1, on_round=lambda *done: rounds.append(done)
    )
    assert {latency.backend for latency in result.backends} == {"ort-cpu", "null"}
    assert (result.name, result.sample, result.batch) == ("linear", "real, batch=3", 5)
    assert result.shapes == {"x": (5, 4)}
    assert [done for done, _ in rounds] == list(range(result.rounds + 1))
    for latency in result.backends:
        assert latency.engine.backend == latency.backend
        assert latency.engine.threads == 1
        assert latency.sha256 == bundle.artefact(latency.backend).stored.sha256
        assert len(latency.rounds_ns) == result.rounds
        assert latency.calls == sum(len(durations) for durations in latency.rounds_ns)
        assert min(map(min, latency.rounds_ns)) > 0


def test_the_fastest_comes_first_and_is_the_measure(make: Make) -> None:
    first, second = benchmark(make(), threads=1, budget_s=1).backends
    medians = [latency.percentiles[0].latency_ns for latency in (first, second)]
    assert medians[0] is not None
    assert medians[1] is not None
    assert medians[0].value <= medians[1].value
    assert first.times_fastest is not None
    assert first.times_fastest.value == 1
    assert second.times_fastest is not None
    assert second.times_fastest.value >= 1


def test_json_holds_the_conditions_and_every_duration(make: Make) -> None:
    result = benchmark(make(), ["null"], threads=1, budget_s=0.2, seed=7)
    value = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert value["bench_version"] == 1
    assert (value["seed"], value["budget_s"], value["batch"]) == (7, 0.2, 1)
    assert value["environment"]["cpus"] >= 1
    assert value["environment"]["numpy"] == np.__version__
    assert value["environment"]["cpu_model"]
    (backend,) = value["backends"]
    assert backend["engine"]["backend"] == "null"
    assert len(backend["rounds_ns"]) == value["rounds"]
    assert sum(map(len, backend["rounds_ns"])) == backend["calls"]
    assert len(backend["warmup_ns"]) > 3
    assert [p["percent"] for p in backend["percentiles"]] == [50, 90, 99]


def test_too_few_calls_withhold_percentiles(make: Make) -> None:
    (latency,) = benchmark(make(), ["null"], budget_s=1e-6).backends
    assert latency.calls == 2
    assert [p.missing_calls for p in latency.percentiles] == [9, 62, 660]
    assert all(p.latency_ns is None for p in latency.percentiles)
    assert latency.times_fastest is None


def test_rows_of_the_first_sample_that_is_no_edge_case_are_repeated(make: Make) -> None:
    bundle = make()
    name, inputs = batch_inputs(bundle, 7)
    sample = bundle.golden()[1]
    assert name == sample.name
    assert np.array_equal(inputs["x"], sample.inputs["x"][[0, 1, 2, 0, 1, 2, 0]])
    assert inputs["x"].flags.carray  # contiguous, aligned and writable, as a caller's arrays are
    assert np.array_equal(batch_inputs(bundle, 2)[1]["x"], sample.inputs["x"][:2])


def test_a_model_without_a_batch_dimension_is_timed_as_it_is(make: Make) -> None:
    result = benchmark(make(rows=3), budget_s=0.1)
    assert result.batch is None
    assert result.shapes == {"x": (3, 4)}


def test_a_batch_that_the_model_does_not_take(make: Make) -> None:
    with pytest.raises(UsageError, match=r"no input of 'linear' has a named dimension on axis 0"):
        benchmark(make(rows=3), batch=2)


def test_a_batch_out_of_range(make: Make) -> None:
    bundle = make(ranges={"batch": Range(1, 8)})
    with pytest.raises(UsageError, match=r"a batch of 9 .*'linear' takes batch in 1\.\.8"):
        benchmark(bundle, batch=9)


def test_a_bundle_without_a_real_sample(make: Make) -> None:
    bundle = make(samples=(_sample("edge", 1), _sample("real", 0)))
    with pytest.raises(UsageError, match="holds no golden sample of real or random values"):
        benchmark(bundle)


@pytest.mark.parametrize("budget_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none(make: Make, budget_s: float) -> None:
    with pytest.raises(UsageError, match=f"the time to measure is {budget_s} s"):
        benchmark(make(), budget_s=budget_s)


def test_numbers_below_one(make: Make) -> None:
    bundle = make()
    with pytest.raises(UsageError, match="batch is 0"):
        benchmark(bundle, batch=0)
    with pytest.raises(UsageError, match="threads is 0"):
        benchmark(bundle, threads=0)


def test_backends_that_do_not_exist_or_do_not_fit(make: Make) -> None:
    bundle = make()
    with pytest.raises(UsageError, match="no backend is named 'ort'"):
        benchmark(bundle, ["ort"])
    with pytest.raises(UsageError, match="holds no torchscript artefact for backend 'libtorch'"):
        benchmark(bundle, ["libtorch"])


def test_an_artefact_that_was_changed_is_not_timed(make: Make) -> None:
    bundle = make()
    (bundle.path / "model.onnx").write_bytes(onnx.ModelProto().SerializeToString())
    with pytest.raises(IntegrityError, match=r"model\.onnx is not the file that was packed"):
        benchmark(bundle, budget_s=0.1)


@pytest.fixture
def no_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ort", "libtorch", "pt2", "torch_calls"):
        monkeypatch.delitem(sys.modules, f"edgeport.runtimes.{module}", raising=False)
    for library in ("torch", "onnxruntime"):
        monkeypatch.setitem(sys.modules, library, None)


@pytest.mark.usefixtures("no_engines")
def test_a_backend_that_is_missing_is_listed(make: Make) -> None:
    result = benchmark(make(more=("torchscript",)), budget_s=0.1)
    assert [latency.backend for latency in result.backends] == ["null"]
    assert [entry.backend for entry in result.unusable] == ["ort-cpu", "libtorch"]
    assert result.unusable[0].reason is not None
    assert "needs 'onnxruntime', which is not installed" in result.unusable[0].reason
    assert result.unusable[0].remedy == "pip install 'edgeport[ort]'"


@pytest.mark.usefixtures("no_engines")
def test_a_missing_backend_that_was_asked_for_is_an_error(make: Make) -> None:
    bundle = make()
    with pytest.raises(
        BackendMissingError, match=r"not usable here; ort-cpu: .*'onnxruntime'"
    ) as e:
        benchmark(bundle, ["null", "ort-cpu"])
    assert e.value.remedy == "pip install 'edgeport[ort]'"


@pytest.mark.usefixtures("no_engines")
def test_no_backend_at_all_is_an_error(make: Make) -> None:
    bundle = make()
    manifest = json.loads((bundle.path / "manifest.json").read_text("utf-8"))
    del manifest["artefacts"][1]
    (bundle.path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(BackendMissingError, match="no backend of this bundle is usable here; ort"):
        benchmark(Bundle.read(bundle.path))
