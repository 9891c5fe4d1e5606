import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeport import runtimes
from edgeport.__main__ import main
from edgeport.commands import sources
from edgeport.commands.terminal import size_text

MODELS = """
import time
import numpy as np
from torch import nn


def make_model():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def through_numpy():
    class ThroughNumpy(nn.Module):
        def forward(self, x):
            return x + float(np.sin(x.numpy()).sum())
    return ThroughNumpy()


def options():
    class Options(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(4, 4)

        def forward(self, batch, state, *, mode="sum", scale=1.0):
            x, (h,) = batch["x"], state
            y = self.cell(x, h) * scale
            return {"y": y if mode == "all" else y.sum(-1), "mode": mode}
    return Options()


def leave():
    raise SystemExit(0)


def slow():
    class Slow(nn.Module):
        def forward(self, x):
            print("forward", flush=True)
            time.sleep(0.2)
            return x + 1
    return Slow()
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's repository, with folders named like ours."""
    for folder in ("training", "deploy", "runtimes"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("mine = True\n")
    (tmp_path / "deploy" / "models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("captured", [False, True])
def test_code_that_goes_elsewhere_takes_no_path_along(captured: bool, repository: Path) -> None:
    code = """
import os, torch
from torch import nn
from edgeport.deploy import capture

def make_model():
    os.chdir("/")
    return nn.Linear(4, 2)

if __name__ == "__main__":
    model = make_model()
    with capture(model):
        model(torch.ones(2, 4))
"""
    (repository / "goes.py").write_text(code)
    args = sources.SourceArgs("goes:make_model", None, ("input=float32[2,4]",), (), (), None, False)
    if captured:
        args = replace(args, model=None, capture=Path("goes.py"), inputs=())
    sources.make(args, Path("m.edge"))
    assert Path.cwd() == repository


def edgeport(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "edgeport", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_users_own_module_from_a_repository_with_our_folder_names(repository: Path) -> None:
    done = edgeport(
        "export", "deploy.models:make_model", "--input", "image=float32[batch,3,32,32]",
        "-o", "my.edge",
    )  # fmt: skip  # as a person types it
    assert done.returncode == 0, done.stderr
    assert "my: 3 of 3 backends pass on 15 samples" in done.stdout
    assert "image: float32[batch, 3, 32, 32] -> output: float32[batch, 4]" in done.stdout
    assert "opset 20, ir_version 10" in done.stdout
    golden = Path("my.edge/golden.safetensors").stat().st_size
    assert f"  golden.safetensors{size_text(golden):>10}\n" in done.stdout
    told = [" ".join(line.split()) for line in done.stderr.splitlines()]
    assert told[0].startswith("module")
    assert told[1] == "note: the module was in training mode; what is exported is its eval mode"
    assert [line.split(" ")[0] for line in told[2:]] == [
        "reference", "compilers", "onnx:", "torchscript:", "pt2:", "more",
    ]  # fmt: skip  # one line
    assert told[4].startswith("onnx: dynamo")
    assert all(line.endswith("s proved") for line in told[4:-1])
    with runtimes.open("my.edge", "ort-cpu") as session:
        answer = session.run({"image": np.zeros((5, 3, 32, 32), np.float32)})
    assert answer["output"].shape == (5, 4)


def test_samples_and_names_and_formats(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(repository))
    rows = np.random.default_rng(0).random((9, 3, 8, 8), np.float32)
    np.savez("inputs.npz", image=rows)
    (repository / "own_models.py").write_text(MODELS)
    code = main(
        ["export", "own_models:make_model", "--input", "image=float32[batch,3,8,8]", "-o", "m.edge",
         "--samples", "inputs.npz", "--output-names", "features", "--format", "onnx", "--opset",
         "18", "--json"]
    )  # fmt: skip  # as a person types it
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert report["backends"][0]["verdicts"][0]["sample"] == "real, batch=1"
    bundle = runtimes.Bundle.read(Path("m.edge"))
    np.testing.assert_array_equal(bundle.golden()[0].inputs["image"], rows[:1])
    assert [spec.name for spec in bundle.manifest.signature.outputs] == ["features"]
    assert bundle.manifest.artefacts[0].details["opset"] == 18


@pytest.mark.slow
def test_int_of_8_bits_measures_ranges_on_what_is_given_for_it(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "own_models.py").write_text(MODELS)
    rows = np.random.default_rng(0).random((40, 3, 8, 8), np.float32)
    np.savez("rows.npz", image=rows)
    command = ["export", "own_models:make_model", "--input", "image=float32[batch,3,8,8]"]
    command += ["--samples", "rows.npz", "--precision", "int8", "-o", "m.edge"]
    assert main([*command, "--min-signal", "150"]) == 1
    assert "at least 150 expected" in capsys.readouterr().err
    assert main([*command[:-4], "-o", "m.edge", "--min-signal", "30"]) == 2
    assert "--min-signal is for what computes in less" in capsys.readouterr().err
    assert main([*command, "--calibration", "none.npz"]) == 2
    assert "check the path of --calibration" in capsys.readouterr().err
    np.savez("grey.npz", image=rows[:, :1])
    np.savez("broken.npz", image=rows * np.nan)
    for name, problem in (
        ("grey.npz", "does not fit the declared inputs"),
        ("broken.npz", "has NaN or Inf in 'image'"),
    ):
        assert main([*command, "--calibration", "rows.npz", "--calibration", name]) == 2
        assert f"{name} {problem}" in capsys.readouterr().err
    assert main([*command, "--calibration", "rows.npz"]) == 0
    assert "ranges of 40 rows, given as calibration" in capsys.readouterr().out


def test_weight_streaming_is_refused_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", "run", "--format", "tensorrt-rtx", "--weight-streaming", "-o", "m.edge"]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "--weight-streaming is left out: all weights of an engine are in the memory" in told
    assert "fix: use a GPU with more memory, --precision float16 or int8, whose weights" in told


def test_files_of_samples_labels_and_a_search(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "own_models.py").write_text(MODELS)
    rows = np.random.default_rng(0).random((9, 3, 8, 8), np.float32)
    Path("real").mkdir()
    np.savez("real/a.npz", image=rows[:4])
    np.savez("real/b.npz", image=rows[4:])
    np.save("labels.npy", np.arange(9) % 4)
    command = [
        "export", "own_models:make_model", "--input", "image=float32[batch,3,8,8]",
        "--samples", "real", "--labels", "labels.npy", "--format", "torchscript",
    ]  # fmt: skip  # as a person types it
    code = main([*command, "--search-seconds", "1", "--report", "m.json", "-o", "m.edge"])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert re.search(r"libtorch: accuracy 0\.\d+, the module's is 0\.\d+, on 9 labels; 0 lost", out)
    assert re.search(
        r"search, libtorch +\S+  floors at worst in [\d,]+ inputs; \S+ on the samples", err
    )
    told = json.loads(Path("m.json").read_text())
    assert told["scores"][0]["rows"] == 9
    assert told["searches"][0]["steps"] > 0
    np.save("labels.npy", np.arange(8) % 4)
    assert main([*command, "-o", "n.edge"]) == 2
    assert "labels int64[8] do not fit the first output, float32[9, 4]" in capsys.readouterr().err


def test_nested_inputs_constants_and_a_debug_map(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "own_models.py").write_text(MODELS)
    code = main(
        ["export", "own_models:options", "--input", "state.0=float32[rows,4]", "--input",
         "batch.x=float32[rows,4]", "--argument", "scale=3.5", "--argument", "mode=all",
         "-o", "m.edge", "--format", "onnx", "--debug-map", "--target", "ort-1.16"]
    )  # fmt: skip  # as a person types it
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "  in     batch_x: float32[rows, 4]\n  in     state_0: float32[rows, 4]\n" in out
    assert "  as     {'y': y, 'mode': 'all'}\n" in out
    assert "opset 19, ir_version 9, target ort-1.16" in out
    assert "m.debug-map.json is private" in err
    nodes = json.loads((repository / "m.debug-map.json").read_text())["nodes"]
    assert "cell" in {node["module"] for node in nodes}
    assert not list(Path("m.edge").rglob("*debug*"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("false", False),
        ("False", False),
        ("None", None),
        ("null", None),
        (".5", 0.5),
        ("(2, 3)", (2, 3)),
        ("[2, 3]", [2, 3]),
        ("mean", "mean"),
        ("01", "01"),
        ("'1'", "1"),
        ('"False"', "False"),
    ],
)
def test_an_argument_is_a_value_of_json_or_python_or_else_a_text(text: str, value: object) -> None:
    found = sources._constants([f"x={text}"])["x"]
    assert (type(found), found) == (type(value), value)


def test_samples_alone_say_what_goes_in(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "own_models.py").write_text(MODELS)
    draw = np.random.default_rng(0).standard_normal
    real: dict[str, Any] = {name: draw((5, 4)).astype("f4") for name in ("batch.x", "state.0")}
    np.savez("real.npz", **real)
    code = main(
        ["export", "own_models:options", "--samples", "real.npz", "-o", "m.edge", "--format", "pt2"]
    )
    assert code == 0, capsys.readouterr().err
    assert (
        "  in     batch_x: float32[batch, 4]\n  in     state_0: float32[batch, 4]\n"
        in capsys.readouterr().out
    )


CAPTURE = """
import torch
from edgeport.deploy import capture
from own_models import options

module = options()
with capture(module):
    for rows in (2, 5):
        module({"x": torch.randn(rows, 4)}, (torch.randn(rows, 4),), scale=2.0)
"""


def test_a_script_says_how_the_module_is_called(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "own_models.py").write_text(MODELS)
    (repository / "predict.py").write_text(CAPTURE)
    command = ["export", "--capture", "predict.py", "-o", "m.edge", "--format", "torchscript"]
    code = main(command)
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "  in     batch_x: float32[batch, 4]\n  in     state_0: float32[batch, 4]\n" in out
    assert "  as     {'y': y, 'mode': 'sum'}\n" in out


@pytest.mark.parametrize(
    ("arguments", "code", "problem", "remedy"),
    [
        (["absent.py:make"], 2, "does not name a callable", "package.file:callable"),
        (["own_models:absent"], 2, "own_models has no 'absent'", "make_model"),
        (["own_models:make_model"], 2, "needs its inputs declared", "--input NAME=DTYPE"),
        (["own_models:make_model", "--input", "x"], 2, "cannot read the input 'x'", "like image"),
        (
            ["own_models:make_model", "--input", "image=float32[batch,4,8,8]"],
            2,
            "Sequential fails on image [2, 4, 8, 8]",
            "samples say which values are valid",
        ),
        (
            [
                "own_models:through_numpy",
                "--input",
                "x=float32[batch,4]",
                "--format",
                "torchscript",
            ],
            1,
            "TorchScript: ThroughNumpy cannot be compiled",
            "use torch's function of the same name",
        ),
        (
            ["own_models:make_model", "--input", "i=float32[n,3,8,8]", "--samples", "absent.npz"],
            2,
            "no such file: absent.npz",
            "check the path of --samples",
        ),
        (
            [
                "own_models:make_model",
                "--input",
                "i=float32[n,3,8,8]",
                "--samples",
                "own_models.py",
            ],
            2,
            "own_models.py is not an .npz of plain arrays",
            "np.savez",
        ),
        (["own_models:leave"], 2, "own_models:leave raised SystemExit: 0", "fix that error"),
        (
            ["own_models:make_model", "--input", "i=float32[n,3,8,8]", "--opset", "0"],
            2,
            "opset 0",
            "13 to 24",
        ),
        (
            ["own_models.make_model"],
            2,
            "no such run: own_models.make_model",
            "package.file:callable",
        ),
        (["x" * 300], 2, "no such run: xxx", "package.file:callable"),
        (["runs/absent"], 2, "runs/absent", "edgeport train"),
        (["own_models.py"], 2, "own_models.py is a file, and neither a run nor", "own_models:make"),
        (["weights.pt"], 2, "weights.pt is a file, and neither a run nor", "load_state_dict"),
        (["foreign.onnx"], 2, "foreign.onnx is a file, and neither a run nor", "assert_parity"),
        ([], 2, "there is nothing to export", "--capture"),
        (["own_models:options", "--argument", "scale"], 2, "the argument 'scale'", "NAME=VALUE"),
        (
            ["own_models:options", "--argument", "scale=1", "--argument", "scale=2"],
            2,
            "--argument gives 'scale' twice",
            "give one of them",
        ),
        (
            ["own_models:make_model", "--input", "x=float32[4]", "--argument", "x=1"],
            2,
            "x is both an input and an --argument",
            "choose one",
        ),
        (
            ["a:b", "--debug-map", "--format", "torchscript,pt2"],
            2,
            "--debug-map is for ONNX, and --format asks for torchscript, pt2",
            "add onnx",
        ),
        (
            ["a:b", "--opset", "0", "--format", "pt2"],
            2,
            "--opset is for ONNX, and --format asks for pt2",
            "leave --opset out",
        ),
        (["a:b", "--capture", "own_models.py"], 2, "a captured script says", "leave the model"),
        (["--capture", "absent.py"], 2, "absent.py", "path"),
        (["--capture", "own_models.py"], 2, "own_models.py", "capture("),
        (["a:b", "--target", "ort-9"], 2, "ort-9", "ort-1.20"),
        (["a:b", "--report", "story.txt"], 2, "neither .html nor .json", "name it so"),
        (["own_models:make_model", "--max-ratio", "0"], 2, "--max-ratio is 0", "above 0"),
        (["own_models:make_model", "--max-ratio", "y=nan"], 2, "of y is nan", "above 0"),
    ],
)
def test_bad_input(
    arguments: list[str],
    code: int,
    problem: str,
    remedy: str,
    repository: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (repository / "own_models.py").write_text(MODELS)
    for file in ("weights.pt", "foreign.onnx"):
        (repository / file).touch()
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    assert main(["export", *arguments, "-o", "m.edge"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert problem in err
    assert remedy in err
    assert not list(repository.glob("*m.edge*"))


@pytest.mark.parametrize(
    ("options", "code", "problem"),
    [
        (["--refit"], 2, "an option of TensorRT was given, and --format asks for no engine"),
        (
            ["--format", "tensorrt", "--compute-capability", "8.6"],
            2,
            "is for --format tensorrt-rtx",
        ),
        (["--format", "tensorrt-rtx", "--timing-cache", "t"], 2, "is for --format tensorrt: "),
        (
            ["--format", "tensorrt-rtx", "--compute-capability", "9.0"],
            2,
            "no compute capability '9.",
        ),
        (["--format", "tensorrt"], 3, "TensorRT is not installed: there is no module 'tensorrt'"),
    ],
)
def test_an_engine_that_cannot_be_built_is_refused_before_anything_is_compiled(
    repository: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    problem: str,
) -> None:
    library = "tensorrt_rtx" if "9.0" in options else "tensorrt" if code == 3 else ""
    if library and (importlib.util.find_spec(library) is None) == (library == "tensorrt_rtx"):
        pytest.skip(f"{library} is {'not ' if library == 'tensorrt_rtx' else ''}installed here")
    arguments = ["deploy.models:make_model", "--input", "x=float32[batch,3,8,8]", "-o", "m.edge"]
    assert main(["export", *arguments, *options]) == code
    err = capsys.readouterr().err
    assert problem in err
    assert "reference" not in err
    assert not list(repository.glob("*m.edge*"))


def test_an_existing_output_is_refused_at_once(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "m.edge").mkdir()
    assert main(["export", "whatever:it_is", "-o", "m.edge"]) == 2
    assert "m.edge exists already" in capsys.readouterr().err


def test_ctrl_c_leaves_nothing_but_the_report(repository: Path) -> None:
    command = [sys.executable, "-m", "edgeport", "export", "deploy.models:slow"]
    command += ["--input", "x=float32[batch,2]", "-o", "m.edge", "--report", "story.json"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    deadline = time.monotonic() + 30
    while not list(repository.glob(".m.edge.*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "edgeport: interrupted; nothing but the report was written"
    assert not list(repository.glob("*m.edge*"))
    assert (repository / "story.json").exists()


@pytest.mark.slow
def test_a_narrower_precision_is_told_by_every_command(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "own_models.py").write_text(MODELS)
    given = ["own_models:make_model", "--input", "image=float32[batch,3,32,32]"]
    asked = [*given, "--precision", "int8", "-o", "m.edge", "--report", "m.json"]
    code = main(["export", *asked])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert re.search(r"ort-cpu  output  \S+ +\d\d\.\d dB  random", out)
    assert "m: 1 of 1 backends pass on" in out
    assert "samples; int8: signal over noise, at least 20 dB\n" in out
    assert "quantization static, 100% of the weights" in out
    assert re.search(r"onnx: int8 static +\d+\.\d s  proved", err)
    assert json.loads(Path("m.json").read_text())["asked"]["precision"] == "int8"

    assert main(["inspect", "m.edge"]) == 0
    seen = capsys.readouterr().out
    assert re.search(r"^onnx +int8 ", seen, re.MULTILINE)
    assert "noise floor at most 8, int8 signal over noise at least 20 dB\n" in seen
    assert re.search(r"\) pass, int8, \d\d\.?\d* dB over noise\n", seen)

    assert main(["export", *given, "--format", "onnx", "-o", "wide.edge"]) == 0
    capsys.readouterr()
    assert main(["diff", "wide.edge", "m.edge"]) == 0
    changed = capsys.readouterr().out
    assert re.search(r"^onnx precision +float32 +int8$", changed, re.MULTILINE)
    assert re.search(r"pass, worst ratio \S+ +pass, int8, \d+\.?\d* dB over noise", changed)

    assert main(["export", *given, "--precision", "int4", "-o", "no.edge"]) == 2
    assert "there is no --precision int4" in capsys.readouterr().err
