"""What the hash costs when a file is opened: against reading it alone, and against its engine.

    python scripts/bench_open.py model.onnx [--rounds 9]

``read`` reads the file once in chunks; ``check`` reads and hashes it; ``copy`` makes the private
copy that an engine opens; ``engine`` is ONNX Runtime opening the path itself, ``bundle`` all that
``Bundle.open`` does but the manifest. Warm: from the page cache. Cold, as root: the cache is
dropped before each. The last line is one JSON object of medians, in ms.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edgeport.runtimes.bundles.container import Folder
from edgeport.runtimes.bundles.manifest import StoredFile
from edgeport.runtimes.safety.private_copy import check, private_copy
from edgeport.runtimes.session import Options, open_artefact


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    import hashlib

    path: Path = args.file
    held = Folder(path.parent)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stored = StoredFile(path.name, digest, path.stat().st_size)

    def copy() -> None:
        with private_copy(held, [stored]):
            pass

    def engine() -> None:
        open_artefact(path, "ort-cpu", Options(threads=1)).close()

    def bundle() -> None:
        with private_copy(held, [stored]) as private:
            open_artefact(private, "ort-cpu", Options(threads=1)).close()

    runs: dict[str, Callable[[], object]] = {
        "read": lambda: read(path),
        "check": lambda: check(held, stored),
        "copy": copy,
        "engine": engine,
        "bundle": bundle,
    }
    found: dict[str, dict[str, float]] = {}
    for state in ("warm", "cold") if os.geteuid() == 0 else ("warm",):
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(args.rounds):
            for name, run in runs.items():
                if state == "cold":
                    drop_cache()
                start = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - start) * 1e3)
        found[state] = {name: round(statistics.median(each), 2) for name, each in times.items()}
        print(state, *(f"{name} {value:,.1f} ms" for name, value in found[state].items()))
    print(json.dumps({"open_version": 1, "size_bytes": stored.size_bytes, "median_ms": found}))
    return 0


def read(path: Path) -> None:
    chunk = bytearray(2**18)
    with path.open("rb", buffering=0) as file:
        while file.readinto(chunk):
            pass


def drop_cache() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("1")


if __name__ == "__main__":
    sys.exit(main())
