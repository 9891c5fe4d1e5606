"""The localiser: where does an artefact leave the module that it was made from?"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from edgeport.deploy.diagnosis.places import Line, told_line
from edgeport.deploy.kinds import kind_at
from edgeport.deploy.sources.source import Source
from edgeport.deploy.sources.surroundings import left_outside
from edgeport.runtimes import ParityError, UsageError, files
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.parity.comparison import measure
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.session import FORMATS

from . import cut_onnx, cut_torch
from .describe import tensors, walk
from .divergence import Divergence, Sides, compare_sides, find_divergence
from .eager import trace_eager
from .matching import Judge
from .onnx_run import LEVELS, OnnxFile, run_outputs, trace_onnx
from .recording import Recorder
from .result import Localisation
from .segment import Whole, segment_of
from .torch_run import trace_torch
from .trace import Trace, kept_per_value

MEMORY_BYTES: Final = 2**30
"""For the values that are compared, and once more for those of one run of ONNX Runtime."""

_BACKENDS: Final = {"onnx": "ort-cpu", "torchscript": "libtorch", "pt2": "torch"}
_MOST_FUSED: Final = 3
"""Modules that one operator does the work of by itself: convolution, norm and activation."""

_FEWEST_VALUES: Final = 500
"""Values that memory is shared among at the least: eager takes more operators than ONNX nodes."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A wrong run, and how to cut a piece out of it.

    Attributes:
        file: The ONNX file that ran, which may be ONNX Runtime's rewriting of the artefact.
        recorder: Of a torch archive.
    """

    trace: Trace
    wrong: Sequence[tuple[int, int]]
    levels: Mapping[str, bool]
    file: OnnxFile | None = None
    recorder: Recorder | None = None
    notes: tuple[str, ...] = ()


@left_outside()
def localise(
    source: Source,
    artefact: str | Path,
    sample: Golden,
    *,
    backend: str | None = None,
    debug_map: str | None = None,
    thresholds: Thresholds | None = None,
    repro: Path | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Localisation:
    """Find the first value of the module that an artefact does not have.

    The module and the artefact run once each on the sample, with every value between the
    operators in view, and the values are compared by the parity rule. No name is needed for
    that: values agree or not. Three runs more say which of ONNX Runtime's graph optimisation
    levels are wrong, if not all are, and whether the operator alone is.

    Args:
        source: What the artefact was made from.
        artefact: A ``.onnx``, ``.ts`` or ``.pt2`` file. It is trusted: loading the last two can
            run code.
        sample: One that failed.
        backend: What to call the engine in the result; ``None`` for the usual one.
        debug_map: As ``Compiled.debug_map``: names the module of an ONNX node where values alone
            leave several.
        thresholds: Where the verdict turned.
        repro: A folder that does not exist yet, for the small case; ``None`` to write none.
        memory_bytes: For the values that are compared; ONNX Runtime may take as much again. Of a
            value that is larger than its share, only some elements are compared.

    Raises:
        ExistingFileError: ``repro`` exists.
        UsageError: The artefact's suffix is unknown, or it is right on this sample.
        ParityError: ONNX Runtime is wrong, and its rewriting of the graph, once written, is not.
        EngineError: ONNX Runtime refuses the file.
        StorageError: The case cannot be written.
        Exception: Whatever the module raises.

    Examples:
        >>> found = localise(source, "model.onnx", sample)                # doctest: +SKIP
        >>> found.module, found.operator                                  # doctest: +SKIP
        ('encoder.layers.3.attn', 'MatMul')
    """
    if repro is not None:
        files.refuse_existing(repro)
    artefact = Path(artefact)
    format_ = _format(artefact)
    limit = kept_per_value(memory_bytes, _FEWEST_VALUES)
    module = trace_eager(source, sample.inputs, limit)
    judge = Judge(module, _max_ratio(thresholds, sample))
    with TemporaryDirectory() as scratch:
        if format_ == "onnx":
            origins = _origins(debug_map, source)
            run = _run_onnx(artefact, sample, judge, origins, limit, memory_bytes, Path(scratch))
        else:
            run = _run_torch(artefact, format_, sample, judge, limit)
        found = _localised(source, format_, sample, judge, run, backend)
    if repro is not None and found.repro:
        write_repro(found, repro)
    return found


def write_repro(found: Localisation, folder: Path) -> None:
    """Write the small case.

    Args:
        found: What the localiser found.
        folder: It does not exist yet.

    Raises:
        ExistingFileError: It exists.
        StorageError: It cannot be written.
    """
    with files.new_folder(folder) as place:
        for name, data in found.repro.items():
            files.write(place / name, data)


def _format(artefact: Path) -> str:
    for format_ in _BACKENDS:
        if artefact.suffix == FORMATS[format_]:
            return format_
    raise UsageError(
        f"{artefact.name} is no artefact that can be looked into",
        remedy="give a .onnx, .ts or .pt2 file",
    )


def _max_ratio(thresholds: Thresholds | None, sample: Golden) -> float:
    asked = thresholds or Thresholds()
    edge = sample.kind == "edge"
    return min(asked.ratio_of(name, edge=edge) for name in ("", *asked.outputs))


def _origins(debug_map: str | None, source: Source) -> dict[str, str]:
    """Node -> module path; an exporter also notes names that are no modules."""
    nodes = json.loads(debug_map)["nodes"] if debug_map else []
    paths = {path for path, _ in source.module.named_modules()}
    return {node["node"]: node["module"] for node in nodes if node["module"] in paths}


def _run_onnx(
    artefact: Path,
    sample: Golden,
    judge: Judge,
    origins: Mapping[str, str],
    limit: int,
    memory_bytes: int,
    scratch: Path,
) -> _Found:
    file = OnnxFile.read(artefact)
    largest = max((v.size * v.kept.itemsize for v in judge.module.values), default=1)
    chunk = max(1, memory_bytes // max(1, largest))
    trace = trace_onnx(file, sample.inputs, limit, chunk, origins)
    if trace.failure:
        return _Found(trace, (), {}, file)
    wrong = wrong_outputs(judge, trace, sample)
    levels = _levels(file, sample, judge, right_as_written=not wrong)
    if wrong:
        return _Found(trace, wrong, levels, file)
    failing = next((level for level, right in levels.items() if not right), None)
    if failing is None:
        raise _is_right(artefact, sample)
    rewritten = scratch / "optimised.onnx"
    names = [value.name for value in file.model.graph.output]
    run_outputs(file, names, sample.inputs, failing, rewritten)
    optimised = OnnxFile.read(rewritten)
    trace = trace_onnx(optimised, sample.inputs, limit, chunk, origins)
    note = f"the graph is right as written; these nodes are ONNX Runtime's, at level {failing}"
    return _Found(trace, wrong_outputs(judge, trace, sample), levels, optimised, notes=(note,))


def _levels(
    file: OnnxFile, sample: Golden, judge: Judge, *, right_as_written: bool
) -> dict[str, bool]:
    """Whether each level is right; those between two that are alike are taken to be so too."""
    levels = {"disable": right_as_written, "all": _right_at("all", file, sample, judge)}
    between = ("basic", "extended")
    if levels["disable"] == levels["all"] and not right_as_written:
        levels.update(dict.fromkeys(between, levels["all"]))
    else:
        levels.update({level: _right_at(level, file, sample, judge) for level in between})
    return {level: levels[level] for level in LEVELS}


def _right_at(level: str, file: OnnxFile, sample: Golden, judge: Judge) -> bool:
    outputs = run_outputs(file, [*sample.eager], sample.inputs, level)
    return all(judge.agrees(sample.measure(name, outputs[name])) for name in sample.eager)


def _run_torch(artefact: Path, format_: str, sample: Golden, judge: Judge, limit: int) -> _Found:
    outputs = [*judge.module.outputs]
    trace, recorder = trace_torch(artefact, format_, sample.inputs, outputs, limit)
    wrong = [] if trace.failure else wrong_outputs(judge, trace, sample)
    if not wrong and not trace.failure:
        raise _is_right(artefact, sample)
    return _Found(trace, wrong, {}, recorder=recorder)


def wrong_outputs(judge: Judge, trace: Trace, sample: Golden) -> list[tuple[int, int]]:
    """Outputs that differ on a sample, as numbers: (module, artefact)."""
    found = []
    for name, number in judge.module.outputs.items():
        expected, actual = judge.module.values[number], trace.values[trace.outputs[name]]
        same = expected.shape == actual.shape and expected.kept.size == actual.kept.size
        if not same or not judge.agrees(sample.with_noise(name, judge.compare(expected, actual))):
            found.append((number, actual.number))
    return found


def _is_right(artefact: Path, sample: Golden) -> UsageError:
    return UsageError(
        f"{artefact.name} computes what the module computes on the sample {sample.name!r}",
        remedy="give a sample that fails; edgeport verify names them",
    )


def _localised(
    source: Source, format_: str, sample: Golden, judge: Judge, run: _Found, backend: str | None
) -> Localisation:
    if not run.wrong and not run.trace.failure:
        raise ParityError(
            "ONNX Runtime's own rewriting of the graph is right when it is written to a file",
            remedy="report this to ONNX Runtime, with the model",
        )
    sides = compare_sides(judge.module, run.trace, judge.match(run.trace))
    found = find_divergence(sides, run.wrong)
    first = judge.module.values[found.module]
    other = None if found.artefact is None else run.trace.values[found.artefact]
    path = _common(found.paths) if len(found.paths) > _MOST_FUSED else found.paths[0]
    node, operator = run.trace.failed or (None, None)
    if other is not None:
        node, operator = other.name, other.operator or "(input)"
    frames = [Line(file, number) for file, number in first.frames]
    line = told_line(frames)
    localisation = Localisation(
        format=format_,
        backend=backend or _BACKENDS[format_],
        sample=sample.name,
        module=path,
        kind=kind_at(source.module, path),
        fused=tuple(p for p in found.paths if p != path and p),
        source=None if line is None else str(line),
        torch_operator=first.operator or first.name,
        node=node,
        operator=operator,
        levels=run.levels,
        tensors=tuple(tensors(sides, judge, found)),
        walk=walk(sides, judge, found),
        reproduced=None,
        repro={},
        notes=(*run.notes, *_notes(judge.module, run.trace)),
    )
    return _with_case(source, sample, judge, sides, run, found, localisation)


def _common(paths: Sequence[str]) -> str:
    """The module that all of these are in, or are."""
    parts = [path.split(".") for path in paths]
    same = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))
    return ".".join(names[0] for names in same)


def _notes(module: Trace, artefact: Trace) -> list[str]:
    failed = [f"the artefact fails: {artefact.failure}"] if artefact.failure else []
    if all(value.whole for value in module.values):
        return failed
    return [*failed, "of large values only an even sample of elements was compared"]


def _with_case(
    source: Source,
    sample: Golden,
    judge: Judge,
    sides: Sides,
    run: _Found,
    found: Divergence,
    told: Localisation,
) -> Localisation:
    """Cut the small case out, and see whether it is wrong by itself."""
    segment = segment_of(sides, found)
    if segment is None:
        return told
    whole = _whole(source, sample, sides, [*segment.inputs.values(), segment.expected])
    made = None
    if run.file is not None:
        made = cut_onnx.cut(run.file, sides, segment, whole, told)
    elif run.recorder is not None:
        made = cut_torch.cut(run.recorder, sides, segment, whole, told)
    if made is None:
        return told
    actual, content = made
    expected = whole[segment.expected]
    shape = actual.shape if actual.size == expected[0].size else expected[0].shape
    eager = expected[0].reshape(shape).astype(actual.dtype, copy=False)
    oracle = None if expected[1] is None else expected[1].reshape(shape)
    figures = measure(actual, eager, oracle)
    return replace(told, reproduced=not judge.agrees(figures), repro=content)


def _whole(source: Source, sample: Golden, sides: Sides, numbers: Sequence[int]) -> Whole:
    """Eager's answer and the oracle's, all elements of them; run again if some were left out."""
    values = sides.module.values
    if not all(values[number].whole for number in numbers):
        values = trace_eager(source, sample.inputs, 1, frozenset(numbers)).values
    return {number: (values[number].kept, values[number].oracle) for number in numbers}
