"""Every hostile bundle of tests/hostile.py to every command, each in a process of its own.

    python scripts/attack.py GOOD.edge        # with an ONNX, a TorchScript and a .pt2 artefact

Each must end with exit code 1 or 2 and a message with a remedy: no traceback, no signal, no hang, no
file that was not there. A command that does not look at what is bad may find nothing. The last line
is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import hostile

COMMANDS = ("verify", "inspect", "bench", "serve")
TIMEOUT_S = 120


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--only", default="", help="cases whose name holds this")
    args = parser.parse_args()
    found: Counter[str] = Counter()
    for case in (*hostile.cases(), *hostile.torch_cases()):
        for command in args.commands.split(","):
            if args.only in case.name:
                outcome = attack(case, args.bundle, command)
                found[outcome] += 1
                if outcome.startswith("WRONG"):
                    print(f"{command:<8} {case.name}: {outcome}", flush=True)
    wrong = sum(count for outcome, count in found.items() if outcome.startswith("WRONG"))
    print(json.dumps({"attack_version": 1, "found": found, "wrong": wrong}))
    return 1 if wrong else 0


def attack(case: hostile.Case, good: Path, command: str) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = hostile.build(case, good, folder)
        before = everything(folder)
        arguments = [sys.executable, "-m", "edgeport", command, str(path)]
        if command != "inspect":
            arguments += ["--backend", case.backend, "--threads", "1", "--time-limit", "5"]
        arguments += {"bench": ["--seconds", "0.1"], "serve": ["--port", "0"]}.get(command, [])
        try:
            done = subprocess.run(
                arguments,
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except subprocess.TimeoutExpired:
            served = command == "serve" and command in case.blind
            return "nothing to find" if served else "WRONG: it hangs"
        said = done.stdout + done.stderr
        if everything(folder) != before:
            return "WRONG: it wrote a file"
        if "Traceback" in said:
            return "WRONG: a traceback"
        if done.returncode == 0 and command in case.blind:
            return "nothing to find"
        if done.returncode not in (1, 2):
            return f"WRONG: exit code {done.returncode}"
        return f"exit code {done.returncode}" if "  fix: " in said else "WRONG: no remedy"


def everything(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


if __name__ == "__main__":
    sys.exit(main())
