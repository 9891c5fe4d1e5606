"""One attempt of ``bench_export.py``, in a process of its own: write, open, judge."""

import json
import os
import pickle
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
import zoo
from zoo.reference import Answer, answers, compare

from edgeport.runtimes import EdgeportError
from edgeport.runtimes.inputs import Array
from scripts.exports.routes import OURS, ROUTES, Job, Run


def make_reference(name: str, file: Path, log: Path) -> None:
    """Store what the module answers to held-out inputs."""
    _settle(log)
    file.write_bytes(pickle.dumps(answers(zoo.ZOO[name], lambda: zoo.make(name))))


def attempt(name: str, route: str, reference: Path, result: Path, log: Path) -> None:
    """Try one route for one module, and store what came of it."""
    _settle(log)
    with tempfile.TemporaryDirectory(dir=result.parent) as folder:
        job = Job(name, zoo.ZOO[name], zoo.make(name), zoo.inputs(name), Path(folder))
        start = time.perf_counter()
        outcome, detail = _write(job, route)
        took_s = time.perf_counter() - start
        if outcome == "ok":
            outcome, detail = _check(job, route, pickle.loads(reference.read_bytes()))
        if outcome == "ok" and ROUTES[route].format == "onnx":
            expected = pickle.loads(reference.read_bytes())
            outcome, detail = _check(job, route, expected, optimize=False)
    result.write_text(json.dumps({"outcome": outcome, "detail": detail, "export_s": took_s}))


def _settle(log: Path) -> None:
    """What is printed goes to a file, by whatever code. Attempts share cores: one thread each."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)


def _write(job: Job, route: str) -> tuple[str, str]:
    try:
        ROUTES[route].write(job)
    except EdgeportError as e:
        return "refused", f"{type(e).__name__}: {e.problem} | {e.remedy}"
    except Exception as e:  # a tool may raise anything
        return "crash" if route in OURS else "refused", _line(e)
    return "ok", ""


def _check(
    job: Job, route: str, expected: Sequence[Answer], *, optimize: bool = True
) -> tuple[str, str]:
    """``wrong``: other numbers. ``rejects``: a file that does not open, or not take an input."""
    try:
        run = ROUTES[route].open(job, optimize)
    except Exception as e:
        return "rejects", f"does not open: {_line(e)}"
    answered, errors = _run_all(run, expected)
    if answered:
        try:
            failed = [v for v in compare(*zip(*answered, strict=True)) if v.status == "fail"]
        except ValueError as e:
            return "wrong", str(e)
        if failed:
            graph = "" if optimize else "graph as written, "
            worst = f"{graph}{failed[0].output}, {failed[0].sample}: {failed[0].reason}"
            return "wrong", f"{len({v.sample for v in failed})} of {len(expected)} samples: {worst}"
    if errors:
        return "rejects", f"{len(errors)} of {len(expected)} samples: {errors[0]}"
    return "ok", ""


def _run_all(
    run: Run, expected: Sequence[Answer]
) -> tuple[list[tuple[Answer, Sequence[Array]]], list[str]]:
    answered: list[tuple[Answer, Sequence[Array]]] = []
    errors = []
    for answer in expected:
        try:
            answered.append((answer, run(answer.inputs)))
        except Exception as e:
            errors.append(f"{answer.sample}: {_line(e)}")
    return answered, errors


def _line(error: BaseException) -> str:
    """The first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:400]
