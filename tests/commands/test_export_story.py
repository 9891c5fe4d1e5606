"""``--report``: the story of an export, as JSON and as a page."""

import json
import re
import sys
from pathlib import Path

import pytest
from page import Page

from edgeport.__main__ import main
from edgeport.commands.export_page import page
from edgeport.commands.export_story import Story
from edgeport.deploy import Request
from edgeport.runtimes import ExportError, PlaceError, files

MODELS = """
from torch import nn


def fine():
    class Fine(nn.Module):
        def forward(self, x):
            return {"<b>": x.sin(), "where": x.argmax(-1)}
    return Fine()


def wrong():
    class Wrong(nn.Module):
        def forward(self, x):
            return x + float(x.numpy().sum())
    return Wrong()


def broken():
    raise ValueError("<script>alert(1)</script>")
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "story_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "story_models", raising=False)
    return tmp_path


def export(model: str, report: str, *more: str) -> int:
    return main(
        ["export", f"story_models:{model}", "--input", "x=float32[batch,4]", "-o", "m.edge",
         "--format", "torchscript", "--report", report, *more]
    )  # fmt: skip  # as a person types it


def test_a_success_as_json_and_as_a_page(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("fine", "out/story.json") == 0, capsys.readouterr().err
    told = json.loads(Path("out/story.json").read_text())
    assert told["export_report_version"] == 1
    assert (told["passed"], told["error"], told["bundle"]) == (True, None, "m.edge")
    assert [(a["route"], a["outcome"]) for a in told["attempts"]][-1][1] == "proved"
    assert told["parity"] == json.loads(Path("m.edge/reports/parity.json").read_text())
    assert str(models) not in Path("out/story.json").read_text()
    found = Page(page(told))
    assert "m.edge is proved" in found.text
    assert "float32" in found.text
    assert "<b>" in found.text
    assert "script" not in found.names
    ratio = max(v["figures"]["ratio"] for v in told["parity"]["backends"][0]["verdicts"])
    assert f"{ratio:.3g}" in found.text


def test_an_onnx_export_as_a_page(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("fine", "story.html", "--format", "onnx", "--target", "ort-1.20") == 0
    parity = json.loads(Path("m.edge/reports/parity.json").read_text())
    written = Path("story.html").read_text()
    text = Page(written).text
    assert "dynamo ✓ proved" in text
    assert "ort-cpu, graph as written model.onnx, onnxruntime" in text
    assert "opset 20, ir version 10" in text
    assert "target ort-1.20" in text
    for verdict in parity["backends"][0]["verdicts"]:
        if verdict["output"] == "<b>" and verdict["sample"] not in ("NaN", "+Inf", "-Inf"):
            assert f"{verdict['sample']}: {verdict['figures']['ratio']:.3g}" in text
    assert str(models) not in written
    assert str(Path.home()) not in written


@pytest.mark.parametrize("report", ["out.txt", "html", "out.html.gz"])
def test_another_kind_of_report_is_refused_at_once(
    report: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("absent", report) == 2
    assert f"--report {report} is neither .html nor .json" in capsys.readouterr().err


def test_a_failure_is_told_too(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("wrong", "story.html") == 1
    found = Page(Path("story.html").read_text())
    text = found.text
    assert "m.edge was not exported" in text
    assert "TorchScript: Wrong " in text
    assert "story_models.py:15" in text
    assert "use torch's function of the same name" in text
    assert "report: story.html" in capsys.readouterr().err
    assert not Path("m.edge").exists()


def test_a_failure_before_anything_is_compiled(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("broken", "story.html") == 2
    text = Path("story.html").read_text()
    assert "<script>" not in text
    assert "<script>alert(1)</script>" in Page(text).text


def test_a_report_that_cannot_be_written_does_not_hide_the_failure(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("wrong", "/proc/story.html") == 1
    err = capsys.readouterr().err
    assert "the report was not written: cannot write /proc/story.html" in err
    assert "TorchScript: Wrong " in err


def story(report: str) -> Story:
    return Story(Path("m.edge"), Path(report), Request())


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), RuntimeError("a fault of ours")])
def test_an_interrupted_report_does_not_hide_the_failure(
    stop: BaseException,
    models: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(path: Path, data: str) -> None:
        raise stop

    monkeypatch.setattr(files, "write", interrupted)
    with pytest.raises(ExportError, match="no compiler"), story("story.html"):
        raise ExportError("no compiler takes it", remedy="change it")
    assert f"the report was not written: {type(stop).__name__}" in capsys.readouterr().err
    with pytest.raises(type(stop)), story("story.html"):
        pass


def test_a_report_that_cannot_be_written_after_a_success(models: Path) -> None:
    with pytest.raises(PlaceError, match="file is no folder") as caught, story("file/story.html"):
        Path("file").write_text("")
    assert caught.value.remedy.startswith("the bundle is complete")


@pytest.mark.parametrize(
    ("error", "kind", "problem", "remedy"),
    [
        (ExportError("a", remedy="b"), "ExportError", "a", "b"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "interrupted", "start it again"),
        (MemoryError(), "MemoryError", "MemoryError", "--debug"),
        (RuntimeError("a fault"), "RuntimeError", "RuntimeError: a fault", "--debug"),
    ],
)
def test_whatever_ends_an_export_is_told(
    error: BaseException, kind: str, problem: str, remedy: str, models: Path
) -> None:
    with pytest.raises(type(error)), story("story.json"):
        raise error
    told = json.loads(Path("story.json").read_text())
    assert not told["passed"]
    assert (told["error"]["kind"], told["error"]["problem"]) == (kind, problem)
    assert remedy in told["error"]["remedy"]
    assert set(told["versions"]) >= {"edgeport", "python", "torch", "onnx", "onnxruntime"}
    assert told["asked"]["max_ratio"] == 8
    assert "was not exported" in page(told)


def test_folders_of_this_machine_are_shortened(models: Path) -> None:
    inside, near = models / "deep" / "model.py", models.with_name(f"{models.name}-2")
    library = Path(sys.prefix) / "lib" / "torch.py"
    problem = f"{inside}:3 fails, '{library}' too\n{models}: {near}; a/b{models}"
    with pytest.raises(ExportError), story("story.json"):
        raise ExportError(problem, remedy=f"see {Path.home()}/log")
    told = json.loads(Path("story.json").read_text())["error"]
    first = "./deep/model.py:3 fails, '(python)/lib/torch.py' too"
    assert told["problem"] == f"{first}\n.: {near}; a/b{models}"
    assert told["remedy"] == "see ~/log"


def test_a_running_step_is_shown_on_a_terminal(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert export("fine", "story.json") == 0
    err = capsys.readouterr().err
    assert "  torchscript: script …\r\x1b[2K  torchscript: script" in err
    cleared = re.findall(r"\r\x1b\[2K  (?!reference [█░])", err)  # bars are drawn now and then
    assert err.count("…") == len(cleared)
