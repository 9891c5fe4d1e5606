"""The first thing that a new user does, from a fresh clone in a fresh virtual environment."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def copy_of_the_tree(target: Path) -> None:
    """What git would give a new clone, were the present state committed."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in filter(None, listed.split("\0")):
        source, copy = ROOT / name, target / name
        if source.exists() or source.is_symlink():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)


@pytest.mark.slow
def test_quickstart_in_a_fresh_clone(tmp_path: Path) -> None:
    clone = tmp_path / "edgeport"
    copy_of_the_tree(clone)
    environment = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    done = subprocess.run(
        [clone / "scripts" / "quickstart"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    output = clone / "quickstart-output"
    run = json.loads((output / "runs" / "digits" / "run.json").read_text())
    assert run["training"]["metric"] == "accuracy"
    assert run["epochs"][-1]["held_out_score"] >= 0.98
    assert "digits: 3 of 3 backends pass" in done.stdout
    said, label = (
        done.stdout.split("the server says ")[1][:1],
        done.stdout.split("label is ")[1][:1],
    )
    assert said == label
    assert done.stdout.endswith("the server stopped cleanly\n")
    assert (clone / ".venv" / "bin" / "edgeport").exists()
