"""kill -9 at random moments of export, pack and sign: the old bundle or the new one, nothing else.

    python scripts/bench_kill.py --kills 200 [--signal KILL|TERM|INT]

Each command runs to its end once, to know how long it takes; then it is started again and again
and killed after a random share of that time. After every kill the bundle at its place must be
absent, the old one or the new one, whole; in the end one undisturbed run must leave nothing but
its bundle. Ctrl-C (INT) is to leave nothing unfinished even before that. The last line is one JSON
object.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeport.runtimes import Bundle, EdgeportError

MODEL = """
import torch

def make_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 512), torch.nn.Tanh(), torch.nn.Linear(512, 3))
"""


@dataclass(frozen=True)
class Work:
    """A command that writes, what is at its place before, and what must be there after."""

    name: str
    arguments: list[str]
    target: Path
    prepare: Callable[[], None]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT"), default="KILL")
    args = parser.parse_args()
    number = signal.Signals[f"SIG{args.signal}"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job behind & ignores it
    generator = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        works = prepare(Path(folder))
        shares = {"sign": 0.2, "sign zip": 0.2, "pack": 0.25, "pack --zip": 0.25, "export": 0.1}
        found: dict[str, Counter[str]] = {}
        for work in works:
            kills = round(args.kills * shares[work.name])
            outcomes = kill(work, kills, generator, Path(folder), number)
            told = ", ".join(f"{count} {what}" for what, count in outcomes.items())
            print(f"{work.name:<12}{told}", flush=True)
            found[work.name] = outcomes
    wrong = sum(outcomes["wrong"] + outcomes["litter"] for outcomes in found.values())
    print(
        json.dumps(
            {
                "kill_version": 1,
                "signal": args.signal,
                "seed": args.seed,
                "found": found,
                "wrong": wrong,
            }
        )
    )
    return 1 if wrong else 0


def prepare(folder: Path) -> list[Work]:
    (folder / "kill_model.py").write_text(MODEL)
    key, good, one = folder / "k.pem", folder / "good.edge", folder / "good-zip.edge"
    run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], folder)
    export = ["export", "kill_model:make_model", "--input", "x=float32[batch,8]"]
    export += ["--format", "onnx", "-o"]
    run(edgeport([*export, str(good)]), folder)
    run(edgeport(["pack", str(good), "--zip", "-o", str(one)]), folder)

    def work(name: str, arguments: list[str], old: Path | None = None) -> Work:
        target = folder / name.replace(" ", "-") / "m.edge"
        target.parent.mkdir()

        def reset() -> None:
            remove(target)
            if old is not None:
                (shutil.copytree if old.is_dir() else shutil.copy)(old, target)

        return Work(name, [*arguments, str(target)], target, reset)

    return [
        work("sign", ["sign", "--key", str(key)], good),
        work("sign zip", ["sign", "--key", str(key)], one),
        work("pack", ["pack", str(good), "-o"]),
        work("pack --zip", ["pack", str(good), "--zip", "-o"]),
        work("export", export),
    ]


def kill(
    work: Work, kills: int, generator: random.Random, folder: Path, number: signal.Signals
) -> Counter[str]:
    work.prepare()
    start = time.perf_counter()
    run(edgeport(work.arguments), folder)
    whole_s = time.perf_counter() - start
    outcomes = Counter[str]({"absent": 0, "old": 0, "new": 0, "wrong": 0, "litter": 0})
    for _ in range(kills):
        work.prepare()
        child = subprocess.Popen(
            edgeport(work.arguments),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # the second half, where files are written, is worth more than imports
        wait_s = whole_s * generator.choice([generator.random(), 0.5 + generator.random() / 2])
        try:
            child.wait(wait_s)
        except subprocess.TimeoutExpired:
            child.send_signal(number)
            child.wait(60)
        outcomes[state(work)] += 1
        if number == signal.SIGINT:
            outcomes["litter"] += len(litter(work))
    work.prepare()
    run(edgeport(work.arguments), folder)
    outcomes["litter"] += len(litter(work))
    outcomes["wrong"] += state(work) != "new"
    return outcomes


def litter(work: Work) -> set[str]:
    return {path.name for path in work.target.parent.rglob("*") if path.name.endswith(".tmp")}


def state(work: Work) -> str:
    if not work.target.exists():
        return "wrong" if work.name.startswith("sign") else "absent"
    try:
        bundle = Bundle.read(work.target)
        bundle.check_files()
    except EdgeportError as e:
        print(f"{work.name}: {e}", file=sys.stderr)
        return "wrong"
    if work.name.startswith("sign") and "manifest.sig" not in bundle.files:
        return "old"
    return "new"


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def edgeport(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "edgeport", *arguments]


def run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
