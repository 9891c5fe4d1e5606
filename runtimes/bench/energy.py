"""Energy that the machine used, where a counter of it can be read."""

import sys
from pathlib import Path
from typing import Final

_RAPL: Final = Path("/sys/class/powercap")
"""Intel's and AMD's running average power limit, by package
(https://docs.kernel.org/power/powercap/powercap.html). Since Linux 5.10 root alone may read it."""


def meter() -> int | None:
    """Microjoules of all CPU packages, a counter; ``None`` where there is none to read.

    The counter of a package wraps after hours at full power. A wrap is one reading in some
    millions and shows as a negative energy, which nobody reports.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        packages = sorted(_RAPL.glob("intel-rapl:[0-9]*"))
        counters = [p / "energy_uj" for p in packages if p.name.count(":") == 1]
        return sum(int(path.read_text("ascii")) for path in counters) if counters else None
    except (OSError, ValueError):
        return None
