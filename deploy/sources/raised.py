"""What a module raised when it was run as it is: the whole of it, on one line."""

import re
from typing import Final

_STACK: Final = re.compile(r"^(Exception raised from|C\+\+ CapturedTraceback|Traceback \(|At:$)")
INTERPRETED: Final = "failed in the TorchScript interpreter"
_RAISED: Final = re.compile(r"^[\w.]*(?:Error|Exception): ", re.MULTILINE)
"""How the message begins behind the traceback of TorchScript, whose lines are indented."""
_MOST: Final = 500


def words(error: BaseException) -> str:
    """The kind and the message, which TorchScript has between its traceback and Python's."""
    text = str(error).strip()
    begin = _RAISED.search(text) if INTERPRETED in text else None
    if begin is not None:
        return text[begin.start() :].partition("\nAt:\n")[0].removeprefix("builtins.")
    return f"{type(error).__name__}: {text}".rstrip(": ")


def raised(error: BaseException) -> str:
    """The kind and the message, up to 500 characters, without a stack that torch appends."""
    lines = []
    for line in words(error).splitlines():
        if _STACK.match(line):
            break
        lines.append(line.strip())
    told = " ".join(filter(None, lines))
    return f"{told[:_MOST]}…" if len(told) > _MOST else told
