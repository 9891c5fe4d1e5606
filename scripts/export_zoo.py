"""Export the zoo into a folder of bundles, to be carried to another machine or checked on this one.

    python -m scripts.export_zoo zoo [--minutes 30] [--jobs 2] [--only "mlp,convnet,convnet int8"]

One of every family comes first, then some in float16 and int8, so that a short time gives a broad
choice. What is there already is left as it is, so the same command goes on. Modules whose packages
are missing are left out, and named; formats that can't hold a module are too. Exit code 1 if an
export that should work fails.
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
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for the zoo

import torch
import zoo

from edgeport import deploy
from edgeport.commands.terminal import note
from edgeport.deploy.compilers.targets import find_target
from edgeport.runtimes import EdgeportError
from edgeport.runtimes.parity.thresholds import Precision
from scripts.zoo_sources import source_of_entry

JOBS: Final = max(1, (os.cpu_count() or 2) // 2)


@dataclass(frozen=True, slots=True)
class Narrow:
    """A module in a narrower precision, as ONNX.

    Attributes:
        module: Its name in the zoo.
        precision: As ``--precision`` takes it.
        target: As ``--target`` takes it.
    """

    module: str
    precision: Precision
    target: str | None = None


NARROW: Final[Mapping[str, Narrow]] = {
    "convnet float16": Narrow("convnet", "float16"),
    "convnet int8": Narrow("convnet", "int8"),  # static
    "convnet int8 for tensorrt": Narrow("convnet", "int8", "tensorrt-10"),  # symmetric
    "mlp int8": Narrow("mlp", "int8"),  # dynamic
    "patch transformer float16": Narrow("patch transformer", "float16"),
    "lstm float16": Narrow("lstm", "float16"),
    "wide mlp float16": Narrow("wide mlp", "float16"),
}


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
    known = [*zoo.ZOO, *NARROW]
    unknown = [name for name in only if name not in known]
    if unknown:
        raise SystemExit(f"no module is named {unknown[0]!r}; there are {', '.join(known)}")
    wide = [name for name in only or zoo.ZOO if name in zoo.ZOO]
    families: dict[str, list[str]] = {}
    for name in wide:
        families.setdefault(zoo.ZOO[name].family, []).append(name)
    turns = itertools.zip_longest(*families.values())
    names = [name for turn in turns for name in turn if name is not None]
    names[len(families) : len(families)] = [name for name in NARROW if not only or name in only]
    lacking = [n for n in names if not all(map(importlib.util.find_spec, _entry(n).needs))]
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
    narrow = NARROW.get(name)
    if narrow is not None:
        target = find_target(narrow.target) if narrow.target else None
        request = deploy.Request(("onnx",), target=target, precision=narrow.precision)
    else:
        formats = tuple(f for f in deploy.DEFAULT_FORMATS if f not in _entry(name).expected)
        if not formats:
            return None
        request = deploy.Request(formats)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = source_of_entry(narrow.module if narrow else name)
            deploy.export_source(source, path, request)
    except EdgeportError as e:
        return f"{type(e).__name__}: {e.problem}"
    return None


def _entry(name: str) -> zoo.Entry:
    return zoo.ZOO[NARROW[name].module if name in NARROW else name]


def _file_name(name: str) -> str:
    return name.replace(" ", "-").replace("/", "-")


if __name__ == "__main__":
    raise SystemExit(main())
