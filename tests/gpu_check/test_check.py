"""A check from end to end: rehearsed on the CPU, cut off, gone on with, and read as a page."""

import contextlib
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from page import EVIL, Page

from edgeport.gpu_check import machine
from edgeport.gpu_check.__main__ import CheckArgs, main, run
from edgeport.gpu_check.child import Child
from edgeport.gpu_check.commands import COMMANDS
from edgeport.gpu_check.journal import JOURNAL
from edgeport.gpu_check.models import Model, by_interest
from edgeport.gpu_check.page import page
from edgeport.gpu_check.tasks import Place, Prove
from edgeport.runtimes import BackendMissingError, EngineError
from edgeport.runtimes.cuda.gpus import Gpus

REPORT = "rehearsal-report.json"


@pytest.fixture
def models(packed: Path, tmp_path: Path) -> Path:
    """One bundle that is right, one whose answers are wrong, one that is none."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copytree(packed, folder / "good.edge")
    wrong = shutil.copytree(packed, folder / "wrong.edge")
    manifest = json.loads((wrong / "manifest.json").read_text())
    manifest["thresholds"]["max_ratio"] = 1e-9
    (wrong / "manifest.json").write_text(json.dumps(manifest))
    (folder / "none.edge").mkdir()
    return folder


def rehearse(models: Path, output: Path) -> int:
    """In as little time as may be given, which stands still: every step is reached."""
    return run(CheckArgs(models, output, 0.1, "cpu"), clock=lambda: 0.0)


def statuses(output: Path) -> dict[tuple[str, str, str], str]:
    told = json.loads((output / REPORT).read_text())
    return {(r["stage"], r["model"], r["backend"]): r["status"] for r in told["rows"]}


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """A report whose steps ran on a CPU: ``python -m edgeport.gpu_check --device cpu``."""
    text = (Path(__file__).parent / "rehearsal.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.slow
def test_a_rehearsal_does_every_step_and_says_what_it_is(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert rehearse(models, output) == 1
    said = capsys.readouterr().out
    assert "a rehearsal on the CPU: it says nothing about a GPU" in said
    assert "FAILED parity of wrong on ort-cpu: " in said
    assert "not read: none: " in said
    found = statuses(output)
    assert found["parity", "good", "ort-cpu"] == found["soak", "good", "ort-cpu"] == "pass"
    assert found["parity", "wrong", "ort-cpu"] == "fail"
    for command in COMMANDS:
        assert found["command", command, "ort-cpu"] == "pass"
    assert found["benchmark", "wrong", ""] == "open"
    assert found["benchmark", "good", ""] == "pass"
    assert sorted(p.name for p in output.iterdir()) == [
        "rehearsal-report.html", REPORT, JOURNAL,
    ]  # fmt: skip
    shown = Page((output / "rehearsal-report.html").read_text())
    assert "nothing here says anything about a GPU" in shown.text
    assert "Do the commands work?" in shown.text
    assert "edgeport serve" in shown.text
    # killed while it wrote its last row, it does that once more and no other
    lines = (output / JOURNAL).read_bytes().splitlines(keepends=True)
    kept = b"".join(lines[:-1])
    (output / JOURNAL).write_bytes(kept + lines[-1][:-20])
    assert rehearse(models, output) == 1
    assert f"going on: {len(lines) - 2} steps are done already" in capsys.readouterr().err
    assert (output / JOURNAL).read_bytes().startswith(kept)
    assert statuses(output) == found


@contextlib.contextmanager
def rehearsing(models: Path, output: Path) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A check of half an hour as its own process, and what it says."""
    command = [sys.executable, "-m", "edgeport.gpu_check", "--models", str(models), "--output",
               str(output), "--device", "cpu", "--minutes", "30"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield process, process.stderr
        finally:
            process.kill()  # one that goes on would be waited for


def test_ctrl_c_writes_what_there_is(models: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with rehearsing(models, output) as (process, said):
        for line in said:
            if line.startswith(("benchmark", "soak")):
                time.sleep(1)
                process.send_signal(signal.SIGINT)
                break
        assert process.wait(60) == 130
    told = json.loads((output / REPORT).read_text())
    assert told["interrupted"]
    found = statuses(output)
    assert found["parity", "good", "ort-cpu"] == "pass"
    reasons = {r["reason"] for r in told["rows"] if r["status"] == "unreached"}
    assert reasons
    assert all("interrupted" in reason for reason in reasons)
    assert "It was interrupted." in Page((output / "rehearsal-report.html").read_text()).text


def test_a_check_that_is_killed_leaves_the_report_of_what_there_was(
    models: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with rehearsing(models, output) as (process, said):
        assert "parity: good on ort-cpu" in said.readline()
        process.kill()
    told = json.loads((output / REPORT).read_text())
    assert told["interrupted"]
    assert {row["reason"] for row in told["rows"]} == {"the check was cut off before it"}
    assert "It was interrupted." in Page((output / "rehearsal-report.html").read_text()).text


@pytest.mark.usually("15")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_lends_the_machine_may_end_it(
    models: Path, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "out"
    with rehearsing(models, output) as (process, said):
        said.readline()
        process.send_signal(number)
        assert process.wait(60) == 130
    told = json.loads((output / REPORT).read_text())
    assert "interrupted" in {row["reason"] for row in told["rows"]}


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_it_says_what_is_missing_and_writes_nothing(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["--models", str(models), "--output", str(output)]) == 3
    assert not output.exists()
    said = capsys.readouterr().err
    assert "gpu-check: there is nothing to check: " in said
    assert "NVIDIA driver" in said
    assert "--device cpu rehearses the check on the CPU" in said
    assert "ort-cuda: " in said


@pytest.mark.usefixtures("no_gpu")
def test_what_mends_two_backends_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: Gpus((13, 0), ("A",), ("8.9",)))
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", None)  # a build for CUDA is usable until it opens
    with pytest.raises(BackendMissingError, match=r"^no backend can compute on cuda:0: ") as e:
        machine.look("cuda:0")
    remedies = e.value.remedy.split("; ")
    assert len(remedies) == len(set(remedies)) > 1


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--models", "nowhere"], 2, "nowhere holds no bundles (NAME.edge)"),
        ([], 2, "no models were named"),
        (["--models", "x", "--minutes", "0"], 2, "--minutes is 0"),
        (["--models", "x", "--device", "gpu"], 2, "there is no device 'gpu'"),
    ],
)
def test_usage(
    arguments: list[str],
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*(["--device", "cpu"] if "--device" not in arguments else []), *arguments]) == code
    assert f"gpu-check: {told}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_a_short_time_should_tell_of_comes_first() -> None:
    path, both = Path("m.edge"), ("ort-cuda", "torch")
    models = [Model(f"{size}", path, both, size, "") for size in range(1, 6)]
    models.insert(1, Model("int8", path, both[:1], 1, "", narrow=True))
    assert [model.name for model in by_interest(models)] == ["1", "3", "5", "int8", "2", "4"]


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.end()


def test_a_child_that_dies_is_told_with_what_it_said_last(child: Child, packed: Path) -> None:
    os.kill(child._process.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="the process died: SIGKILL"):
        child.ask(Prove(Place(packed, "ort-cpu", "cpu")), 60)
    assert not child.alive


def test_a_child_that_is_slow_is_ended(child: Child, packed: Path) -> None:
    os.kill(child._process.pid, signal.SIGSTOP)
    with pytest.raises(EngineError, match="a step of 0 s was ended, because it took too long"):
        child.ask(Prove(Place(packed, "ort-cpu", "cpu")), 0.2)
    assert not child.alive


def test_a_child_answers_with_the_error_that_it_met(child: Child, packed: Path) -> None:
    with pytest.raises(Exception, match="null") as e:
        child.ask(Prove(Place(packed, "null", "cpu")), 60)
    assert child.alive, e
    assert child.ask(Prove(Place(packed, "ort-cpu", "cpu")), 60)["samples"] == 4


def test_the_page_shows_every_row(told: dict[str, Any]) -> None:
    shown = Page(page(told))
    for model in told["models"]:
        assert model["name"] in shown.text
    for question in ("Does it compute", "How long does a call take?", "Does it last?", "Where"):
        assert question in shown.text
    assert "script" not in shown.names


def test_the_page_begins_with_how_right_and_how_fast_each_backend_is(told: dict[str, Any]) -> None:
    changed = copy.deepcopy(told)
    proofs = [row for row in changed["rows"] if row["stage"] == "parity"]
    for count, row in enumerate(proofs[:2]):
        row.update(status="fail", reason=f"{count} elements differ", remedy="export it again")
    for row in changed["rows"]:
        for variant in row["figures"].get("variants", []):
            variant["doubts"] = ["the machine was hot"]
    shown = Page(page(changed)).text
    start, stop = shown.index("In short"), shown.index("What failed")
    assert "ort-cpu 0 of 1 models 1 not reached" in shown[start:stop]
    assert "torch 1 of 1 models" in shown[start:stop]
    assert "a call of linear, batch 1" in shown[start:stop]
    assert "There are reasons to doubt these times" in shown[start:stop]
    assert shown.count("export it again") == 1  # what mends both
    assert shown.count("linear: the machine was hot") == 1  # of all ways to call


def test_the_page_escapes_what_others_wrote(told: dict[str, Any]) -> None:
    changed = copy.deepcopy(told)
    for row in changed["rows"]:
        row["model"], row["reason"], row["status"] = EVIL, EVIL, "fail"
    changed["unread"] = [{"name": EVIL, "reason": EVIL}]
    assert "<script" not in page(changed)


def test_the_page_of_a_gpu_whose_rows_are_open(told: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(told))
    for row in changed["rows"]:
        row.update(status="open", reason="torch was built without CUDA", figures={})
    shown = Page(page(changed)).text
    assert "What was not available" in shown
    assert "torch was built without CUDA" in shown
    assert "Nothing could be checked." in shown
