"""Is anything shipped that computes something else? Random modules, asked what no export tried.

    python scripts/fuzz_export.py --programs 200 --json fuzz.json
    python scripts/fuzz_export.py --first 1234 --programs 1 --show
    python scripts/fuzz_export.py --form scripted
    python scripts/fuzz_export.py --form layers --precision int8

Each program is drawn from its seed: a few statements that eager runs at all its sizes. It is
exported to each format by itself, and what is shipped is compared with eager at other sizes and
values: the smallest and largest, negative, zeros, -0.0, halves, large, integers of 41 bits. Exit
code 1 if one is wrong. With ``--form`` programs are given as something else; with ``--precision``
the ONNX file is made narrower, and judged as such.

Every program has a process of its own. With ``--json`` what is there already is not run again. A
program takes some seconds.
"""

import argparse
import importlib.util
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for the scripts beside this one

import numpy as np
import torch

from edgeport import deploy
from edgeport.commands.terminal import note, table
from edgeport.deploy.compilers.warm import warm_up
from edgeport.deploy.isolation import Killed, Limits, run_isolated
from edgeport.deploy.proof.reference import Reference
from edgeport.deploy.proof.ties import hangs_on_ties
from edgeport.deploy.request import Request
from edgeport.deploy.sources.samples import Sample
from edgeport.deploy.sources.source import Source
from edgeport.deploy.sources.trees import named_tensors
from edgeport.runtimes import EdgeportError, Session
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.bundles.manifest import Kind
from edgeport.runtimes.parity.thresholds import Precision, Thresholds
from edgeport.runtimes.parity.verification import check_session
from scripts.exports.kept import Cell, add_options, found_apart, keep, kept, print_first
from scripts.fuzz.programs import FORMS, STYLES, Form, Program, draw, values

BACKENDS: Final[Mapping[str, str]] = {"torchscript": "libtorch", "onnx": "ort-cpu", "pt2": "torch"}
QUESTIONS: Final = 14
WITHIN: Final = ("usual", "negative", "halves")
"""Styles whose values lie within those of the samples, so that narrow files owe signal there."""


def main() -> int:
    arguments = _parser().parse_args()
    cells = kept(arguments.json)
    warm_up(tuple(BACKENDS), 20)
    for seed in range(arguments.first, arguments.first + arguments.programs):
        if str(seed) in cells:
            continue
        if not isinstance(program := _drawn(seed, arguments.form), Program):
            continue
        if arguments.show:
            print(program.source(), *program.inputs, program.ranges, sep="\n")
        cells[str(seed)] = _cell(program, arguments.limit_s, arguments.precision)
        note(f"{seed}: {_summary(cells[str(seed)])}")
        keep(arguments.json, _report(cells))
    _print(cells)
    return 1 if any(_wrong(cells)) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Exports of random programs, held against eager.")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--programs", type=int, default=200, help="seeds from there on (200)")
    parser.add_argument("--form", choices=FORMS, default="eager", help="(eager)")
    parser.add_argument("--precision", choices=("float16", "int8"), help="of ONNX files alone")
    parser.add_argument("--show", action="store_true", help="print the programs")
    add_options(parser, "program", 300)
    return parser


def _drawn(seed: int, form: Form) -> Program | Killed | None:
    return run_isolated(partial(draw, seed, form=form), Limits(60))


def _cell(program: Program, limit_s: float, precision: Precision | None) -> Cell:
    """By format ``shipped`` or why not, and what is ``wrong``."""
    found = found_apart(partial(_try_all, program, precision), limit_s)
    return {"refused": found} if isinstance(found, str) else found


def _try_all(program: Program, precision: Precision | None) -> Cell:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        source = _source_of(program, _loaded(program, Path(folder)))
        reference = Reference(source)
        is_narrow = precision is not None
        questions = list(_questions(program, source, reference, is_narrow=is_narrow))
        cell: Cell = {"questions": len(questions), "formats": {}}
        for name in BACKENDS if precision is None else ("onnx",):
            request = Request((name,), precision=precision)
            cell["formats"][name] = _try(source, request, Path(folder), questions)
    return cell


def _loaded(program: Program, folder: Path) -> torch.nn.Module:
    """The module, from a file: torch.jit.script reads it."""
    file = folder / f"{program.name}.py"
    file.write_text(program.source())
    spec = importlib.util.spec_from_file_location(program.name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[program.name] = module
    spec.loader.exec_module(module)
    return program.formed(getattr(module, program.name))


def _source_of(program: Program, module: torch.nn.Module) -> Source:
    generator = np.random.default_rng(program.seed)
    *_, sizes = program.sizes(3)
    free = {
        spec.name: {axis: size for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in program.inputs
    }
    example: Any = dict(zip(free, program.given(sizes, generator, "usual"), strict=False))
    if program.form == "nested":
        names = [name for name, _ in named_tensors(example["x"], "given")]
        example = {"given": example["x"]}
        free = dict(zip(names, free.values(), strict=True))
    return deploy.source_of("fuzzed", module, example, free, program.ranges)


def _questions(
    program: Program, source: Source, reference: Reference, *, is_narrow: bool
) -> Iterator[Golden]:
    """What eager answers at other sizes and values, where that does not hang on equal ones."""
    generator = np.random.default_rng(program.seed + 1)
    styles = ["usual"] * (QUESTIONS - len(STYLES)) + [*STYLES]
    random.Random(program.seed).shuffle(styles)
    for style, sizes in zip(styles, program.sizes(QUESTIONS), strict=False):
        drawn = [values(s, sizes, generator, style) for s in program.inputs]
        inputs = {
            spec.name: array.astype(spec.dtype)
            for spec, array in zip(source.signature.inputs, drawn, strict=True)
        }
        try:
            if not hangs_on_ties(source.flat, inputs):
                kind: Kind = "random" if is_narrow and style in WITHIN else "edge"
                yield reference.answer(Sample(f"{style}, {sizes}", kind, inputs))
        except Exception:  # eager may raise anything: nothing has to agree with that
            continue


def _try(source: Source, asked: Request, folder: Path, questions: list[Golden]) -> Cell:
    (name,) = asked.formats
    constant: tuple[str, ...] = ()
    while True:
        request = replace(asked, thresholds=Thresholds(constant_outputs=constant))
        try:
            made = deploy.export_source(source, folder / f"{name}.edge", request)
            break
        except EdgeportError as e:
            if constant or "proves nothing" not in e.problem:
                return {"refused": f"{type(e).__name__}: {e.problem}", "remedy": e.remedy}
            constant = tuple(spec.name for spec in source.signature.outputs)
    with made.bundle.open(BACKENDS[name]) as session:
        found = (_differences(session, question, asked.precision) for question in questions)
        wrong = [each for differences in found for each in differences]
    return {"shipped": True, "wrong": wrong}


def _differences(
    session: Session, question: Golden, reduced: Precision | None = None
) -> Iterator[str]:
    try:
        verdicts = check_session(session, [question], Thresholds(), reduced)
    except EdgeportError as e:
        yield f"{question.name}: {e.problem}"
        return
    for verdict in verdicts:
        if verdict.status == "fail":
            yield f"{question.name}: {verdict.output}: {verdict.reason}"


def _summary(cell: Cell) -> str:
    if "refused" in cell:
        return str(cell["refused"]).splitlines()[0]
    words = (
        f"{name} {'WRONG' if found.get('wrong') else 'right' if 'shipped' in found else 'refused'}"
        for name, found in cell["formats"].items()
    )
    return ", ".join(words)


def _wrong(cells: Mapping[str, Cell]) -> Iterator[str]:
    for seed, cell in cells.items():
        for name, found in cell.get("formats", {}).items():
            if found.get("wrong"):
                yield f"{seed}, {name}: {found['wrong'][0]}"


def _report(cells: Mapping[str, Cell]) -> dict[str, Any]:
    return {
        "fuzz_export_version": 1,
        "programs": len(cells),
        "wrong": len(list(_wrong(cells))),
        "cells": cells,
    }


def _print(cells: Mapping[str, Cell]) -> None:
    rows = []
    reasons: Counter[str] = Counter()
    for name in BACKENDS:
        found = [c["formats"][name] for c in cells.values() if name in c.get("formats", {})]
        shipped = [each for each in found if "shipped" in each]
        wrong = sum(bool(each["wrong"]) for each in shipped)
        rows.append([name, str(len(shipped)), str(wrong), str(len(found) - len(shipped))])
        reasons.update(_kind(each["refused"]) for each in found if "refused" in each)
    reasons.update(_kind(cell["refused"]) for cell in cells.values() if "refused" in cell)
    print(table(["format", "shipped", "wrong", "refused"], rows, right=[1, 2, 3]))
    told = [f"{count:4d}  {reason}" for reason, count in reasons.most_common()]
    print_first("wrong", list(_wrong(cells)))
    print_first("refused", told)


def _kind(problem: str) -> str:
    """The first line, without what differs from program to program."""
    return re.sub(r"Program\d+|'\w+'|\d+", "..", problem.splitlines()[0])[:120]


if __name__ == "__main__":
    raise SystemExit(main())
