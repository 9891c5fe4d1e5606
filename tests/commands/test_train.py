import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from edgeport import training
from edgeport.__main__ import main
from edgeport.commands import training_run
from edgeport.commands.train_events import Events
from edgeport.runtimes import StorageError
from edgeport.training import load, recipes
from edgeport.training.device import computing_on

QUICK = ["--epochs", "1", "--batch-size", "64"]

# A shell may have made the tests' own process deaf to Ctrl-C, and a child inherits that.
LISTENING = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from edgeport.__main__ import main; sys.exit(main())"
)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            LISTENING,
            "train",
            "digits",
            "-o",
            "run",
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        text=True,
    )


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_train_prints_each_epoch_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "my runs" / "a"
    assert main(["train", "digits", "-o", str(output), "--epochs", "2"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    run = load(output)
    assert run.history.completed
    last = run.history.epochs[-1]
    for line, epoch in zip(lines, run.history.epochs, strict=False):
        assert line == (
            f"epoch {epoch.number}/2  cost {epoch.cost:.4f}  held-out cost "
            f"{epoch.held_out_cost:.4f}  held-out accuracy {epoch.held_out_score:.4f}"
        )
    right = round(360 * last.held_out_score)
    assert lines[2:] == [
        f"{output}  held-out accuracy {last.held_out_score:.4f} ({right} of 360), "
        "151,498 parameters",
        f"next: edgeport export '{output}' -o a.edge",
    ]
    assert err == "training on 1,437 images of digits, 360 held out\n"


def test_json_is_all_of_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "-o", str(tmp_path / "a"), *QUICK, "--json"]) == 0
    out, err = capsys.readouterr()
    metrics = json.loads(out)
    assert len(out.splitlines()) == 1
    assert metrics["completed"] is True
    assert metrics["device"] == "cpu"
    assert metrics["parameters"] == 151498
    assert metrics["scores"]["accuracy"] == metrics["epochs"][-1]["held_out_score"]
    assert "epoch 1/1  cost" in err


def test_a_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert main(["train", "digits", "-o", str(tmp_path / name), *QUICK, "--seed", seed]) == 0
    for file in ("weights.safetensors", "held_out.safetensors", "run.json", "report.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in "ac"]
    assert weights[0] != weights[1]


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ("there", 2, "there exists already\n  fix: remove it, or choose another place\n"),
        ("file/run", 2, "/file/run cannot be made in it\n  fix: choose another place\n"),
    ],
)
def test_a_bad_place_is_told_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, code: int, message: str
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    assert main(["train", "digits", "-o", str(tmp_path / output)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("edgeport: ")
    assert err.endswith(message)
    assert "training on" not in err
    assert entries(tmp_path) == ["file", "there"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: expected a number of at least 1, got '0'"),
        (
            ["--batch-size", "x"],
            "argument --batch/--batch-size: expected a number of at least 1, got 'x'",
        ),
        (["--lr", "0"], "argument --lr: expected a number above 0, got '0'"),
        (["--lr", "nan"], "argument --lr: expected a number above 0, got 'nan'"),
        (["--lr", "x"], "argument --lr: expected a number above 0, got 'x'"),
        (["--seed", "-1"], "argument --seed: expected a number from 0 to 2**63 - 1, got '-1'"),
        (["--seed", str(2**63)], "argument --seed: expected a number from 0 to 2**63 - 1, got '9"),
    ],
)
def test_arguments_that_make_no_sense(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "digits", "-o", "nowhere", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("torch", "edgeport: training needs 'torch', which is not installed"),
        ("sklearn.datasets", "edgeport: the data set digits needs 'sklearn"),
    ],
)
def test_a_library_that_is_missing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    message: str,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["train", "digits", "-o", str(tmp_path / "run")]) == 3
    err = capsys.readouterr().err
    assert err.startswith(message)
    assert err.endswith("fix: pip install 'edgeport[train]'\n")
    assert entries(tmp_path) == []


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch was built with CUDA")
def test_a_gpu_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "digits", "-o", str(tmp_path / "run"), "--device", "cuda"]
    assert main(arguments) == 3
    assert capsys.readouterr() == (
        "",
        f"edgeport: torch {torch.__version__} was built without CUDA, so it cannot run on cuda\n"
        "  fix: install a torch with CUDA (https://pytorch.org/get-started/locally), or use the "
        "device cpu\n",
    )
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "gpu"], "edgeport: there is no device 'gpu'\n  fix: use cpu, cuda or cuda:N"),
        (["--tf32"], "edgeport: TF32 was asked for, and the training is on cpu, which has none\n"),
    ],
)
def test_a_device_that_makes_no_sense(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("edgeport.training.data.open_data", None)  # no data are read before
    assert main(["train", "digits", "-o", str(tmp_path / "run"), *arguments]) == 2
    assert capsys.readouterr().err.startswith(message)
    assert entries(tmp_path) == []


def test_a_gpu_whose_memory_is_too_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any, **named: Any) -> None:
        with computing_on(torch.device("cuda", 0), tf32=False):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 h")

    monkeypatch.setattr(training, "fit", fails)
    assert main(["train", "digits", "-o", str(tmp_path / "run")]) == 3
    assert capsys.readouterr().err.endswith(
        "edgeport: cuda:0 is out of memory: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 h"
        "\n  fix: take fewer examples in a step (--batch 16) or a smaller model, or end what else "
        "uses the GPU: nvidia-smi lists it\n"
    )
    assert entries(tmp_path) == []


def test_a_learning_rate_that_diverges_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "digits", "-o", str(tmp_path / "run"), "--lr", "1e30"]) == 2
    err = capsys.readouterr().err
    assert "(learning rate 1e+30): " in err
    assert "\n  fix: use a smaller learning rate" in err
    assert "Traceback" not in err
    assert entries(tmp_path) == []


def test_declaring_the_command_imports_no_engine() -> None:
    code = "import edgeport.commands.train, sys; print({'torch', 'sklearn'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


@pytest.mark.usually("2")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_after_an_epoch_keeps_a_whole_run(number: signal.Signals, tmp_path: Path) -> None:
    process = start(tmp_path, "--epochs", "5000")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("epoch    1/5000  cost ")
    process.send_signal(number)
    if number == signal.SIGHUP:  # of the terminal, and again of the shell
        time.sleep(0.002)
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert entries(tmp_path) == ["run"]
    done = len(load(tmp_path / "run").history.epochs)
    assert 1 <= done < 5000
    assert err == (
        "training on 1,437 images of digits, 360 held out\n"
        f"interrupted after {done} of 5000 epochs; the run so far is in run\n"
    )


def test_ctrl_c_while_what_was_trained_is_measured_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: Any) -> dict[str, float]:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        return scores(*given)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    scores = recipes.scores
    monkeypatch.setattr(recipes, "scores", interrupted)
    try:
        assert main(["train", "digits", "-o", str(tmp_path / "run"), *QUICK]) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert load(tmp_path / "run").history.completed


@pytest.mark.slow
def test_many_ctrl_c_leave_a_whole_run_or_nothing(tmp_path: Path) -> None:
    """By somebody impatient: what is said is what is there. (What prints it may be hit too.)"""
    process = start(tmp_path, "--epochs", "5000")
    assert process.stdout is not None
    process.stdout.readline()
    for pause_s in (*[0] * 15, *[0.002] * 15):
        process.send_signal(signal.SIGINT)
        time.sleep(pause_s)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)
    if entries(tmp_path) == []:
        assert "the run so far is in" not in err
    else:
        assert entries(tmp_path) == ["run"]
        done = len(load(tmp_path / "run").history.epochs)
        assert f"interrupted after {done} of 5000 epochs; the run so far is in run\n" in err


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_full_disk_at_the_end_does_not_lose_the_training(
    elsewhere: bool, full_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip  # one thought
    monkeypatch.setenv("TMPDIR", str(full_disk))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(training_run, "SHARED_MEMORY", tmp_path if elsewhere else full_disk)
    assert main(["train", "digits", "-o", str(full_disk / "run"), *QUICK]) == 3
    err = capsys.readouterr().err
    assert f"edgeport: cannot write {full_disk / 'run'}" in err
    assert not {*full_disk.glob("*run*"), *full_disk.glob(".*"), *full_disk.glob("edgeport*")}
    if not elsewhere:
        assert err.endswith("\n  fix: choose another place, free some space or get permission\n")
        return
    (kept,) = tmp_path.glob("edgeport-trained-*/run")
    assert err.endswith(
        f"\n  fix: what was trained is in {kept}: move it, temporary files do not last\n"
    )
    assert load(kept).history.completed


def test_a_training_in_a_thread_is_saved(tmp_path: Path) -> None:
    codes: list[int] = []
    asked = ["train", "digits", "-o", str(tmp_path / "run"), *QUICK]
    thread = threading.Thread(target=lambda: codes.append(main(asked)))
    thread.start()
    thread.join(120)
    assert codes == [0]
    assert load(tmp_path / "run").history.completed


def test_events_that_cannot_be_written_in_the_end_do_not_lose_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(events: Events, run: object) -> None:
        raise StorageError("no room for events", remedy="make some")

    monkeypatch.setattr(Events, "end", end)
    assert main(["train", "digits", "-o", str(tmp_path / "run"), *QUICK]) == 3
    assert "no room for events" in capsys.readouterr().err
    assert load(tmp_path / "run").history.completed


def test_ctrl_c_before_the_first_epoch_is_done_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the second step: elsewhere it may hit a file that Python itself reads and leaves open."""
    steps = []

    def interrupt(*_: Any) -> None:
        steps.append(1)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    hook = register_optimizer_step_pre_hook(interrupt)
    try:
        assert main(["train", "digits", "-o", str(tmp_path / "run")]) == 130
    finally:
        hook.remove()
    out, err = capsys.readouterr()
    assert (out, len(steps)) == ("", 2)
    assert err == (
        "training on 1,437 images of digits, 360 held out\n"
        "edgeport: interrupted; nothing was written\n"
    )
    assert entries(tmp_path) == []


@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_lose_the_run(tmp_path: Path) -> None:
    process = start(tmp_path, "--epochs", "3")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    process.communicate(timeout=60)
    assert load(tmp_path / "run").history.completed
