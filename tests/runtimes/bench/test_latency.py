"""Benchmarks of a bundle made by hand: one ONNX file and one null artefact."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import handmade
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.runtimes import (
    BackendMissingError,
    Bundle,
    EngineError,
    IntegrityError,
    Range,
    Signature,
    TensorSpec,
    UsageError,
)
from edgeport.runtimes.bench import (
    Cold,
    OpenLoop,
    Paced,
    Peak,
    Result,
    Sweep,
    benchmark,
    crew,
)
from edgeport.runtimes.bench.compared import paired_ratio
from edgeport.runtimes.bench.sweep import variants
from edgeport.runtimes.bench.workload import Workload, feed, fitting_rows
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.bundles.manifest import Kind
from edgeport.runtimes.safety.isolation import Limits

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
        artefacts = {
            "onnx": _onnx(rows) if not ranges else b"never opened",
            "null": json.dumps(signature.to_json()).encode(),
            **dict.fromkeys(more, b"never opened"),
        }
        path = handmade.bundle(tmp_path / "linear.edge", signature, artefacts, samples)
        return Bundle.read(path)

    return make


def quick(bundle: Bundle, *backends: str, budget_s: float = 0.2, **more: Any) -> Result:
    """A benchmark in two processes, of one thread."""
    sweep = more.pop("sweep", None) or Sweep(backends or None, threads=(1,))
    return benchmark([bundle], sweep, processes=2, budget_s=budget_s, **more)


def test_every_usable_backend_is_timed_in_fresh_processes(make: Make) -> None:
    bundle = make()
    steps: list[tuple[int, int]] = []
    result = quick(
        bundle,
        sweep=Sweep(batches=(5,), threads=(1,)),
        on_step=lambda _, done, planned: steps.append((done, planned)),
    )
    assert {latency.engine.backend for latency in result.variants} == {"ort-cpu", "null"}
    assert all(0 <= done <= planned for done, planned in steps)
    assert steps[-1][0] == steps[-1][1] == 2 * result.rounds
    for latency in result.variants:
        assert (latency.bundle, latency.sample, latency.rows) == ("linear", "real, batch=3", 5)
        assert latency.shapes == {"x": (5, 4)}
        assert latency.label == latency.engine.backend
        assert latency.engine.threads == 1
        assert latency.sha256 == bundle.artefact(latency.engine.backend).stored.sha256
        assert latency.rounds_ns.shape[:2] == (2, result.rounds)
        assert latency.rounds_ns.min() > 0
        assert len(latency.disturbances) == len(latency.warmup_ns) == 2
        assert latency.peak_memory_bytes is None or latency.peak_memory_bytes > 10**6
        assert latency.cpu_ns_per_call is not None
        assert latency.rows_per_s is not None
        assert latency.rows_per_s == pytest.approx(5e9 / latency.rounds_ns.mean())


def test_the_fastest_comes_first_and_is_the_measure(make: Make) -> None:
    first, second = quick(make()).variants
    assert first.median_ns is not None
    assert second.median_ns is not None
    assert first.median_ns <= second.median_ns
    assert first.times_fastest is not None
    assert first.times_fastest.value == 1
    assert second.times_fastest is not None
    assert second.times_fastest == paired_ratio(second.rounds_ns, first.rounds_ns)


def test_json_holds_the_conditions_and_every_duration(make: Make) -> None:
    result = quick(make(), "null", seed=7)
    value = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert value["bench_version"] == 2
    assert (value["seed"], value["budget_s"], value["mode"]) == (7, 0.2, "closed loop")
    assert value["environment"]["cpus"] >= 1
    assert value["environment"]["numpy"] == np.__version__
    assert value["environment"]["cpu_model"]
    (variant,) = value["variants"]
    assert variant["engine"]["backend"] == variant["backend"] == "null"
    assert variant["rows"] == 1
    assert len(variant["rounds_ns"]) == value["processes"] == 2
    assert {len(process) for process in variant["rounds_ns"]} == {value["rounds"]}
    assert sum(len(r) for p in variant["rounds_ns"] for r in p) == variant["calls"]
    assert all(len(calls) >= 10 for calls in variant["warmup_ns"])
    assert [p["percent"] for p in variant["percentiles"]] == [50, 90, 99]
    assert all(d["wall_ns"] > 0 for process in variant["disturbances"] for d in process)


def test_too_few_calls_withhold_percentiles(make: Make) -> None:
    (latency,) = quick(make(), "null", budget_s=1e-6).variants
    assert latency.calls == 4  # two processes, two rounds, one call
    assert [p.missing_calls for p in latency.percentiles] == [7, 60, 658]
    assert all(p.latency_ns is None for p in latency.percentiles)
    assert latency.times_fastest is None


def test_rows_of_the_first_sample_that_is_no_edge_case_are_repeated(make: Make) -> None:
    bundle = make()
    found = feed(bundle, Workload(7))
    sample = bundle.golden()[1]
    assert (found.sample, found.rows) == (sample.name, 7)
    x = found.inputs["x"]
    assert np.array_equal(x, sample.inputs["x"][[0, 1, 2, 0, 1, 2, 0]])
    assert x.flags.carray  # contiguous, aligned and writable, as a caller's arrays are
    assert np.array_equal(feed(bundle, Workload(2)).inputs["x"], sample.inputs["x"][:2])
    assert feed(bundle, Workload(1, (("batch", 4),))).rows == 4  # named, it wins


def test_a_model_without_a_batch_dimension_is_timed_as_it_is(make: Make) -> None:
    (latency,) = quick(make(rows=3), "null", budget_s=0.1).variants
    assert latency.rows == 1
    assert latency.shapes == {"x": (3, 4)}


def test_a_dimension_that_no_input_has(make: Make) -> None:
    with pytest.raises(UsageError, match=r"no input of 'linear' has a dimension 'time'") as e:
        benchmark([make()], Sweep(sizes={"time": (8,)}))
    assert e.value.remedy == "it has batch"


def test_a_sweep_measures_every_combination(make: Make) -> None:
    sweep = Sweep(("ort-cpu",), batches=(1, 4), threads=(1,), engine_only=True)
    result = quick(make(), sweep=sweep)
    assert [v.label for v in result.variants if not v.engine_only] == [
        "ort-cpu, batch 1",
        "ort-cpu, batch 4",
    ]
    assert sum(v.engine_only and "engine only" in v.label for v in result.variants) == 2
    assert [v.rows for v in result.variants] == [1, 1, 4, 4]


def test_spinning_is_a_choice_of_one_backend(make: Make) -> None:
    sweep = Sweep(threads=(2,), spinning=(True, False))
    bundle = make()
    found = variants([bundle], ("ort-cpu", "null"), sweep)
    assert {(v.label, v.setting.spinning) for v in found} == {
        ("ort-cpu, spinning", True),
        ("ort-cpu, not spinning", False),
        ("null", True),
    }
    (latency,) = quick(bundle, sweep=Sweep(("ort-cpu",), spinning=(False,))).variants
    assert not latency.spinning


def test_too_many_combinations(make: Make) -> None:
    with pytest.raises(UsageError, match="66 combinations were asked for, at most 64"):
        benchmark([make()], Sweep(("null",), batches=tuple(range(1, 67))))


@pytest.mark.parametrize("percent", [0.0, 100.0, float("nan")])
def test_a_percentile_that_no_number_of_calls_gives(make: Make, percent: float) -> None:
    with pytest.raises(UsageError, match=f"the percentile {percent:g} was asked for"):
        benchmark([make()], percents=(50, percent))


def test_an_engine_that_has_no_call_of_its_own(make: Make) -> None:
    with pytest.raises(UsageError, match="backend 'null' has no call of an engine to time"):
        quick(make(), sweep=Sweep(("null",), threads=(1,), engine_only=True))


def test_two_bundles_are_compared_with_a_twin_of_the_first(make: Make, tmp_path: Path) -> None:
    first = make()
    shutil.copytree(first.path, tmp_path / "other.edge")
    bundles = [first, Bundle.read(tmp_path / "other.edge")]
    result = benchmark(bundles, Sweep(("null",)), processes=2, budget_s=0.2)
    assert {v.label for v in result.variants} == {"linear.edge, null", "other.edge, null"}
    (comparison,) = result.comparisons
    assert (comparison.name, comparison.baseline) == ("other.edge, null", "linear.edge, null")
    assert comparison.noise is not None
    assert comparison.noise >= 1


def test_a_bundle_named_twice(make: Make) -> None:
    bundle = make()
    with pytest.raises(UsageError, match=r"linear\.edge was named twice"):
        benchmark([bundle, bundle])


def test_bundles_without_a_backend_in_common(make: Make, tmp_path: Path) -> None:
    bundle = make()
    path, signature = tmp_path / "other.edge", bundle.manifest.signature
    other = Bundle.read(handmade.bundle(path, signature, {"torchscript": b""}, ()))
    with pytest.raises(
        UsageError,
        match=r"the bundles have no backend in common: .*\.edge has ort"
        r".*; .*other\.edge has libtorch\n  fix: export them with the same --fo",
    ):
        benchmark([bundle, other])


def test_paced_calls_rest(make: Make) -> None:
    (latency,) = quick(make(), "null", mode=Paced(1_000_000)).variants
    walls = [d.wall_ns for process in latency.disturbances for d in process]
    assert sum(walls) > latency.calls * 1_000_000
    assert latency.rows_per_s is None


def test_open_loop_latency_counts_from_the_schedule(make: Make) -> None:
    (latency,) = quick(make(), "null", mode=OpenLoop("poisson", 500)).variants
    assert latency.rounds_ns.min() > 0
    assert latency.rows_per_s is None


def test_the_peak_rate_is_sought_in_every_process(make: Make) -> None:
    mode = Peak(50_000_000, 50)
    result = benchmark([make()], Sweep(("null",)), mode=mode, processes=2, budget_s=1)
    (latency,) = result.variants
    assert latency.percentiles == ()
    assert latency.peak_hz is not None
    assert len(latency.peaks) == 2
    for found in latency.peaks:
        assert found.rate_hz == max(p.rate_hz for p in found.probes if p.kept)
        assert all(p.kept == (p.latency_ns <= 50_000_000) for p in found.probes)


def test_a_bound_that_no_rate_keeps(make: Make) -> None:
    (latency,) = quick(make(), "null", mode=Peak(1, 50), budget_s=1).variants
    assert latency.peak_hz is None
    assert latency.doubts == (
        "in 2 of 2 processes no rate above a twentieth of the capacity kept p50 within 1e-06 ms",
    )


def test_too_little_time_for_the_peak(make: Make) -> None:
    with pytest.raises(UsageError, match=r"p99 at .* requests/s needs 662 requests") as e:
        quick(make(), "null", mode=Peak(1000), budget_s=1e-3)
    assert "--seconds" in str(e.value.remedy)


def test_cold_starts_are_taken_apart(make: Make) -> None:
    (latency,) = quick(make(), "ort-cpu", mode=Cold()).variants
    assert latency.calls == 0
    assert len(latency.cold_starts) == 2
    for start in latency.cold_starts:
        parts = (start.python_ns, start.import_ns, start.open_ns, *start.calls_ns)
        assert min(parts) > 0
        assert len(start.calls_ns) == 5
        assert start.first_answer_ns == sum(parts[:4])


def test_a_process_that_dies_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_LIFE", "import os; os.kill(os.getpid(), 9)  # {} {}")
    with pytest.raises(EngineError, match=r"the process that timed null on .* died: SIGKILL"):
        quick(make(), "null")


def test_a_batch_that_the_model_does_not_take(make: Make) -> None:
    with pytest.raises(UsageError, match=r"no input of 'linear' has a named dimension on axis 0"):
        benchmark([make(rows=3)], Sweep(batches=(2,)))


def test_a_batch_and_another_size_of_the_same_rows(make: Make) -> None:
    with pytest.raises(UsageError) as e:
        benchmark([make()], Sweep(batches=(4,), sizes={"batch": (3,)}))
    assert e.value.problem == (
        "the batch of 'linear' is its dimension 'batch', and sizes were asked for of both"
    )
    assert e.value.remedy == "give --batch, or --shape batch="


def test_a_batch_out_of_range(make: Make) -> None:
    bundle = make(ranges={"batch": Range(1, 8)})
    with pytest.raises(UsageError, match=r"a batch of 9 .*'linear' takes batch in 1\.\.8"):
        benchmark([bundle], Sweep(batches=(9,)))
    assert fitting_rows([bundle], 32) == 8


def test_a_batch_that_is_no_multiple(make: Make) -> None:
    bundle = make(ranges={"batch": Range(12, step=12)})
    with pytest.raises(UsageError, match=r"in steps of 12\n  fix: choose --batch in that"):
        benchmark([bundle], Sweep(batches=(13,)))
    assert (fitting_rows([bundle], 32), fitting_rows([bundle], 1)) == (24, 12)


def test_rows_that_all_bundles_take(make: Make) -> None:
    manifest = make().manifest
    eights, twelves, three = (
        Bundle(Path(name), replace(manifest, signature=replace(manifest.signature, ranges=ranges)))
        for name, ranges in {
            "8.edge": {"batch": Range(8, 100, step=8)},
            "12.edge": {"batch": Range(12, step=12)},
            "3.edge": {"batch": Range(3, 3)},
        }.items()
    )
    assert [fitting_rows([eights, twelves], rows) for rows in (1, 30, 200)] == [24, 24, 96]
    with pytest.raises(UsageError, match=r"fits all of the bundles: 8\.edge 8\.\.96 in "):
        fitting_rows([eights, three], 1)


def test_rows_that_nobody_asked_for_are_the_fewest_there_are(make: Make) -> None:
    (latency,) = quick(make(ranges={"batch": Range(12, step=12)}), "null").variants
    assert latency.rows == 12


def test_rows_of_a_call_are_never_none(make: Make) -> None:
    bundle = make(ranges={"batch": Range(0, step=48)})
    assert (fitting_rows([bundle], 32), fitting_rows([bundle], 1)) == (48, 48)


def test_a_bundle_without_a_real_sample(make: Make) -> None:
    bundle = make(samples=(_sample("edge", 1), _sample("real", 0)))
    with pytest.raises(UsageError, match="holds no golden sample of real or random values"):
        benchmark([bundle])


@pytest.mark.parametrize("budget_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none(make: Make, budget_s: float) -> None:
    with pytest.raises(UsageError, match=f"the time to measure is {budget_s} s"):
        benchmark([make()], budget_s=budget_s)


def test_numbers_below_one() -> None:
    with pytest.raises(UsageError, match="batch is 0"):
        Sweep(batches=(0,))
    with pytest.raises(UsageError, match="threads is 0"):
        Sweep(threads=(0,))
    with pytest.raises(UsageError, match="time is 0"):
        Sweep(sizes={"time": (0,)})
    with pytest.raises(UsageError, match="9999 threads were asked for, expected 1 to 1024"):
        Sweep(threads=(9999,))


def test_arguments_that_make_no_sense(make: Make) -> None:
    bundle = make()
    with pytest.raises(UsageError, match="0 processes were asked for"):
        benchmark([bundle], processes=0)
    with pytest.raises(UsageError, match=r"the rate is 0 requests/s"):
        benchmark([bundle], mode=OpenLoop("constant", 0))
    with pytest.raises(UsageError, match=r"p100 is to keep 1 ms"):
        benchmark([bundle], mode=Peak(10**6, 100))


def test_backends_that_do_not_exist_or_do_not_fit(make: Make) -> None:
    bundle = make()
    with pytest.raises(UsageError, match="no backend is named 'ort'"):
        benchmark([bundle], Sweep(("ort",)))
    with pytest.raises(UsageError, match="holds no torchscript artefact for backend 'libtorch'"):
        benchmark([bundle], Sweep(("libtorch",)))


def test_an_artefact_that_was_changed_is_not_timed(make: Make) -> None:
    bundle = make()
    (bundle.path / "model.onnx").write_bytes(onnx.ModelProto().SerializeToString())
    with pytest.raises(IntegrityError, match=r"model\.onnx is not the file that was packed"):
        quick(bundle, budget_s=0.1)


@pytest.fixture
def no_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ort.cpu", "libtorch.torchscript", "libtorch.pt2", "libtorch.session"):
        monkeypatch.delitem(sys.modules, f"edgeport.runtimes.{module}", raising=False)
    for library in ("torch", "onnxruntime"):
        monkeypatch.setitem(sys.modules, library, None)


@pytest.mark.usefixtures("no_engines")
def test_a_backend_that_is_missing_is_listed(make: Make) -> None:
    result = quick(make(more=("torchscript",)), budget_s=0.1)
    assert [latency.label for latency in result.variants] == ["null"]
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
        benchmark([bundle], Sweep(("null", "ort-cpu")))
    assert e.value.remedy == "pip install 'edgeport[ort]'"


def test_an_artefact_for_another_machine_is_listed_unless_it_was_asked_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_(_: Bundle, name: str, *__: Any) -> None:
        if name in elsewhere:
            raise BackendMissingError(f"{name} is for another CPU", remedy="export it here")

    monkeypatch.setattr("edgeport.runtimes.bench.latency.rehearse", open_)
    bundle, elsewhere = make(), ["ort-cpu"]
    result = quick(bundle, budget_s=0.1, limits=Limits())
    assert [found.label for found in result.variants] == ["null"]
    assert [(each.backend, each.reason, each.remedy) for each in result.unusable] == [
        ("ort-cpu", "ort-cpu is for another CPU", "export it here")
    ]
    with pytest.raises(BackendMissingError, match="ort-cpu is for another CPU"):
        quick(bundle, "null", "ort-cpu", limits=Limits())
    elsewhere.append("null")
    with pytest.raises(BackendMissingError, match="null is for another CPU"):
        quick(bundle, limits=Limits())


@pytest.mark.usefixtures("no_engines")
def test_no_backend_at_all_is_an_error(make: Make) -> None:
    bundle = make()
    manifest = json.loads((bundle.path / "manifest.json").read_text("utf-8"))
    del manifest["artefacts"][1]
    (bundle.path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(BackendMissingError, match="no backend of this bundle is usable here; ort"):
        benchmark([Bundle.read(bundle.path)])
