"""Source text with blocks between marks: lines that hold ``<NAME>`` and ``</NAME>``."""

import re
from pathlib import Path


def template(name: str) -> str:
    """A file beside this one."""
    return Path(__file__).with_name(name).read_text("utf-8")


def block(text: str, mark: str) -> str:
    r"""What stands between two marks.

    Examples:
        >>> block("# <a>\nx = 1\n# </a>\n", "a")
        'x = 1\n'
    """
    return re.split(_pattern(mark), text)[2]


def filled(text: str, mark: str, content: str) -> str:
    r"""Put something else between two marks.

    Examples:
        >>> filled("/* <a> */\nint x;\n/* </a> */\n", "a", "int y;\n")
        '/* <a> */\nint y;\n/* </a> */\n'
    """
    before, opening, _, closing, after = re.split(_pattern(mark), text)
    return f"{before}{opening}{content}{closing}{after}"


def _pattern(mark: str) -> str:
    return rf"(?ms)(^[^\n]*<{mark}>[^\n]*\n)(.*?)(^[^\n]*</{mark}>[^\n]*\n)"
