import json
import shutil
from pathlib import Path

import pytest

from edgeport import training
from edgeport.__main__ import main
from edgeport.commands.run_page import page
from edgeport.commands.run_story import inspect_run, is_run, look
from edgeport.runtimes import FormatError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "iris"
    asked = ["train", "mlp", "--data", "iris", "--hidden", "7,5", "--norm", "layer"]
    asked += ["--epochs", "4", "--optimizer", "sgd", "--option", "momentum=0.9", "--seed", "3"]
    assert main([*asked, "-o", str(path)]) == 0
    return path


def test_parameters_and_hyperparameters_are_kept_apart(run: Path) -> None:
    assert is_run(run)
    found = look(run)
    assert found["parameter_count"] == 4 * 7 + 7 + 14 + 7 * 5 + 5 + 10 + 5 * 3 + 3
    kinds = {p["name"]: (p["kind"], p["dtype"], p["shape"]) for p in found["parameters"]}
    assert kinds["core.layers.0.weight"] == ("parameter", "float32", [7, 4])
    assert kinds["prepare.mean"] == ("buffer", "float32", [4])
    assert all(p["norm"] >= 0 for p in found["parameters"])
    hyperparameters = found["hyperparameters"]
    assert hyperparameters["model"]["hyperparameters"]["hidden"] == [7, 5]
    assert hyperparameters["training"]["options"] == {"momentum": 0.9}
    assert hyperparameters["training"]["seed"] == 3
    assert found["data"]["classes"] == ["setosa", "versicolor", "virginica"]


def test_it_is_printed_for_people_and_for_programs(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect_run(run, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == look(run)
    assert inspect_run(run, as_json=False) == 0
    out = capsys.readouterr().out
    parameters, hyperparameters = out.split("hyperparameters: chosen, in run.json")
    assert "core.layers.0.weight  parameter  float32[7, 4]" in parameters
    assert "mlp on iris, 150 examples" in parameters
    assert "momentum" in hyperparameters
    assert "core.layers" not in hyperparameters


def test_a_terminal_obeys_nothing_that_is_in_a_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(run, theirs)
    record = json.loads((theirs / "run.json").read_text())
    record["data"]["name"] = "\x1b[2Ja\nb"
    (theirs / "run.json").write_text(json.dumps(record))
    assert inspect_run(theirs, as_json=False) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "mlp on \\x1b[2Ja" in out


def test_the_command_tells_runs_from_bundles(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["inspect", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameter_count"] == look(run)["parameter_count"]


def test_names_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not as \\u escapes of JSON."""
    (tmp_path / "a.csv").write_text("größe,y\n" + "".join(f"{n},{n * n}\n" for n in range(9)))
    asked = ["train", "linear", "--data", str(tmp_path / "a.csv"), "--target", "y", "--epochs", "2"]
    assert main([*asked, "-o", str(tmp_path / "run")]) == 0
    assert inspect_run(tmp_path / "run", as_json=False) == 0
    assert 'columns         ["größe"]' in capsys.readouterr().out


def test_what_is_no_run(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    assert not is_run(tmp_path / ("x" * 300))  # where looking for a file is an error
    with pytest.raises(FormatError, match="is not a run"):
        look(tmp_path)


def test_the_page_of_a_run_shows_what_it_should_and_loads_nothing(run: Path) -> None:
    text = (run / "report.html").read_text()
    assert text == page(training.load(run))
    for part in (
        "mlp on iris",
        "Confusion",
        "Cost of an epoch",
        "Norm of the gradient",
        "momentum",
    ):
        assert part in text
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert str(run.parent) not in text


def test_the_page_of_a_regression_shows_residuals(tmp_path: Path) -> None:
    asked = ["train", "linear", "--data", "diabetes", "--epochs", "3", "-o", str(tmp_path / "run")]
    assert main(asked) == 0
    text = (tmp_path / "run" / "report.html").read_text()
    assert text.count('class="dot"') == 2 * 89
    for part in ("Residuals: measured less predicted", "skewness", "bmi", "(intercept)", "closed"):
        assert part in text


@pytest.mark.parametrize(
    ("more", "title"),
    [
        (["--epochs", "30"], "Held-out R2, cut at -1"),
        (["--epochs", "2", "--lr", "1e-6"], "Held-out R2<"),  # -1e4 in each: a line at -1 is none
    ],
)
def test_a_curve_of_r2_says_where_it_is_cut(tmp_path: Path, more: list[str], title: str) -> None:
    rows = "".join(f"{n},{100 + n % 5}\n" for n in range(40))
    (tmp_path / "a.csv").write_text("x,y\n" + rows)
    asked = ["train", "linear", "--data", str(tmp_path / "a.csv"), "--target", "y"]
    assert main([*asked, *more, "-o", str(tmp_path / "run")]) == 0
    assert title in (tmp_path / "run" / "report.html").read_text()
