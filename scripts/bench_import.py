"""What ``import edgeport.runtimes`` adds to ``import numpy``: wall time, CPU time, peak memory.

Measure a wheel, not an editable install (its import hook costs a few milliseconds):

    python -m venv wheel-env && wheel-env/bin/pip install -c constraints.txt .
    python scripts/bench_import.py wheel-env/bin/python

Fresh processes, both kinds in turn; medians of the paired differences. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

BASE = "import numpy"
OURS = "import numpy, edgeport.runtimes"


@dataclass(frozen=True, slots=True)
class Cost:
    wall_ms: float
    cpu_ms: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("python", nargs="?", default=sys.executable)
    parser.add_argument("--pairs", type=int, default=30)
    arguments = parser.parse_args()
    python = str(Path(arguments.python).absolute())

    for code in (BASE, OURS):  # warm the disk cache and the byte code
        run(python, code)
    pairs = [(run(python, BASE), run(python, OURS)) for _ in range(arguments.pairs)]
    result: dict[str, float | int] = {"pairs": len(pairs)}
    for figure in ("wall_ms", "cpu_ms", "peak_mb"):
        base = statistics.median(getattr(a, figure) for a, _ in pairs)
        added = [getattr(b, figure) - getattr(a, figure) for a, b in pairs]
        low, middle, high = statistics.quantiles(added, n=4)
        print(
            f"{figure:8} numpy {base:7.2f}   "
            f"added {middle:6.2f}  (half of them {low:.2f} to {high:.2f})"
        )
        result[f"added_{figure}"] = round(middle, 3)
    print(json.dumps(result))


def run(python: str, code: str) -> Cost:
    """Run one process and read what the operating system counted."""
    start = time.perf_counter()
    pid = os.posix_spawn(python, [python, "-I", "-c", code], os.environ)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.perf_counter() - start
    if status:
        raise SystemExit(f"{python} -c {code!r} failed")
    return Cost(wall_s * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    main()
