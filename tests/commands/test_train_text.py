import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edgeport.__main__ import main
from edgeport.training import load

WORDS = {"spam": ["free", "prize", "win", "cash"], "ham": ["lunch", "home", "meeting", "later"]}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "sms.tsv"
    lines = ["label\ttext"]
    for number in range(60):
        name = ("spam", "ham")[number % 2]
        words = WORDS[name]
        lines.append(f"{name}\t{words[number % 4]} {words[number // 4 % 4]} number{number}, Ünïque")
    path.write_text("\n".join([*lines, lines[-1]]) + "\n", encoding="utf-8")
    return path


def ask(table: Path, *more: str) -> list[str]:
    output = str(table.parent / "run")
    return ["train", "text", "--data", str(table), "--text", "text", "--label", "label",
            "-o", output, *more]  # fmt: skip  # one call


def test_train_export_predict(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole, as a user does it: the device side runs in a process that cannot import torch."""
    assert main(ask(table, "--json")) == 0
    out, err = capsys.readouterr()
    metrics = json.loads(out)
    assert err == "left out 1 text that was there already\n"
    assert (metrics["labels"], metrics["held_out_accuracy"]) == (["ham", "spam"], 1.0)
    run, bundle = table.parent / "run", table.parent / "sms.edge"
    assert main(["export", str(run), "-o", str(bundle), "--format", "onnx"]) == 0
    capsys.readouterr()
    asked = table.parent / "new.txt"
    asked.write_text("WIN a free prize\nlunch at home later?\n", encoding="utf-8")
    texts = ["--input", str(asked)]
    assert main(["predict", str(run), *texts]) == 0
    expected = capsys.readouterr().out
    told = [line.split(",")[:2] for line in expected.splitlines()]
    assert told == [["row", "label"], ["1", "spam"], ["2", "ham"]]
    code = (
        "import sys; sys.modules.update(torch=None, onnx=None, sklearn=None)\n"
        "from edgeport.__main__ import main; sys.exit(main())"
    )
    for more in ([], ["--backend", "ort-strings"]):
        command = [sys.executable, "-c", code, "predict", str(bundle), *texts, *more]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        assert found.stdout == expected
    strings = onnxruntime.InferenceSession(bundle / "strings.onnx")
    rows = np.array(asked.read_text(encoding="utf-8").splitlines(), dtype=object)
    (logits,) = strings.run(None, {"text": rows})
    assert np.asarray(logits).argmax(1).tolist() == [1, 0]
    only = table.parent / "only.edge"
    assert main(["pack", str(run), "--artefacts", "onnx", "-o", str(only)]) == 0
    assert sorted(path.name for path in only.glob("*.onnx")) == ["model.onnx"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Confusion" in page
    assert "Ünïque" in page  # the texts with the largest loss
    assert page.count('<table class="wide">') == 4  # what no phone has the width for


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file: .*stop.txt"), (b"caf\xe9", "stop.txt is not UTF-8")],
)
def test_stop_words_that_cannot_be_read(
    table: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    path = table.parent / "stop.txt"
    if content is not None:
        path.write_bytes(content)
    assert main(ask(table, "--stop-words", str(path))) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--text", "body"],
            "has no column 'body'\n  fix: its first line has label, text; or give",
        ),
        (["--text", "3", "--label", "1"], "has no column 3: its first line has 2"),
        (
            ["--text", "2", "--label", "1"],
            "looks like a header: no other line has the label 'label'\n"
            "  fix: give --text 'text' --label 'label'",
        ),
        (["--token-pattern", "("], "token_pattern '(' cannot be compiled: it is no regular"),
        (["--token-pattern", "(a)"], "token_pattern '(a)' cannot be compiled"),
        (["--token-pattern", "[z]{3,}"], "scikit-learn refuses: empty vocabulary"),
    ],
)
def test_what_cannot_be_trained(
    table: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(ask(table, *more)) == 2
    assert message in capsys.readouterr().err
    assert not (table.parent / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--ngrams", "2..1"], "expected N or N..N, like 1..2, got '2..1'"),
        (["--ngrams", "a"], "expected N or N..N, like 1..2, got 'a'"),
        (["--min-df", "1.5"], "expected a number of texts, or 0.0 to 1.0, got '1.5'"),
        (["--max-df", "most"], "expected a number of texts, or 0.0 to 1.0, got 'most'"),
    ],
)
def test_words_that_are_none(
    table: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(ask(table, *more))
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"label\ttext\nham\ta\nham\tb\n", "holds 1 label, two are needed"),
        (b"label\ttext\nham\ta\n\tb\n", "text 2 has no label"),
        (b"label\ttext\nham\t\xff\n", "is not UTF-8"),
        (b"label\ttext\nham\ta\nspam\tb\tc\n", "line 3 has 3 values, the first line has 2"),
    ],
)
def test_a_file_that_is_no_table(
    table: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    table.write_bytes(content)
    assert main(ask(table)) == 2
    assert message in capsys.readouterr().err


def test_charts_and_events(table: Path) -> None:
    """scikit-learn fits in one go: its one point is told, and not drawn."""
    assert main(ask(table, "--png", "--tensorboard", str(table.parent / "events"))) == 0
    assert {path.name for path in (table.parent / "run").glob("*.png")} == {"confusion.png"}
    (epoch,) = load(table.parent / "run").history.epochs
    read: Any = EventAccumulator(str(table.parent / "events"))
    read.Reload()
    for title, value in (
        ("held out/accuracy", epoch.held_out_score),
        ("cost/held out", epoch.held_out_cost),
    ):
        (event,) = read.Scalars(title)
        assert event.value == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("kind", ["text", "word2vec"])
@pytest.mark.parametrize(
    ("option", "module", "extra"),
    [
        ("--png", "matplotlib", "plots"),
        ("--tensorboard=x", "torch.utils.tensorboard", "tensorboard"),
    ],
)
def test_a_library_that_is_missing(
    table: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    kind: str, option: str, module: str, extra: str,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, module, None)
    asked = ["train", kind, *ask(table, option)[2:]]
    assert main(asked) == 3
    err = capsys.readouterr().err
    assert f"'{module}', which is not installed" in err
    assert f"pip install 'edgeport[{extra}]'" in err
    assert not (table.parent / "run").exists()
