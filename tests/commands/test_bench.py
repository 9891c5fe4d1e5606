import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeport import deploy
from edgeport.__main__ import main
from edgeport.runtimes.cpus import available_cpus

Out = pytest.CaptureFixture[str]


def bench(bundle: Path, *options: str) -> int:
    quick = ("--threads", "1") if "--threads" not in options else ()
    processes = () if "--processes" in options else ("--processes", "2")  # no intervals
    return main(["bench", str(bundle), *processes, *quick, *options])


def ort(bundle: Path, *options: str) -> int:
    return bench(bundle, "--backend", "ort-cpu", "--seconds", "0.3", *options)


def test_the_table_shows_every_backend(
    mlp_bundle: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert bench(mlp_bundle, "--seconds", "0.3", "--batch", "2", "--processes", "1") == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert re.fullmatch(r"mlp: x \[2, \d+\], closed loop, threads 1", lines[0])
    assert re.match(r"1 fresh process x \d+ rounds in random order, \d+ s; .*", lines[1])
    assert lines[1].endswith(f", {available_cpus()} CPUs")
    header = " ".join(lines[3].split())
    assert header == (
        "p50 µs 95 % interval p90 p99 clean p50 rows/s CPU µs memory times the fastest"
    )
    rows = {line.split()[0]: line.split() for line in lines[5:8]}
    assert rows.keys() == {"ort-cpu", "libtorch", "torch"}
    assert lines[5].endswith(" 1.00")
    assert all(float(row[1].replace(",", "")) > 0 for row in rows.values())
    assert "a device that idles between them is slower: --mode paced:5ms" in out


def test_a_busy_machine_is_said(
    mlp_bundle: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (999.0, 0.0, 0.0))
    assert ort(mlp_bundle, "--threads", "64", "--seconds", "0.01", "--processes", "1") == 0
    out = capsys.readouterr().out
    assert "the machine was busy before the first call: load 999.0 on " in out
    assert f"64 threads share {available_cpus()} CPUs: they wait for one another" in out


def test_too_few_calls_are_said(mlp_bundle: Path, capsys: Out) -> None:
    assert bench(mlp_bundle, "--backend", "ort-cpu", "--seconds", "0.000001") == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("ort-cpu "))
    assert row.split()[:5] == ["ort-cpu", "—", "—", "—", "—"]
    assert re.search(
        r"ort-cpu: more calls needed: \d for p50, \d\d for p90, 65\d for p99; try --", out
    )


@pytest.mark.slow
def test_too_few_processes_give_no_interval(mlp_bundle: Path, tmp_path: Path, capsys: Out) -> None:
    page, file = tmp_path / "bench.html", tmp_path / "bench.json"
    assert ort(mlp_bundle, "--threads", "1,2", "--report", str(page), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    reason = "2 processes are too few for intervals, which take 3: --processes 3"
    assert reason in found["doubts"]
    assert reason in page.read_text("utf-8")
    assert all(v["times_fastest"]["low"] is None for v in found["variants"])
    file.write_text(json.dumps(found), "utf-8")
    assert main(["compare", str(file), str(file)]) == 0
    assert "too few processes to tell, 3 are needed: bench --processes 3" in capsys.readouterr().out
    assert ort(mlp_bundle, "--processes", "1") == 0
    assert "1 process is too few for intervals, which take 3" in capsys.readouterr().out


def test_three_processes_give_intervals(mlp_bundle: Path, capsys: Out) -> None:
    assert ort(mlp_bundle, "--threads", "1,2", "--processes", "3", "--seconds", "2") == 0
    out = capsys.readouterr().out
    rows = re.findall(r"^ort-cpu, threads \d +[\d.]+  [\d.]+ to [\d.]+ .*", out, re.MULTILINE)
    assert len(rows) == 2
    assert any(re.search(r" \d\S* \(\S+ to \S+\)$", row) for row in rows)
    assert "too few" not in out


def test_json_and_file_are_one_object(mlp_bundle: Path, tmp_path: Path, capsys: Out) -> None:
    file = tmp_path / "new" / "bench.json"
    assert ort(mlp_bundle, "--json", "--report", str(file)) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == json.loads(file.read_text("utf-8"))
    assert printed["bench_version"] == 2
    (variant,) = printed["variants"]
    assert variant["engine"]["provider"] == "CPUExecutionProvider"
    assert sum(len(r) for p in variant["rounds_ns"] for r in p) == variant["calls"] > 0


def test_a_result_is_kept_in_the_bundle(own_bundle: Path, capsys: Out) -> None:
    assert ort(own_bundle, "--save") == 0
    (own_bundle / "reports" / "bench-00000000.json").write_text("left by one that was killed")
    assert ort(own_bundle, "--save") == 0  # instead of the first
    (kept,) = (own_bundle / "reports").glob("bench-*.json")
    assert f"kept in {own_bundle}: reports/{kept.name}" in capsys.readouterr().err
    assert main(["verify", str(own_bundle), "--backend", "ort-cpu"]) == 0
    assert main(["diff", str(own_bundle), str(own_bundle)]) == 0


def test_a_result_is_kept_in_a_zip(own_bundle: Path, tmp_path: Path) -> None:
    zipped = tmp_path / "z.edge"
    assert main(["pack", str(own_bundle), "--zip", "-o", str(zipped)]) == 0
    assert ort(zipped, "--save") == 0
    assert main(["verify", str(zipped), "--backend", "ort-cpu"]) == 0


def test_a_signed_bundle_keeps_nothing(own_bundle: Path, capsys: Out) -> None:
    (own_bundle / "manifest.sig").write_text("{}", "utf-8")
    assert ort(own_bundle, "--save") == 2
    assert "is signed, and what is kept in it now" in capsys.readouterr().err


@pytest.mark.parametrize("zipped", [False, True])
def test_where_nothing_can_be_kept_nothing_is_measured(
    zipped: bool, own_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    bundle, place = own_bundle, own_bundle / "manifest.json"
    if zipped:
        bundle = place = tmp_path / "z.edge"
        assert main(["pack", str(own_bundle), "--zip", "-o", str(bundle)]) == 0
        capsys.readouterr()
    may = os.access
    monkeypatch.setattr(os, "access", lambda at, mode: at != place.parent and may(at, mode))
    assert ort(bundle, "--save") == 3
    told = capsys.readouterr()
    assert f"cannot write {place}: Permission denied\n  fix: choose another place" in told.err
    assert told.out == ""


def test_modes(mlp_bundle: Path, capsys: Out) -> None:
    assert ort(mlp_bundle, "--mode", "paced:1ms") == 0
    assert "closed loop, 1 ms between calls" in capsys.readouterr().out
    assert ort(mlp_bundle, "--mode", "poisson:500") == 0
    assert "open loop, poisson arrivals at 500/s" in capsys.readouterr().out
    assert ort(mlp_bundle, "--mode", "peak", "--slo-ms", "50", "--percentile", "50") == 0
    out = capsys.readouterr().out
    assert "highest Poisson rate with p50 within 50 ms" in out
    assert "requests/s" in out
    assert ort(mlp_bundle, "--mode", "cold") == 0
    assert "first answer" in capsys.readouterr().out


def test_the_scenarios_of_mlperf(mlp_bundle: Path, capsys: Out) -> None:
    assert ort(mlp_bundle, "--mode", "multi-stream") == 0
    assert "mlp: x [8, " in capsys.readouterr().out
    assert ort(mlp_bundle, "--mode", "offline") == 0
    assert re.search(r"mlp: x \[\d+, ", capsys.readouterr().out)


def test_a_scenario_that_a_model_has_no_batch_for(tmp_path: Path, capsys: Out) -> None:
    path = tmp_path / "fixed.edge"
    deploy.export(nn.Linear(4, 2), {"input": torch.randn(2, 4)}, path, formats=["torchscript"])
    assert bench(path, "--mode", "multi-stream") == 2
    err = capsys.readouterr().err
    assert "--mode multi-stream has 8 samples in a query, and a model takes no such batch" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seconds", "-1"), "the time to measure is -1.0 s"),
        (("--mode", "fast"), "no mode is named 'fast'"),
        (("--mode", "closed:1"), "no mode is named 'closed:1'"),
        (("--mode", "paced:5"), "--mode paced:5 names no time between calls"),
        (("--mode", "paced:86401s"), "86401 s between calls were asked for"),
        (("--mode", "poisson:0"), "--mode poisson:0 names no rate"),
        (("--mode", "poisson:0.00001"), "the rate is 1e-05 requests/s"),
        (("--mode", "peak"), "--mode peak seeks the highest rate within a bound, and none was"),
        (("--mode", "server"), "mode server seeks the highest rate within a bound, and none was"),
        (("--slo-ms", "5"), "--slo-ms goes not with --mode closed"),
        (("--mode", "multi-stream", "--batch", "4"), "--batch goes not with --mode multi-stream"),
        (("--percentile", "100"), "--percentile is 100"),
        (("--margin", "0"), "--margin is 0 %"),
        (("--shape", "a=1", "--shape", "a=2"), "--shape a was given twice"),
        (("--shape", "nothing=3"), "no input of 'mlp' has a dimension 'nothing'"),
        (("--report", "x.txt"), "--report x.txt is neither .html nor .json"),
    ],
)
def test_bad_use(mlp_bundle: Path, capsys: Out, options: tuple[str, ...], message: str) -> None:
    assert bench(mlp_bundle, "--backend", "ort-cpu", *options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "fix: " in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batch", "1,1"), "'1,1' names something twice"),
        (("--batch", "0"), "expected a number of at least 1, got '0'"),
        (("--seed", "-1"), "expected a number from 0 to 2**63 - 1, got '-1'"),
        (("--mode", "peak", "--slo-ms", "nan"), "expected a number above 0, got 'nan'"),
        (("--shape", "3"), "expected DIM=N[,N], got '3'"),
    ],
)
def test_words_that_are_none(
    mlp_bundle: Path, capsys: Out, options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit) as e:
        bench(mlp_bundle, *options)
    assert e.value.code == 2
    assert message in capsys.readouterr().err


def test_two_bundles_are_compared(mlp_bundle: Path, own_bundle: Path, capsys: Out) -> None:
    two = ("bench", str(mlp_bundle), str(own_bundle), "--backend", "ort-cpu", "--threads", "1")
    assert main([*two, "--seconds", "0.3", "--processes", "2"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"two sets of the baseline were \d+\.\d% apart", out)
    assert main([*two, "--save"]) == 2
    assert "--save keeps a result in a bundle, and several were named" in capsys.readouterr().err


def test_compare_needs_results(mlp_bundle: Path, tmp_path: Path, capsys: Out) -> None:
    file = tmp_path / "a.json"
    assert ort(mlp_bundle, "--report", str(file)) == 0
    capsys.readouterr()
    assert main(["compare", str(file), str(file)]) == 0
    assert "ort-cpu of" in capsys.readouterr().out
    assert main(["compare", str(file), str(file), "--json"]) == 0
    (comparison,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert comparison["ratio"]["value"] == 1
    assert main(["compare", str(file), str(tmp_path / "none.json")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["compare", str(file), str(tmp_path)]) == 2
    assert "is a folder, and a file is read" in capsys.readouterr().err
    assert main(["compare", str(file), str(file), "--margin", "0"]) == 2
    assert "--margin is 0 %" in capsys.readouterr().err


def test_compare_says_what_is_in_one_result_alone(
    mlp_bundle: Path, tmp_path: Path, capsys: Out
) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    assert ort(mlp_bundle, "--threads", "1,2", "--report", str(two)) == 0
    told = json.loads(two.read_text("utf-8"))
    kept, left = told["variants"]  # the fastest first
    one.write_text(json.dumps({**told, "variants": [kept]}), "utf-8")
    capsys.readouterr()
    assert main(["compare", str(one), str(two)]) == 0
    assert f"in one of them only: {left['label']}\n" in capsys.readouterr().out


def test_compare_fails_if_something_became_slower(
    mlp_bundle: Path, tmp_path: Path, capsys: Out
) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    assert ort(mlp_bundle, "--report", str(old)) == 0
    told = json.loads(old.read_text("utf-8"))
    for variant in told["variants"]:
        variant["rounds_ns"] = [[[50_000_000 + p]] for p in range(5)]
    new.write_text(json.dumps(told), "utf-8")
    old.write_text(json.dumps({**told, "variants": [
        {**v, "rounds_ns": [[[40_000_000 + p]] for p in range(5)]} for v in told["variants"]
    ]}), "utf-8")  # fmt: skip
    assert main(["compare", str(old), str(new)]) == 1
    assert "is 25.0% slower than" in capsys.readouterr().out
    assert main(["compare", str(new), str(old)]) == 0


def test_a_missing_engine(mlp_bundle: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "edgeport.runtimes.ort.cpu", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert bench(mlp_bundle, "--backend", "ort-cpu") == 3
    assert "  fix: pip install 'edgeport[ort]'" in capsys.readouterr().err
