"""What a module raised when it was run as it is: the whole of it, on one line."""

import re
from typing import Final

_STACK: Final = re.compile(r"^(Exception raised from|C\+\+ CapturedTraceback|Traceback \()")
_MOST: Final = 500


def raised(error: BaseException) -> str:
    """The kind and the message, up to 500 characters, without a stack that torch appends."""
    lines = []
    for line in str(error).splitlines():
        if _STACK.match(line):
            break
        lines.append(line.strip())
    told = " ".join(filter(None, lines))
    told = f"{told[:_MOST]}…" if len(told) > _MOST else told
    return f"{type(error).__name__}: {told}".rstrip(": ")
