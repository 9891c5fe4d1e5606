import json
import os
import sys
from pathlib import Path

import pytest

from edgeport.__main__ import main
from edgeport.runtimes.cpus import available_cpus


def bench(bundle: Path, *options: str) -> int:
    return main(["bench", str(bundle), "--threads", "1", *options])


def test_the_table_shows_every_backend(
    mlp_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert bench(mlp_bundle, "--seconds", "2", "--batch", "2") == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("mlp: x [2, ")
    assert ", threads 1, " in lines[0]
    assert " rounds in random order over " in lines[0]
    assert lines[1].endswith(f", {available_cpus()} CPUs")
    header = " ".join(lines[3].split())
    assert header == "backend calls p50 µs 95 % interval p90 p99 times the fastest"
    rows = {line.split()[0]: line.split() for line in lines[5:8]}
    assert rows.keys() == {"ort-cpu", "libtorch", "torch"}
    assert lines[5].endswith(" 1.00")
    assert all(float(row[2].replace(",", "")) > 0 for row in rows.values())
    assert lines[-1] == "calls follow one another; a device that idles between them is slower"


def test_a_busy_machine_is_said(
    mlp_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (999.0, 0.0, 0.0))
    assert bench(mlp_bundle, "--backend", "ort-cpu", "--seconds", "0.1") == 0
    assert "the machine was busy before the first call: load 999.0 on " in capsys.readouterr().out


def test_too_few_calls_are_said(mlp_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(mlp_bundle, "--backend", "ort-cpu", "--seconds", "0.000001") == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("ort-cpu "))
    assert row.split() == ["ort-cpu", "2", "—", "—", "—", "—", "—"]
    assert "ort-cpu: more calls needed for p50 9, p90 62, p99 660; try --seconds 1" in out


def test_json_and_file_are_one_object(
    mlp_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    options = ("--backend", "ort-cpu", "--seconds", "0.3", "--json", "-o", str(file))
    assert bench(mlp_bundle, *options) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == json.loads(file.read_text("utf-8"))
    assert printed["bench_version"] == 1
    (backend,) = printed["backends"]
    assert backend["engine"]["provider"] == "CPUExecutionProvider"
    assert sum(map(len, backend["rounds_ns"])) == backend["calls"] > 0


def test_an_existing_file_is_kept(
    mlp_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    file.write_text("mine", "utf-8")
    assert bench(mlp_bundle, "-o", str(file)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "bench.json exists already" in err
    assert file.read_text("utf-8") == "mine"


def test_a_bad_time(mlp_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(mlp_bundle, "--seconds", "-1") == 2
    assert "the time to measure is -1.0 s" in capsys.readouterr().err


def test_a_missing_engine(
    mlp_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "edgeport.runtimes.ort", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert bench(mlp_bundle, "--seconds", "0.2") == 0
    out = capsys.readouterr().out
    assert "ort-cpu: backend 'ort-cpu' needs 'onnxruntime', which is not installed" in out
    assert "  fix: pip install 'edgeport[ort]'" in out
    assert bench(mlp_bundle, "--backend", "ort-cpu") == 3
    assert "  fix: pip install 'edgeport[ort]'" in capsys.readouterr().err
