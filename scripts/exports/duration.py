"""The wall time of an export with edgeport, beside that of raw ``torch.onnx.export``.

Fresh processes, both kinds in turn, both from start to end; the example is made by the zoo. The
parity runs are timed by the export itself and subtracted for the second figure.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from edgeport.commands.terminal import note, table

ROOT: Final = Path(__file__).resolve().parents[2]


def time_exports(names: Sequence[str], rounds: int, file: Path | None) -> int:
    """Time both kinds, print the ratios, and their median over the modules."""
    found: dict[str, dict[str, float]] = {}
    for name in names:
        pairs = [_pair(name, ours_first=bool(index % 2)) for index in range(rounds)]
        whole = [pair for pair in pairs if pair is not None]
        if whole:
            found[name] = {
                "raw_s": statistics.median(raw for raw, _, _ in whole),
                "ours_s": statistics.median(ours for _, ours, _ in whole),
                "ratio": statistics.median(ours / raw for raw, ours, _ in whole),
                "without_parity": statistics.median((o - p) / raw for raw, o, p in whole),
            }
        note(f"{name}: {found.get(name, 'one of the two refuses it')}")
    if not found:
        raise SystemExit("none of the modules is exported by both")
    print(
        table(
            ["module", "raw s", "edgeport s", "ratio", "without parity runs"],
            [[name, *(f"{value:.2f}" for value in row.values())] for name, row in found.items()],
        )
    )
    medians = {
        key: statistics.median(row[key] for row in found.values())
        for key in ("ratio", "without_parity")
    }
    print(
        f"median over {len(found)} modules: {medians['ratio']:.2f} times raw, "
        f"{medians['without_parity']:.2f} without the parity runs"
    )
    result = {"export_time_version": 1, "median": medians, "modules": found}
    if file:
        file.write_text(json.dumps(result, indent=1))
    return 0


def _pair(name: str, *, ours_first: bool) -> tuple[float, float, float] | None:
    """Wall seconds of raw, of ours, and of the parity runs in ours."""
    taken: dict[str, tuple[float, float]] = {}
    for kind in ("ours", "raw") if ours_first else ("raw", "ours"):
        start = time.perf_counter()
        process = subprocess.run(
            [sys.executable, __file__, kind, name], capture_output=True, text=True, check=False
        )
        wall_s = time.perf_counter() - start
        if process.returncode:
            return None
        taken[kind] = wall_s, float(process.stdout.splitlines()[-1])
    return taken["raw"][0], taken["ours"][0], taken["ours"][1]


def export_once(kind: str, name: str) -> float:
    """What the fresh process does: one export. Returns the seconds of its parity runs."""
    import zoo

    from scripts.exports.routes import ROUTES, Job, edgeport_export

    parity = ParityClock()
    with tempfile.TemporaryDirectory() as folder:
        job = Job(name, zoo.ZOO[name], zoo.make(name), zoo.inputs(name), Path(folder))
        if kind == "ours":
            edgeport_export(job, "onnx", parity)
        else:
            ROUTES["dynamo"].write(job)
    return parity.total_s


class ParityClock:
    """Adds up what an export spends on proof: the reference, and each attempt's comparison."""

    def __init__(self) -> None:
        self.total_s = 0.0

    def __call__(self, event: Any) -> None:
        if getattr(event, "step", "") == "reference":
            self.total_s += getattr(event, "wall_s", 0.0)
        self.total_s += getattr(event, "proof_s", 0.0)


if __name__ == "__main__":
    sys.path += [str(ROOT), str(ROOT / "tests")]
    print(export_once(*sys.argv[1:]))
