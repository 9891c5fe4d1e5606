"""What edgeport costs a device over bare onnxruntime: CPU time to the first answer, and memory.

    python scripts/bench_footprint.py digits.edge [--rounds 15]

The wheel is built and installed into a folder of its own; numpy and onnxruntime are those of this
Python. Each round is two new processes, in random order, which open the same model with one thread
and run the first golden sample once: ours checks hash, signature and inputs on the way. Python runs
without ``site``, so that no editable install is paid for. Exit code 1 above the bars: 1.10 times
the CPU time; 4 MB more memory, or for a model of more than 20 MB no more than bare.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgeport.commands.terminal import note, table
from edgeport.runtimes import Bundle

ROOT = Path(__file__).parents[1]
CPU_BAR, MORE_KB, LARGE_BYTES = 1.10, 4096, 20_000_000

BARE = """
import sys, numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
with np.load(sys.argv[3]) as file:
    answer = session.run(None, dict(file))
"""
OURS = """
import sys, numpy as np
from edgeport import runtimes
session = runtimes.open(sys.argv[2], threads=1)
with np.load(sys.argv[3]) as file:
    answer = session.run(dict(file))
"""
REPORT = """
import resource
used = resource.getrusage(resource.RUSAGE_SELF)
fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(used.ru_utime + used.ru_stime, fields["VmRSS"].split()[0], fields["VmHWM"].split()[0])
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Footprint over bare onnxruntime.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    bundle = Bundle.read(arguments.bundle)
    model = bundle.path / bundle.artefact("ort-cpu").stored.file
    with tempfile.TemporaryDirectory() as folder:
        note("building and installing the wheel")
        site = _installed(Path(folder))
        save: Any = np.savez  # its stub takes no names that are not known
        save(Path(folder, "inputs.npz"), **bundle.golden()[0].inputs)
        names = [str(model), str(bundle.path), str(Path(folder, "inputs.npz"))]
        rounds = []
        for index in range(arguments.rounds + 1):
            note(f"round {index} of {arguments.rounds}")
            sides = {"bare": BARE, "ours": OURS}
            order = random.Random(index).sample(sorted(sides), 2)
            rounds.append({side: _measure(sides[side], names, site) for side in order})
    return _tell(rounds[1:], model.stat().st_size)  # the first warms the disk cache


def _installed(folder: Path) -> str:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("edgeport-*.whl")
    target = str(folder / "site")
    subprocess.run([*pip, "install", "--no-deps", "--target", target, str(wheel)], check=True)
    engines = str(Path(onnxruntime.__file__).parents[1])
    return os.pathsep.join([target, engines])


def _measure(code: str, arguments: list[str], site: str) -> tuple[float, int, int]:
    """CPU seconds, resident and peak kB of a process, once it has its first answer."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", code + REPORT, *arguments],
        env={"PYTHONPATH": site, "PATH": os.environ["PATH"]},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    cpu, resident, peak = done.stdout.split()
    return float(cpu), int(resident), int(peak)


def _tell(rounds: list[dict[str, tuple[float, int, int]]], model_bytes: int) -> int:
    def median(side: str, place: int) -> float:
        return statistics.median(found[side][place] for found in rounds)

    ratio = statistics.median(found["ours"][0] / found["bare"][0] for found in rounds)
    more_kb = statistics.median(found["ours"][1] - found["bare"][1] for found in rounds)
    rows = [
        [
            side,
            f"{median(side, 0):.3f}",
            f"{median(side, 1) / 1024:.1f}",
            f"{median(side, 2) / 1024:.1f}",
        ]
        for side in ("bare", "ours")
    ]
    print(table(["", "CPU s", "resident MiB", "peak MiB"], rows, right=(1, 2, 3)))
    allowed = 0 if model_bytes > LARGE_BYTES else MORE_KB
    print(f"CPU: {ratio:.3f} times bare onnxruntime, at most {CPU_BAR}")
    print(f"resident: {more_kb:+.0f} kB, at most {allowed:+d}")
    value = {"cpu_ratio": ratio, "resident_kb": more_kb, "rounds": len(rounds)}
    print(json.dumps({"footprint_version": 1, **value, "bars": [CPU_BAR, allowed]}))
    return 0 if ratio <= CPU_BAR and more_kb <= allowed else 1


if __name__ == "__main__":
    raise SystemExit(main())
