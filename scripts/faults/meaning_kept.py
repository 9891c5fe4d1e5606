"""What keeps the meaning of a model: a proof that fails one of these cries wolf.

Each transformation is a file and a way to open it. They are compiled by edgeport's own routes,
at every opset, with and without the exporter's optimiser, and opened at every optimisation level.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias
from unittest import mock

import onnx
import onnxruntime
import onnxscript.optimizer
import torch

from edgeport.deploy.compilers import torchscript
from edgeport.deploy.compilers.onnx_files import onnx_export
from edgeport.deploy.compilers.onnx_files.onnx_graph import FILE
from edgeport.deploy.compilers.stored import Compiled
from edgeport.deploy.compilers.targets import (
    DEFAULT_OPSET,
    OnnxRequest,
    negotiate,
)
from edgeport.deploy.compilers.upstream import inference_only, quiet
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import Options
from edgeport.runtimes.libtorch.session import TorchSession
from edgeport.runtimes.ort.cpu import PROVIDER, OrtSession
from edgeport.runtimes.session import Session, open_artefact

OPSETS: Final = range(18, 24)
THREADS: Final = (1, 2)

LEVELS: Final = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "layout": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_LAYOUT,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


@dataclass(frozen=True, slots=True)
class Way:
    """One transformation: what it is called, and the opened result."""

    name: str
    open: Callable[[], Session]


Compile: TypeAlias = Callable[[Source, Path, OnnxRequest], Compiled]

Make: TypeAlias = Callable[[Source, Path], Iterator[Way]]


def ways(source: Source, folder: Path) -> Iterator[Way | str]:
    """Every transformation that this module has; a string says which one it lacks, and why."""
    for make in (_dynamo, _plain, _folded, _script, _torchscript):
        yield from _made(make, source, folder)


def _made(make: Make, source: Source, folder: Path) -> list[Way | str]:
    try:
        with quiet(), inference_only(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(make(source, folder))
    except Exception as e:  # a route may refuse a module in any way
        return [f"{make.__name__.strip('_')}: {type(e).__name__}: {e}".splitlines()[0][:200]]


def _dynamo(source: Source, folder: Path) -> Iterator[Way]:
    """The module written at every opset; at ONNX Runtime's extremes."""
    for opset in OPSETS:
        yield from _levels(onnx_export.dynamo, source, folder, opset)


def _script(source: Source, folder: Path) -> Iterator[Way]:
    """What an export does where the first route refuses a module."""
    if not (folder / "dynamo20" / FILE).exists():
        for opset in OPSETS:
            yield from _levels(onnx_export.converted, source, folder, opset)


def _levels(compile_: Compile, source: Source, folder: Path, opset: int) -> Iterator[Way]:
    route = compile_.__name__
    file = _compile(compile_, source, folder / f"{route}{opset}", opset)
    cases = itertools.product(("none", "all"), (1,))
    if opset == DEFAULT_OPSET:
        cases = itertools.product(tuple(LEVELS), THREADS)
    for level, threads in cases:
        name = f"{route}, opset {opset}, level {level}, {threads} threads"
        yield Way(name, partial(_open, file, level, threads))


def _plain(source: Source, folder: Path) -> Iterator[Way]:
    plain: Any = partial(torch.onnx.export, optimize=False)
    with mock.patch.object(torch.onnx, "export", plain):
        file = _compile(onnx_export.dynamo, source, folder / "plain", DEFAULT_OPSET)
    for level in ("none", "all"):
        yield Way(f"not optimised by onnxscript, level {level}", partial(_open, file, level, 1))


def _folded(source: Source, folder: Path) -> Iterator[Way]:
    model = onnx.load(folder / "plain" / FILE)
    optimised = onnxscript.optimizer.optimize(model, input_size_limit=2**20)
    file = folder / "again.onnx"
    file.write_bytes(optimised.SerializeToString())
    for level in ("none", "all"):
        name = f"all constants folded by onnxscript, level {level}"
        yield Way(name, partial(_open, file, level, 1))


def _compile(compile_: Compile, source: Source, folder: Path, opset: int) -> Path:
    folder.mkdir()
    compiled = compile_(source, folder, negotiate(opset, None))
    return folder / compiled.artefact.stored.file


def _open(file: Path, level: str, threads: int) -> Session:
    session = OrtSession(file, Options(threads=threads))
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = LEVELS[level]
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4
    session._session = onnxruntime.InferenceSession(str(file), settings, providers=[PROVIDER])
    return session


def _torchscript(source: Source, folder: Path) -> Iterator[Way]:
    for name in ("script", "exported", "trace"):
        if name == "trace" and _depends_on_values(source):
            raise RuntimeError("torch warns that a trace is of these values alone")
        try:
            own = folder / name
            own.mkdir()
            file = own / getattr(torchscript, name)(source, own).artefact.stored.file
        except Exception:  # a route may refuse a module in any way; the next one may not
            continue
        yield Way(f"torchscript by {name}, frozen", partial(open_artefact, file, "libtorch"))
        yield Way(f"torchscript by {name}, optimised", partial(_open_optimised, file, source))
        return


def _depends_on_values(source: Source) -> bool:
    jit: Any = torch.jit
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        jit.trace(source.flat, tuple(source.example_tensors()), check_trace=False)
    return any(issubclass(each.category, jit.TracerWarning) for each in told)


def _open_optimised(file: Path, source: Source) -> Session:
    jit: Any = torch.jit
    optimised = jit.optimize_for_inference(jit.load(file))
    return TorchSession("libtorch", optimised, source.signature, Options(threads=1))
