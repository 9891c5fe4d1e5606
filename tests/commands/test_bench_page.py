"""The page of a benchmark, of results made by hand and of one that was measured."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from page import EVIL, Page

from edgeport.commands.bench_gpu import gpu_section, gpu_text
from edgeport.commands.bench_lead import lead
from edgeport.commands.bench_page import render_page
from edgeport.commands.bench_plots import tail_curve
from edgeport.commands.bench_tables import render
from edgeport.runtimes import Bundle
from edgeport.runtimes.bench import (
    Closed,
    Cold,
    Environment,
    Latency,
    OpenLoop,
    Peak,
    Result,
    Sweep,
    Unusable,
    benchmark,
)
from edgeport.runtimes.bench.arrivals import Arrivals
from edgeport.runtimes.bench.compared import paired, paired_ratio
from edgeport.runtimes.bench.disturbance import Disturbance
from edgeport.runtimes.bench.gpu import Card, GpuRound, GpuUse
from edgeport.runtimes.bench.orders import ColdStart
from edgeport.runtimes.bench.peak import PeakFound, Probe
from edgeport.runtimes.bench.setting import Mode
from edgeport.runtimes.bench.statistics import PERCENTS, Interval, percentiles
from edgeport.runtimes.cuda.nvml import Gpu, GpuReading
from edgeport.runtimes.session import EngineInfo

HERE = Environment(
    "1.2.3", "3.11.0", "2.0.0", "Linux", "Some CPU", ("avx2",), 4, (0, 1, 2, 5), None, 8 << 30,
    None, 0.25, (("OMP_NUM_THREADS", "1"),),
)  # fmt: skip


def quiet(calls: int, taken: float = 0.0) -> Disturbance:
    """A round of which a share was taken by others."""
    wall_ns = calls * 10_000
    return Disturbance(wall_ns, wall_ns, int(wall_ns * (1 - taken)), 0, 0, 0, 0)


def durations(
    scale_ns: float, processes: int = 4, rounds: int = 5, calls: int = 100, seed: int = 0
) -> NDArray[np.int64]:
    generator = np.random.default_rng(seed)
    found = scale_ns * (1 + 0.01 * generator.gamma(2, size=(processes, rounds, calls)))
    return found.astype(np.int64)


def latency(label: str, rounds_ns: NDArray[np.int64] | None = None, **changes: Any) -> Latency:
    rounds_ns = durations(10_000) if rounds_ns is None else rounds_ns
    processes, rounds, calls = rounds_ns.shape
    found = percentiles(rounds_ns, PERCENTS, seed=0) if rounds_ns.size else ()
    given = Latency(
        label=label,
        bundle="digits",
        manifest_sha256="a" * 64,
        file="model.onnx",
        sha256="b" * 64,
        engine=EngineInfo("ort-cpu", "onnxruntime", "9.8.7", "SomeProvider", "cpu", "float32", 1),
        spinning=True,
        engine_only=False,
        sample="real 0",
        shapes={"x": (1, 64)},
        rows=1,
        percentiles=found,
        clean=found,
        clean_share=1.0 if found else None,
        rows_per_s=1e9 / float(rounds_ns.mean()) if found else None,
        cpu_ns_per_call=12_000.0 if found else None,
        energy_uj_per_call=None,
        peak_memory_bytes=64 << 20,
        cold_starts=(),
        times_fastest=None,
        peak_hz=None,
        peaks=(),
        doubts=(),
        gpu=None,
        warmup_ns=(),
        rounds_ns=rounds_ns,
        disturbances=tuple(tuple(quiet(calls) for _ in range(rounds)) for _ in range(processes)),
    )
    return replace(given, **changes)


def result(*variants: Latency, mode: Mode | None = None, **changes: Any) -> Result:
    given = Result(mode or Closed(), 0, 20.0, 21.5, 4, HERE, variants, (), (), ())
    return replace(given, **changes)


def times(variants: Sequence[Latency]) -> list[Latency]:
    """With the ratio to the first."""
    first = variants[0].rounds_ns
    return [replace(v, times_fastest=paired_ratio(v.rounds_ns, first)) for v in variants]


def two() -> Result:
    slow = latency("libtorch", durations(86_000, seed=1))
    return result(*times([latency("ort-cpu"), slow]))


def peak(label: str, rates: Sequence[float | None]) -> Latency:
    """A variant whose processes found these rates."""
    peaks = tuple(
        PeakFound(
            rate,
            (Probe(500.0, 900_000, 1000, rate is not None), Probe(900.0, 5_000_000, 1800, False)),
        )
        for rate in rates
    )
    known = [rate for rate in rates if rate is not None]
    mean = Interval(known[0], known[0] * 0.9, known[0] * 1.1) if len(known) == len(rates) else None
    return latency(label, np.zeros((0, 0, 0), np.int64), peaks=peaks, peak_hz=mean)


def cold(label: str, opening_ms: float) -> Latency:
    starts = tuple(
        ColdStart(
            100_000_000 + 1_000_000 * n, 50_000_000, int(opening_ms * 1e6),
            (3_000_000, 30_000, 20_000, 15_000, 12_000),
        )
        for n in range(5)
    )  # fmt: skip
    return latency(label, np.zeros((0, 0, 0), np.int64), cold_starts=starts)


def test_the_answer_comes_first() -> None:
    page = Page(render_page(two()))
    assert [attributes["class"] for name, attributes in page.tags if name == "header"] == ["good"]
    found = re.search(
        r"ort-cpu answers in 10\.\d µs \(10\.\d to 10\.\d\), 8\.6\d times quicker than libtorch\. "
        r"In brackets is the 95 % interval of the median\.",
        page.text,
    )
    assert found
    assert "digits closed loop" in page.text
    assert "4 fresh processes x 5 rounds" in page.text
    assert "energy per call" in page.text
    assert page.text.count("unavailable") == 3  # energy of each, and the governor
    assert "Reasons to doubt" not in page.text
    assert page.names.isdisjoint({"script", "link", "img"})


def test_one_variant_has_no_fastest() -> None:
    page = Page(render_page(result(*times([latency("ort-cpu")]))))
    assert "the fastest" not in page.text
    assert "variant p50 p50 clean p90 p90 clean p99 p99 clean ort-cpu" in page.text
    several = Page(render_page(two()))
    assert "variant p50 p50 clean times the fastest p90 p90 clean p99 p99 clean" in several.text
    assert re.search(r"libtorch 8\d\.\d µs .{0,60}? 8\.6\d \(8\.\d+ to 8\.\d+\)", several.text)


def test_what_cannot_be_told_apart_is_not_called_quicker() -> None:
    near = latency("libtorch", durations(10_000, seed=3))
    text = lead(result(*times([latency("ort-cpu"), near])))
    assert "quicker" not in text
    assert "; not shown to differ from it: libtorch. In brackets" in text


def test_the_lead_is_about_the_session_that_users_call() -> None:
    raw = latency("ort-cpu, engine only", durations(9_000), engine_only=True)
    slow = latency("libtorch", durations(80_000, seed=1))
    variants = times([raw, latency("ort-cpu"), slow])
    assert re.match(
        r"ort-cpu answers in 10\.\d µs \([^)]*\), 8\.0\d times quicker than libtorch\.",
        lead(result(*variants)),
    )


def test_doubts_are_prominent() -> None:
    first, second = two().variants
    doubted = result(
        first, replace(second, doubts=("there are two kinds of calls",)), doubts=("it was busy",)
    )
    page = Page(render_page(doubted))
    assert [attributes["class"] for name, attributes in page.tags if name == "header"] == ["doubt"]
    assert "it was busy libtorch: there are two kinds of calls" in page.text
    assert page.text.index("it was busy") < page.text.index("Latency of a call")


def test_many_doubts_are_folded() -> None:
    page = Page(render_page(replace(two(), doubts=tuple(f"doubt {n}" for n in range(20)))))
    assert "12 more doubt 8" in page.text
    assert "doubt 19" in page.text


def test_a_percentile_that_lacks_calls_is_withheld() -> None:
    few = latency("ort-cpu", durations(10_000, 2, 3, 1))
    page = Page(render_page(result(few)))
    assert "withheld calls missing: 58" in page.text  # p90 needs 64
    assert "withheld calls missing: 656" in page.text
    assert lead(result(few)).startswith("No median can be given: ort-cpu needs 5 more calls.")


def test_no_clean_round_is_said() -> None:
    page = Page(render_page(result(latency("ort-cpu", clean=(), clean_share=0.0))))
    assert page.text.count("no clean round") == 3


def test_a_disturbed_round_has_another_shape() -> None:
    given = latency("ort-cpu")
    (first, *rest), *others = given.disturbances
    given = replace(given, disturbances=((quiet(100, 0.3), *rest), *others))
    page = Page(render_page(result(given)))
    assert len(page.of_class("odd", "path")) == 1
    assert len(page.of_class("dot", "circle")) == 19
    assert "process 1, round 1: 10.2 µs, 30.0% of the time taken by others" in page.text
    assert first.lost_share(waits=False) == 0


def test_waiting_is_no_disturbance_in_an_open_loop() -> None:
    given = latency("ort-cpu", rows_per_s=None)
    idle = tuple(tuple(quiet(100, 0.9) for _ in process) for process in given.disturbances)
    open_loop = OpenLoop(_poisson(), 200.0)
    page = Page(render_page(result(replace(given, disturbances=idle), mode=open_loop)))
    assert page.of_class("odd") == []
    assert "open loop, poisson arrivals at 200/s" in page.text


def _poisson() -> Arrivals:
    return "poisson"


def test_a_sweep_of_batches_has_a_curve_per_setting() -> None:
    variants = [
        latency(
            f"{name}, batch {rows}", durations(scale * rows**0.5), rows=rows,
            shapes={"x": (rows, 64)},
        )
        for rows in (1, 8, 32)
        for name, scale in (("ort-cpu", 1e4), ("libtorch", 3e4))
    ]  # fmt: skip
    text = render_page(result(*variants))
    (figure,) = re.findall(r"<figure><figcaption>Throughput against batch.*?</figure>", text)
    assert re.findall(r"<title>([^<]*)</title>", figure) == ["ort-cpu", "libtorch"]
    assert [n for n in re.findall(r">(\d+)</text>", figure) if n in ("1", "8", "32")] == [
        "1", "8", "32"
    ]  # fmt: skip
    assert "Most rows in a second: " in text
    assert "Median latency of a call against batch" in text
    assert "Latency of all calls, batch 32" in text


def test_one_batch_has_no_batch_chart() -> None:
    assert "against batch" not in render_page(two())


def test_a_comparison_has_its_verdict_in_words() -> None:
    base, other = durations(10_000), durations(11_000, seed=1)
    twin = durations(10_050, seed=2)
    compared = paired("b.edge", "a.edge", other, base, twin)
    variants = [latency("a.edge", base), latency("b.edge", other)]
    given = result(*times(variants), comparisons=(compared,))
    assert re.match(
        r"b\.edge is 9\.\d% slower than a\.edge: 1\.09\d times \(1\.\d+ to 1\.\d+\)\.$",
        lead(given),
    )
    page = Page(render_page(given))
    assert page.of_class("margin", "rect")
    assert page.of_class("noise", "rect")
    assert page.of_class("whisker", "path")[0]["class"] == "whisker sixth"
    assert re.search(
        r"slower than a\.edge: 1\.09.*; two sets of the baseline were \d\.\d% apart", page.text
    )


def test_more_comparisons_than_a_sentence_holds_are_counted() -> None:
    one = paired("b", "a", durations(10_000), durations(10_000))
    text = lead(result(latency("a"), comparisons=(one,) * 5))
    assert text.count("b is equivalent within 3% to a") == 3
    assert text.endswith(" 2 more comparisons are below.")


def test_a_peak_shows_every_process_and_every_probe() -> None:
    given = result(
        peak("ort-cpu", [800.0, 820.0]), peak("torch", [None, 300.0]), mode=Peak(2_000_000, 90)
    )
    page = Page(render_page(given))
    assert "ort-cpu takes 800 requests/s (720 to 880) with p90 within 2.00 ms." in page.text
    assert "-, 300" in page.text
    assert "no rate in every process" in page.text
    assert "bound 2.00 ms" in page.text
    assert len(page.of_class("dot", "circle")) == 8
    assert len(page.of_class("tick", "path")) == 3


def test_no_rate_at_all_is_said() -> None:
    given = result(peak("torch", [None, None]), mode=Peak(1_000_000))
    assert lead(given) == "No rate that was tried kept p99 within 1.00 ms in every process."
    Page(render_page(given))


def test_a_cold_start_is_cut_into_its_parts() -> None:
    given = result(cold("torch", 800), cold("ort-cpu", 20), mode=Cold(), processes=5)
    text = render_page(given)
    page = Page(text)
    assert "ort-cpu gives its first answer 175 ms after its process starts; " in page.text
    assert "; torch takes 5.46 times as long. Medians of 5 starts." in page.text
    assert "median 175 ms, all 173 ms to 177 ms" in page.text
    assert len(page.of_class("tick", "path")) == 10
    widths = [float(w) for w in re.findall(r'width="([\d.]+)" height="14" class="dot ', text)]
    python, imported, opened, first = widths[:4]
    assert python > imported > opened > first > 0
    assert "call 5" in page.text


def test_an_engine_that_was_left_out_says_why() -> None:
    given = replace(two(), unusable=(Unusable("tensorrt", "not installed", "install it"),))
    assert "tensorrt not installed Fix: install it" in Page(render_page(given)).text


def test_the_environment_is_told() -> None:
    page = Page(render_page(two()))
    for text in (
        "Some CPU", "avx2", "0-2, 5", "8.0 GiB", "none seen", "OMP_NUM_THREADS=1",
        "onnxruntime 9.8.7, SomeProvider on cpu", "b" * 12, "seed 0",
    ):  # fmt: skip
        assert text in page.text
    assert "details" in page.names


def test_text_of_strangers_stays_text() -> None:
    doubted = latency(EVIL, bundle=EVIL, sample=EVIL, shapes={EVIL: (1,)}, doubts=(EVIL,))
    compared = paired(EVIL, EVIL, durations(10_000), durations(10_000))
    given = result(doubted, comparisons=(compared,), unusable=(Unusable(EVIL, EVIL, EVIL),))
    page = Page(render_page(given))
    assert "script" not in page.names
    assert page.text.count("alert") > 10


def test_a_large_run_stays_below_3_mb() -> None:
    one = latency("one", durations(10_000, 6, 10, 500))
    variants = [
        replace(one, label=f"variant {n}", rounds_ns=durations(10_000 + n, 6, 10, 500, seed=n))
        for n in range(64)
    ]
    text = render_page(result(*variants))
    assert len(text.encode()) < 3_000_000
    assert text.count("Latency of all calls") == 16  # eight charts, each with a name and a label
    assert text.count("<circle") == 64 * 60


def test_many_rounds_share_dots() -> None:
    many = latency("many", rounds_ns=durations(10_000, 6, 100, 5))
    page = Page(render_page(result(many)))
    assert render_page(result(many)).count("<circle") == 120
    assert "process 6, rounds 96 to 100: " in page.text


def test_a_curve_keeps_its_ends() -> None:
    rounds_ns = durations(10_000, 4, 10, 500)
    rounds_ns[2, 3, 4], rounds_ns[1, 1, 1] = 77_000_000, 5
    xs, ys = tail_curve(rounds_ns, 1e3)
    assert (xs[0], xs[-1]) == (0.005, 77_000)
    assert (ys[0], ys[-1]) == (1, 20_000)
    assert len(xs) <= 120
    assert xs == sorted(xs)
    nearest = min(range(len(ys)), key=lambda i: abs(ys[i] - 100))
    assert xs[nearest] == pytest.approx(np.percentile(rounds_ns, 99) / 1e3, rel=0.01)


def test_a_real_benchmark_has_a_page(packed: Path) -> None:
    bundle = Bundle.read(packed)
    sweep = Sweep(backends=("ort-cpu", "null"), batches=(1, 4), threads=(1,))
    measured = benchmark([bundle], sweep, budget_s=1.0, processes=2)
    page = Page(render_page(measured))
    assert ", batch 1 answers in " in page.text
    assert "Throughput against batch" in page.text
    assert len(page.of_class("curve", "path")) >= 4


def test_a_gpu_has_its_state_and_the_parts_of_a_call() -> None:
    card = Gpu("A card <1>", "GPU-1", "0:1", "580.1", "13.0", "8.6", 8 << 30, 150_000, 1800, 7000,
               divided=False)  # fmt: skip
    busy = GpuReading(1700, 7000, ("power cap",), False, 90_400, 55, 1 << 30, 1 << 28, 0)
    parts = np.array([[10_000, 70_000, 5_000, 100_000]])
    use = GpuUse(Card(card), ((GpuRound(busy, busy, None),),), 2500.0, parts)
    found = result(latency("ort-cuda", gpu=use), latency("ort-cpu"))
    text = gpu_text(found)
    assert "A card <1>, compute capability 8.6" in text
    assert "power cap" in text
    row = [cell.strip() for cell in text.splitlines()[-1].split("  ") if cell]
    assert row == ["ort-cuda", "100 µs", "10.0 µs", "70.0 µs", "5.00 µs", "15.0 µs"]
    page = Page(render_page(found))
    for told in ("A card <1>", "power cap", "15.0 µs", "2.5 mJ"):
        assert told in page.text
    assert gpu_text(result(latency("ort-cpu"))) == ""
    assert gpu_section(result(latency("ort-cpu"))) == []


def test_the_table_of_what_is_seldom_known() -> None:
    left_out = (Unusable("torch", "torch is not installed", "pip install 'edgeport[torch]'"),)
    known = [latency("a", energy_uj_per_call=2500.0), latency("b", energy_uj_per_call=0.25)]
    found = result(*times(known), unusable=left_out)
    text = render(found)
    assert "torch: torch is not installed\n  fix: pip install 'edgeport[torch]'" in text
    assert "energy of the machine in mJ a call: a 2.5, b 0.00025" in text
    page = Page(render_page(found))
    assert "2.50 mJ" in page.text
    assert "0.25 µJ" in page.text


def test_a_lead_without_a_median() -> None:
    only_p90 = latency("a", percentiles=percentiles(durations(10_000), (90.0,), seed=0))
    assert lead(result(only_p90)) == "a was timed; no median was asked for."
    few = latency("b", durations(86_000, rounds=1, calls=2))
    assert " times quicker than b" not in lead(result(times([latency("a")])[0], few))
