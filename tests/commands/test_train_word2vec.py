import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edgeport import runtimes
from edgeport.__main__ import main
from edgeport.runtimes.text import encode
from edgeport.training import load
from edgeport.training.text.word2vec import Trainer

SUBJECTS = (("cat", "dog", "cow"), ("car", "bus", "train"))
VERBS = (("eats", "sleeps", "barks"), ("drives", "stops", "honks"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("word2vec") / "who.csv"
    generator = np.random.default_rng(0)
    rows = ["label,text"]
    for number, kind in enumerate(generator.integers(0, 2, 800).tolist()):
        words = f"The {generator.choice(SUBJECTS[kind])} {generator.choice(VERBS[kind])} now"
        rows.append(f"{('animal', 'vehicle')[kind]},{words} x{number}")
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def ask(data: Path, output: Path, *more: str) -> list[str]:
    fast = ["--dimensions", "8", "--epochs", "20", "--batch", "32", "--sample", "0"]
    return ["train", "word2vec", "--data", str(data), "-o", str(output), *fast, *more]


def test_train_look_export_predict(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, run, bundle = tmp_path / "corpus.txt", tmp_path / "run", tmp_path / "words.edge"
    texts = [line.partition(",")[2] for line in table.read_text().splitlines()[1:]]
    corpus.write_text("\n\n".join(texts), encoding="utf-8")
    assert main(ask(corpus, run)) == 0
    out = capsys.readouterr().out
    assert out.count("held-out AUC of pairs") == 20
    assert f"next: edgeport nearest {run} " in out
    assert main(["nearest", str(run), "cat", "--count", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["nearest"]
    assert {each["word"] for each in found} == {"dog", "cow"}
    assert main(["nearest", str(run), "cat", "car", "--minus", "dog", "--count", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["word", "cosine"]
    page = (run / "report.html").read_text()
    assert "pair auc" in page
    assert "Where it errs" not in page
    assert main(["export", str(run), "-o", str(bundle), "--format", "torchscript"]) == 0
    capsys.readouterr()
    asked = tmp_path / "new.txt"
    asked.write_text("the cat\nnothing_known\n", encoding="utf-8")
    answers = []
    for model in (run, bundle):
        assert main(["predict", str(model), "--input", str(asked), "--backend", "libtorch"]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    header, first, second = answers[0].splitlines()
    assert header == "row," + ",".join(f"vector_{n}" for n in range(8))
    made: Any = load(run).module
    vectors = made.vectors.detach().numpy()
    words = load(run).hyperparameters["words"]
    mean = vectors[[words.index("the"), words.index("cat")]].mean(0)
    np.testing.assert_allclose([float(x) for x in first.split(",")[1:]], mean, rtol=1e-5)
    assert second == "2" + ",0" * 8
    with runtimes.open(bundle, "libtorch", threads=1) as session:
        assert session.run({"text": encode(["the cat"])})["vector"].shape == (1, 8)


@pytest.mark.parametrize("kind", ["skip-gram", "cbow"])
def test_a_classifier_of_texts(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    asked = ask(table, tmp_path / "run", "--text", "text", "--label", "label", "--kind", kind)
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["labels"] == ["animal", "vehicle"]
    assert told["scores"]["accuracy"] == 1.0
    assert 0.5 < told["scores"]["known_words"] < 0.9  # the numbers are not
    assert told["words"] == 14
    run = load(tmp_path / "run")
    assert (run.output, run.scores["accuracy"]) == ("logits", 1.0)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Confusion" in page
    assert re.search(r"The (cat|dog|cow|car|bus|train) ", page)  # the worst texts


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--label", "label"], "--label without --text"),
        ([], "who.csv is a table, and no column is named"),
        (["--text", "body"], "who.csv has no column 'body'"),
        (["--text", "7"], "has no column 7: its first line has 2"),
        (["--text", "text", "--min-count", "9999"], "0 of .* words occur 9999 times or more"),
        (["--text", "text", "--token-pattern", "[z-a]+"], "it is no regular expression: bad char"),
        (["--text", "text", "--lr", "1e30"], "training diverged in epoch 1"),
        (
            ["--text", "text", "--batch", "2048"],
            r"diverged in epoch \d+: the cost is [\d.e+]+\n.* --l",
        ),
        (
            ["--text", "text", "--token-pattern", "("],
            r"token_pattern '\(' cannot be compiled: it is",
        ),
    ],
)
def test_what_cannot_be_trained(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(ask(table, tmp_path / "run", *more)) in (1, 2)
    err = capsys.readouterr().err
    assert re.search(message, err)
    assert "fix: " in err
    assert not (tmp_path / "run").exists()


def test_a_run_without_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["y,x", *(f"{n * 2},{n}" for n in range(20))]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    asked = ["train", "linear", "--data", str(tmp_path / "t.csv"), "--target", "y", "--epochs", "2"]
    assert main([*asked, "-o", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["nearest", str(tmp_path / "run"), "cat"]) == 2
    assert "is a run of linear, which has no vectors of words" in capsys.readouterr().err


def test_words_that_are_all_frequent_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four epochs said `cost 0.0000`, as if all was learned; no pair had been looked at."""
    (tmp_path / "a.txt").write_text("a man saw\n" * 50)
    asked = ["train", "word2vec", "--data", str(tmp_path / "a.txt"), "--token-pattern", r"\w+"]
    assert main([*asked, "-o", str(tmp_path / "run")]) == 0
    told = "epochs nothing was learned, as sample 0.001 left no two words beside one another"
    assert told in capsys.readouterr().err
    assert told in (tmp_path / "run" / "report.html").read_text()
    assert main([*asked, "--sample", "0", "-o", str(tmp_path / "all")]) == 0
    assert "nothing was learned" not in capsys.readouterr().err
    assert main(["nearest", str(tmp_path / "all"), "man", "--minus", "man"]) == 2
    assert "what is added is taken away again" in capsys.readouterr().err


def test_charts_and_events(table: Path, tmp_path: Path) -> None:
    seen = ["--epochs", "3", "--png", "--tensorboard", str(tmp_path / "events")]
    assert main([*ask(table, tmp_path / "run", "--text", "text"), *seen]) == 0
    assert {path.name for path in (tmp_path / "run").glob("*.png")} == {"curves.png"}
    read: Any = EventAccumulator(str(tmp_path / "events"))
    read.Reload()
    scores = [(event.step, event.value) for event in read.Scalars("held out/AUC of pairs")]
    assert scores == [
        (epoch.number, pytest.approx(epoch.held_out_score, rel=1e-6))
        for epoch in load(tmp_path / "run").history.epochs
    ]


def test_ctrl_c_after_an_epoch_keeps_its_vectors(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, after = Trainer.judge, []

    def interrupted(trainer: Trainer, *told: Any) -> tuple[float, float]:
        after.append(trainer.vectors)
        if len(after) == 3:
            raise KeyboardInterrupt
        return judge(trainer, *told)

    monkeypatch.setattr(Trainer, "judge", interrupted)
    assert main(ask(table, tmp_path / "run", "--text", "text")) == 130
    err = capsys.readouterr().err
    assert err == f"interrupted after 2 of 20 epochs; the run so far is in {tmp_path / 'run'}\n"
    run = load(tmp_path / "run")
    made: Any = run.module
    assert not run.history.completed
    np.testing.assert_array_equal(made.vectors.detach()[: len(after[1])], after[1])
    assert not np.array_equal(after[1], after[2])


def test_ctrl_c_in_the_first_epoch_writes_nothing(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "epoch", interrupted)
    assert main(ask(table, tmp_path / "run", "--text", "text")) == 130
    assert capsys.readouterr().err == "edgeport: interrupted; nothing was written\n"
    assert not (tmp_path / "run").exists()
