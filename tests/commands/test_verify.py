import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeport.__main__ import main


def test_a_good_bundle_passes(mlp_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(mlp_bundle)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert " ".join(lines[0].split()) == (
        "backend output error floor ratio worst on decisions verdict"
    )
    for line, backend in zip(lines[2:5], ("ort-cpu", "libtorch", "torch"), strict=True):
        assert line.startswith(backend)
        assert line.endswith("✓ pass")
        assert "all 61 agree" in line
    assert lines[-1].startswith("mlp: 3 of 3 backends pass on 15 samples; ratio = error / floor")


@pytest.mark.slow
def test_torch_needs_no_cache_of_an_earlier_run(mlp_bundle: Path, tmp_path: Path) -> None:
    """As on a machine that was just started: torch makes its cache folder while it opens a file."""
    command = [sys.executable, "-m", "edgeport", "verify", str(mlp_bundle), "--backend", "torch"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stdout
    assert "1 of 1 backends pass" in done.stdout


def test_json_is_one_object(mlp_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(mlp_bundle), "--backend", "ort-cpu", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["report_version"] == 3
    assert report["passed"] is True
    (backend,) = report["backends"]
    assert backend["engine"]["provider"] == "CPUExecutionProvider"
    assert len(backend["verdicts"]) == report["samples"] == 15
    assert all(verdict["figures"]["ratio"] < 8 for verdict in backend["verdicts"])


def test_a_flipped_byte_names_the_file(
    own_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = own_bundle / "model.ts"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert main(["verify", str(own_bundle)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "model.ts is not the file that was packed" in err
    assert "  fix: " in err
    assert "Traceback" not in err


def test_a_model_that_computes_something_else_fails(
    own_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The weights are changed, and the hash in the manifest with them."""
    import hashlib

    import onnx
    from onnx import numpy_helper

    file = own_bundle / "model.onnx"
    model = onnx.load(file)
    weight = next(w for w in model.graph.initializer if len(w.dims) == 2)
    array = numpy_helper.to_array(weight).copy()
    array[0, 0] *= 2
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(model, file)
    manifest = json.loads((own_bundle / "manifest.json").read_text())
    entry = next(a for a in manifest["artefacts"] if a["format"] == "onnx")
    entry["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    entry["size_bytes"] = file.stat().st_size
    (own_bundle / "manifest.json").write_text(json.dumps(manifest))

    assert main(["verify", str(own_bundle)]) == 1
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("ort-cpu"))
    assert row.endswith("✗ FAIL")
    assert "times the floor, 8 allowed; largest at [" in out
    assert "2 of 3 backends pass" in out


def test_a_missing_engine_is_neither_right_nor_wrong(
    mlp_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "edgeport.runtimes.ort.cpu", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["verify", str(mlp_bundle)]) == 0
    out = capsys.readouterr().out
    assert "- not usable here" in out
    assert "fix: pip install 'edgeport[ort]'" in out
    assert "2 of 2 backends pass on 15 samples (1 cannot be used here)" in out

    assert main(["verify", str(mlp_bundle), "--backend", "ort-cpu"]) == 3
    assert "ort-cpu cannot be used here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "problem", "remedy"),
    [
        (["absent.edge"], 2, "no such bundle: absent.edge", "check the path"),
        (["."], 2, "is not a bundle: it has no manifest.json", "edgeport export"),
        (["file.edge"], 2, "is not a bundle: it is no zip file", "edgeport pack"),
        (["of_somebody.onnx"], 2, "is a model by its name, and not a bundle", "assert_parity"),
        (["bench.json"], 2, "is a report by its name, and not a bundle", "edgeport compare OLD"),
        (["run"], 2, "is not a bundle: it has no manifest.json", "edgeport export run -o NAME"),
        (["{bundle}", "--backend", "tflite"], 2, "no backend is named 'tflite'", "ort-cpu"),
        (
            ["{bundle}", "--backend", "null"],
            2,
            "holds no null artefact",
            "ort-cpu, ort-cuda, libtorch",
        ),
    ],
)
def test_bad_input(
    arguments: list[str],
    code: int,
    problem: str,
    remedy: str,
    mlp_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file.edge", "of_somebody.onnx", "bench.json", "run/run.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("{}")
    arguments = [argument.replace("{bundle}", str(mlp_bundle)) for argument in arguments]
    assert main(["verify", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert problem in err
    assert remedy in err


@pytest.mark.parametrize("threads", ["0", "-1", "many"])
def test_threads_must_be_a_number(
    mlp_bundle: Path, threads: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["verify", str(mlp_bundle), "--threads", threads])
    assert "expected a number of at least 1" in capsys.readouterr().err


# ---- stored verdicts, other bars


def stored(bundle: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    main(["verify", str(bundle), "--json", "--backend", "ort-cpu", *arguments])
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def test_a_stored_report_says_nothing_to_the_terminal(
    mlp_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    escaped = json.dumps(stored(mlp_bundle, capsys)).replace('"output": "', '"output": "\\u001b[2J')
    value = json.loads(escaped)
    value |= {"name": "\x1b]0;", "thresholds": {**value["thresholds"], "max_ratio": 1e-9}}
    value["backends"][0] |= {"backend": "\x9b", "reason": "\x1b"}
    file = tmp_path / "verdicts.json"
    file.write_text(json.dumps(value))
    assert main(["verify", "--from", str(file)]) == 1
    out = capsys.readouterr().out
    assert {c for c in out if not c.isprintable()} == {"\n"}
    assert out.count("\\x1b") > 3


def test_stored_verdicts_are_judged_again(
    mlp_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = stored(mlp_bundle, capsys)
    file = tmp_path / "verdicts.json"
    file.write_text(json.dumps(value))
    assert main(["verify", str(mlp_bundle), "--backend", "ort-cpu"]) == 0
    table = capsys.readouterr().out
    assert main(["verify", "--from", str(file)]) == 0
    assert capsys.readouterr().out == table
    assert main(["verify", "--from", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == value

    assert main(["verify", "--from", str(file), "--max-ratio", "1e-3"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "times the floor, 0.001 allowed; largest at [" in out
    assert "0 of 1 backends pass on 15 samples; ratio = error / floor, at most 0.001" in out
    output = value["outputs"][0]["name"]
    lenient = [f"--max-ratio={each}" for each in ("1e-3", f"{output}=8")]
    assert main(["verify", "--from", str(file), *lenient]) == 0
    said = f"at most 0.001 (0.000354 in the median, 0.004 on edge cases), 8 of {output}"
    assert said in capsys.readouterr().out


def test_no_name_of_a_stranger_moves_the_cursor(
    mlp_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = stored(mlp_bundle, capsys, "--max-ratio", "1e-3")
    for told in (value, *value["backends"]):
        told["name" if told is value else "backend"] += "\x1b[2J"
    for verdict in value["backends"][0]["verdicts"]:
        verdict["sample"] += "\x1b[2J"
    (tmp_path / "v.json").write_text(json.dumps(value))
    assert main(["verify", "--from", str(tmp_path / "v.json")]) == 1
    out = capsys.readouterr().out
    assert out.count("ort-cpu\\x1b[2J") == 2
    assert f"{value['name'][:-4]}\\x1b[2J: 0 of 1 backends" in out
    assert "\x1b" not in out


def test_what_a_bundle_holds_can_be_judged_too(
    mlp_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(mlp_bundle / "reports" / "parity.json")
    assert main(["verify", "--from", file]) == 0
    assert "3 of 3 backends pass" in capsys.readouterr().out
    assert main(["verify", "--from", file, "--max-ratio", "1e-3"]) == 1
    capsys.readouterr()


def test_a_bundle_under_another_bar(mlp_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(mlp_bundle), "--backend", "ort-cpu", "--max-ratio", "1e-3"]) == 1
    assert "0.001 allowed" in capsys.readouterr().out
    assert main(["verify", str(mlp_bundle), "--max-ratio", "absent=2"]) == 2
    assert "no output is named 'absent'\n  fix: the outputs are" in capsys.readouterr().err


def test_what_changes_nothing_is_told(
    mlp_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = tmp_path / "verdicts.json"
    report = json.loads((mlp_bundle / "reports" / "parity.json").read_text())
    stored.write_text(json.dumps(report))
    assert main(["verify", "--from", str(stored), "--min-signal", "30"]) == 0
    told = "--min-signal changes nothing: nothing here computes in less than the module"
    assert told in capsys.readouterr().err

    for backend in report["backends"]:
        backend["reduced"] = "int8"
    stored.write_text(json.dumps(report))
    assert main(["verify", "--from", str(stored), "--max-ratio", "4"]) == 0
    err = capsys.readouterr().err
    told = "for ort-cpu, libtorch, torch: int8 has no floor, its bar is --min-signal DB"
    assert f"--max-ratio changes nothing {told}" in err
    assert main(["verify", "--from", str(stored), "--min-signal", "180"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "at least 180 expected" in out


@pytest.mark.parametrize("text", ["many", "", "-1", "201", "nan", "inf", "30dB"])
def test_a_signal_that_is_no_number_of_decibels(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["verify", "m.edge", "--min-signal", text])
    told = f"--min-signal: expected decibels from 0 to 200, such as 30, got {text!r}"
    assert told in capsys.readouterr().err


def test_nothing_usable_is_an_error_when_it_is_judged_again_too(
    mlp_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = stored(mlp_bundle, capsys)
    value["backends"][0] |= {
        "outcome": "unusable",
        "reason": "it is not here",
        "remedy": "install it",
        "engine": None,
        "verdicts": [],
    }
    (tmp_path / "v.json").write_text(json.dumps(value))
    assert main(["verify", "--from", str(tmp_path / "v.json")]) == 3
    out, err = capsys.readouterr()
    assert "- not usable here" in out
    assert "nothing was verified\n  fix: install it" in err


@pytest.mark.parametrize(
    ("arguments", "problem", "remedy"),
    [
        ([], "nothing to verify was given", "--from"),
        (["--from", "absent.json"], "no such file: absent.json", "check the path"),
        (["--from", "v.json", "a.edge"], "--from judges stored figures and runs", "leave --from"),
        (["--from", "v.json", "--threads", "1"], "runs nothing, so it takes no", "leave --from"),
        (["--from", "v.json", "--device", "cpu"], "runs nothing, so it takes no", "leave --from"),
        (["--from", "v.json", "--require-signature"], "so it takes no bundle", "leave --from"),
        (["--from", "v.json", "--public-key", "k.pub"], "so it takes no bundle", "leave --from"),
        (["--from", "v.json", "--tf32"], "so it takes no bundle, --url, sig", "leave --from"),
        (["--from", "v.json", "--time-limit", "9"], "so it takes no bundle", "leave --from"),
        (["--from", "v.json", "--backend", "torch"], "runs nothing, so it takes", "leave --from"),
        (["--from", "v.json"], "v.json is no report of edgeport verify: 'name' is m", "make one"),
        (["--from", "old.json"], "old.json: it has report version 1, this edgeport", "make it"),
        (["--from", "junk.json"], "junk.json is no report of edgeport verify: Expec", "make one"),
        (["a.edge", "--report", "r.txt"], "--report r.txt is neither .html nor .json", "name it"),
        (["a.edge", "--max-ratio", "-1"], "--max-ratio is -1", "use a number above 0"),
    ],
)
def test_what_cannot_be_judged(
    arguments: list[str],
    problem: str,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("v.json").write_text('{"report_version": 3}')
    Path("old.json").write_text('{"report_version": 1}')
    Path("junk.json").write_text("junk")
    assert main(["verify", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert problem in err
    assert remedy in err


def test_a_folder_holds_no_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--from", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path} is a folder, and a file is read\n  fix: name a file, such as NAME" in err


def test_the_report_is_written_whether_it_passes_or_fails(
    mlp_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, plain = tmp_path / "new" / "verify.html", tmp_path / "verify.json"
    arguments = ["verify", str(mlp_bundle), "--backend", "ort-cpu"]
    assert main([*arguments, "--report", str(page)]) == 0
    assert f"every figure: {page}" in capsys.readouterr().err
    assert "computes what PyTorch computes" in page.read_text()
    assert main([*arguments, "--max-ratio", "1e-3", "--report", str(page)]) == 1
    assert "is wrong on ort-cpu" in page.read_text()
    capsys.readouterr()
    assert main([*arguments, "--max-ratio", "1e-3", "--report", str(plain), "--json"]) == 1
    assert json.loads(plain.read_text()) == json.loads(capsys.readouterr().out)
    assert main(["verify", "--from", str(plain), "--max-ratio", "8", "--report", str(page)]) == 0
    assert "computes what PyTorch computes" in page.read_text()
    capsys.readouterr()
    assert main([*arguments, "--report", "/proc/verify.html"]) == 3
    out, err = capsys.readouterr()
    assert "cannot write /proc/verify.html" in err
    assert "1 of 1 backends pass" in out


def test_through_a_server(mlp_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "edgeport", "serve", str(mlp_bundle), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split(" on ")[1].split()[0]
        assert main(["verify", str(mlp_bundle), "--url", url]) == 0
        out = capsys.readouterr().out
        assert main(["verify", str(mlp_bundle), "--url", f"{url}/v2/models/other"]) == 2
        assert "no model is named 'other'" in capsys.readouterr().err
        server.terminate()
    assert out.splitlines()[2].startswith(url.removeprefix("http://"))
    assert "mlp: 1 of 1 backends pass on 15 samples" in out
    assert main(["verify", str(mlp_bundle), "--url", url]) == 3
    assert "no answer from" in capsys.readouterr().err
    assert main(["verify", str(mlp_bundle), "--url", url, "--threads", "2"]) == 2
    assert "--url was given with --backend, --threads, --device or" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "predict", "bench", "serve"])
@pytest.mark.parametrize("device", ["gpu", "cuda:x", "-1"])
def test_a_device_that_makes_no_sense(
    command: str, device: str, mlp_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = mlp_bundle / "x.npz"
    more = ["--input", str(rows)] if command == "predict" else []
    assert main([command, str(mlp_bundle), *more, "--device", device]) == 2
    assert capsys.readouterr().err == (
        f"edgeport: there is no device {device!r}\n"
        "  fix: use cpu, cuda or cuda:N, where cuda:0 is the first GPU, as cuda is\n"
    )


def test_only_backends_that_run_on_the_device(
    mlp_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(mlp_bundle), "--backend", "ort-cpu", "--device", "cuda"]) == 2
    assert "backend 'ort-cpu' runs on cpu, not on cuda\n" in capsys.readouterr().err
    assert main(["verify", str(mlp_bundle), "--device", "cpu", "--json"]) == 0
    backends = json.loads(capsys.readouterr().out)["backends"]
    assert {told["engine"]["device"] for told in backends} == {"cpu"}
