"""How much memory a process took at most."""

import re
from pathlib import Path
from typing import Final

_STATUS: Final = Path("/proc/self/status")


def peak_bytes() -> int | None:
    """The largest resident set of this process since it began; ``None`` where it isn't told.

    From ``VmHWM``: ``getrusage``'s figure would be that of the parent before the child's ``exec``.
    """
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text("ascii"), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1]) * 1024
