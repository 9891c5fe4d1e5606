"""Export the zoo into a folder of bundles, to be carried to another machine or checked on this one.

    python -m scripts.export_zoo zoo [--minutes 30] [--jobs 2] [--only "mlp,convnet"]

One of every family comes first, so that a short time gives a broad choice. What is there already is
left as it is, so the same command goes on. Modules whose packages are missing are left out, and
named; formats that can't hold a module are too. Exit code 1 if an export that should work fails.
"""

import argparse
import contextlib
import importlib.util
import io
import itertools
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Final

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for the zoo

import torch
import zoo

from edgeport import deploy
from edgeport.commands.terminal import note
from edgeport.runtimes import EdgeportError
from scripts.zoo_sources import source_of_entry

JOBS: Final = max(1, (os.cpu_count() or 2) // 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=120.0, help="no export begins after it")
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--only", default="", help="names, separated by commas")
    arguments = parser.parse_args()
    names = chosen([name for name in arguments.only.split(",") if name])
    return 1 if export_all(names, arguments.folder, arguments.minutes, arguments.jobs) else 0


def export_all(names: Sequence[str], folder: Path, minutes: float, jobs: int) -> int:
    """Export what is not there yet. Returns how many exports failed."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {name: folder / f"{_file_name(name)}.edge" for name in names}
    missing = {name: path for name, path in wanted.items() if not path.exists()}
    note(f"{len(wanted) - len(missing)} of {len(wanted)} bundles of the zoo are there already")
    failed = _export(missing, jobs, time.monotonic() + 60 * minutes)
    there = sum(path.exists() for path in wanted.values())
    note(f"{there} of {len(wanted)} bundles are in {folder}, {failed} exports failed")
    return failed


def chosen(only: list[str]) -> list[str]:
    """Names in the order of their export."""
    unknown = [name for name in only if name not in zoo.ZOO]
    if unknown:
        raise SystemExit(f"no module is named {unknown[0]!r}; there are {', '.join(zoo.ZOO)}")
    families: dict[str, list[str]] = {}
    for name in only or zoo.ZOO:
        families.setdefault(zoo.ZOO[name].family, []).append(name)
    turns = itertools.zip_longest(*families.values())
    names = [name for turn in turns for name in turn if name is not None]
    lacking = [n for n in names if not all(map(importlib.util.find_spec, zoo.ZOO[n].needs))]
    if lacking:
        note(f"left out, torchvision or transformers is missing: {', '.join(lacking)}")
    return [name for name in names if name not in lacking]


def _export(missing: dict[str, Path], jobs: int, end_s: float) -> int:
    """Export until the time is over. Returns how many failed."""
    context = multiprocessing.get_context("spawn")
    failed = 0
    waiting = list(missing.items())
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        running: dict[Future[str | None], str] = {}
        while waiting or running:
            while waiting and len(running) < jobs and time.monotonic() < end_s:
                name, path = waiting.pop(0)
                running[pool.submit(export_entry, name, path)] = name
            if not running:
                note(f"no time was left for {len(waiting)} modules: give more --minutes")
                break
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                name, problem = running.pop(done), done.result()
                failed += problem is not None
                note(f"{name}: {problem or 'exported'}")
    return failed


def export_entry(name: str, path: Path) -> str | None:
    """Export one module to every format that can hold it. Returns why not."""
    torch.set_num_threads(1)
    entry = zoo.ZOO[name]
    formats = tuple(f for f in deploy.DEFAULT_FORMATS if f not in entry.expected)
    if not formats:
        return None
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            deploy.export_source(source_of_entry(name), path, deploy.Request(formats))
    except EdgeportError as e:
        return f"{type(e).__name__}: {e.problem}"
    return None


def _file_name(name: str) -> str:
    return name.replace(" ", "-").replace("/", "-")


if __name__ == "__main__":
    raise SystemExit(main())
