"""What a module raised, told on one line."""

import pytest

from edgeport.deploy.sources.raised import raised


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no such head"), "ValueError: no such head"),
        (ValueError("a mask is needed\n\n  give one of [batch, time]\n"),
         "ValueError: a mask is needed give one of [batch, time]"),
        (KeyError("ids"), "KeyError: 'ids'"),
        (AssertionError(), "AssertionError"),
        (RuntimeError("sizes differ\nException raised from f at x.cpp:3\nframe #0"),
         "RuntimeError: sizes differ"),
        (RuntimeError(
            "The following operation failed in the TorchScript interpreter.\n"
            "Traceback of TorchScript (most recent call last):\n"
            '  File "theirs.py", line 6, in f\n'
            "        raise ValueError(...)\n        ~~~~~ <--- HERE\n"
            "builtins.ValueError: Error: no such head\nat all\n\nAt:\n  ours.py(74): <module>\n"),
         "ValueError: Error: no such head at all"),
        (RuntimeError("x" * 600), f"RuntimeError: {'x' * 486}…"),
    ],
)  # fmt: skip  # a row is one error and its words
def test_the_whole_message_is_told(error: Exception, told: str) -> None:
    assert raised(error) == told
