import json
import subprocess
import sys
from pathlib import Path

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
        assert "all 48 agree" in line
    assert lines[-1].startswith("mlp: 3 of 3 backends pass on 7 samples; ratio = error / floor")


def test_json_is_one_object(mlp_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(mlp_bundle), "--backend", "ort-cpu", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["report_version"] == 1
    assert report["passed"] is True
    (backend,) = report["backends"]
    assert backend["engine"]["provider"] == "CPUExecutionProvider"
    assert len(backend["verdicts"]) == report["samples"] == 7
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
    monkeypatch.delitem(sys.modules, "edgeport.runtimes.ort", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["verify", str(mlp_bundle)]) == 0
    out = capsys.readouterr().out
    assert "- not usable here" in out
    assert "fix: pip install 'edgeport[ort]'" in out

    assert main(["verify", str(mlp_bundle), "--backend", "ort-cpu"]) == 3
    assert "ort-cpu cannot be used here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "problem", "remedy"),
    [
        (["absent.edge"], 2, "no such bundle: absent.edge", "check the path"),
        (["."], 2, "is not a bundle: it has no manifest.json", "edgeport export"),
        (["file.edge"], 2, "is not a bundle", "edgeport export"),
        (["{bundle}", "--backend", "tflite"], 2, "no backend is named 'tflite'", "ort-cpu"),
        (["{bundle}", "--backend", "null"], 2, "holds no null artefact", "ort-cpu, libtorch"),
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
    Path("file.edge").write_text("{}")
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
    assert "mlp: 1 of 1 backends pass on 7 samples" in out
    assert main(["verify", str(mlp_bundle), "--url", url]) == 3
    assert "no answer from" in capsys.readouterr().err
    assert main(["verify", str(mlp_bundle), "--url", url, "--threads", "2"]) == 2
    assert "--url was given with --backend or --threads" in capsys.readouterr().err
