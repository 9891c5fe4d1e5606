import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeport.commands.options import (
    Listed,
    add_max_ratio,
    check_report,
    file_path,
    names,
    ratios_of,
    size,
)
from edgeport.runtimes import UsageError


def parsed(*arguments: str) -> dict[str | None, float]:
    parser = argparse.ArgumentParser()
    add_max_ratio(parser, "8")
    words = [word for each in arguments for word in ("--max-ratio", each)]
    return ratios_of(parser.parse_args(words).max_ratio)


def test_ratios_of_all_and_of_one() -> None:
    assert parsed() == {}
    assert parsed("4", "logits=2") == {None: 4, "logits": 2}
    assert parsed("a=b=1e3") == {"a=b": 1000}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["0"], "--max-ratio is 0\n  fix: use a number above 0"),
        (["y=-1"], "--max-ratio of y is -1"),
        (["nan"], "--max-ratio is nan"),
        (["4", "2"], "--max-ratio is 4 and 2\n  fix: give one of them"),
        (["y=4", "y=4"], "--max-ratio of y is 4 and 4"),
    ],
)
def test_ratios_that_are_none(given: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        parsed(*given)


@pytest.mark.parametrize("text", ["", "y=", "much", "y=much", "="])
def test_what_is_no_number(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parsed(text)
    assert f"expected X or OUTPUT=X, got {text!r}" in capsys.readouterr().err


def test_a_report_is_a_page_or_json() -> None:
    for path in (None, Path("a.html"), Path("b/c.json")):
        check_report(path, ())
    with pytest.raises(UsageError, match=r"--report a\.txt is neither \.html nor \.json"):
        check_report(Path("a.txt"), ())


def test_a_list_that_is_given_again_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--drop", type=names, action=Listed, default=())
    assert parser.parse_args(["--drop", "a,b", "--drop", "c"]).drop == ("a", "b", "c")
    assert parser.parse_args([]).drop == ()
    with pytest.raises(SystemExit):
        parser.parse_args(["--drop", "a,b", "--drop", "b"])
    assert "argument --drop: b is there twice" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["out.csv/", "out.csv/.", "a/..", "/"])
def test_a_file_is_no_folder(text: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match=f"expected a file, got the folder '{text}"
    ):
        file_path(text)
    assert file_path("a/out.csv") == Path("a/out.csv")


def test_a_file_is_not_called_what_stands_for_stdout_elsewhere() -> None:
    told = "expected a file, got '-'; one of that name is ./-"
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{told}$"):
        file_path("-")


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("b.edge/manifest.json", r"in b\.edge, which is read, and --report would overwrite it"),
        ("b.edge/reports/new.html", r"would be in b\.edge, and --report adds nothing to that"),
        ("x/../b.edge/new.html", r"would be in b\.edge"),
        ("link.json", "in b.edge, which is read"),  # leads to the manifest
        ("b.edge/away.json", "in b.edge, which is read"),  # leads out of the bundle
        ("to_folder/manifest.json", "in b.edge, which is read"),
        ("stored.json", "stored.json is what is read"),
        ("hard.json", "hard.json is what is read"),
    ],
)
def test_a_report_is_nowhere_in_what_is_read(
    place: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("b.edge", "x"):
        Path(folder).mkdir()
    for name in ("b.edge/manifest.json", "stored.json", "other.json"):
        Path(name).touch()
    Path("hard.json").hardlink_to("stored.json")
    Path("to_folder").symlink_to("b.edge")
    Path("link.json").symlink_to("b.edge/manifest.json")
    Path("b.edge/away.json").symlink_to("../other.json")
    kept = [Path("x" * 300), Path("b.edge"), Path("stored.json")]
    with pytest.raises(UsageError, match=f"{problem}.*\n  fix: choose another place"):
        check_report(Path(place), kept)
    check_report(Path("other.json"), kept)


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (names, "a, b,", ("a", "b")),
        (size, "64 MiB", 2**26),
        (size, "1000000", 10**6),
    ],
)
def test_words_of_the_command_line(read: Callable[[str], object], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (names, " , ", r"expected NAME\[,NAME...\]"),
        (names, "a,a", "'a,a' names something twice"),
        (size, "0", "expected a size such as 64MiB, got '0'"),
        (size, "64 elephants", "expected a size such as 64MiB, got '64 elephants'"),
    ],
)
def test_words_that_are_refused(read: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        read(text)
