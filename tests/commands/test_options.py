import argparse
from pathlib import Path

import pytest

from edgeport.commands.options import add_max_ratio, is_report, ratios_of
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
        is_report(path)
    with pytest.raises(UsageError, match=r"--report a\.txt is neither \.html nor \.json"):
        is_report(Path("a.txt"))
