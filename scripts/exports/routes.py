"""The ways from a module to a file and back that ``bench_export.py`` compares.

The raw tools are called as their documentation says, with the same knowledge as edgeport: the
example inputs and the names of the free dimensions. They get the module as its user has it.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import onnxruntime
import torch
from torch import Tensor, nn
from zoo import Entry, Inputs
from zoo.nested import children, flat, mapped, tensors
from zoo.reference import as_array, bound

from edgeport.deploy.compilers.capture.program import symbol
from edgeport.runtimes.inputs import Array
from scripts.exports.zoo_sources import REAL_SAMPLE_SEED

Run: TypeAlias = Callable[[Inputs], Sequence[Array]]
"""An opened artefact: forward's inputs in, outputs in order."""

_jit: Any = torch.jit  # it has no types


@dataclass(frozen=True, slots=True)
class Job:
    """What a route has to work with."""

    name: str
    entry: Entry
    module: nn.Module
    example: Inputs
    folder: Path

    @property
    def file(self) -> Path:
        """Where the artefact goes."""
        return self.folder / "artefact"


@dataclass(frozen=True, slots=True)
class Route:
    """One way to one format.

    Attributes:
        write: Write the artefact to ``job.file``; raises where the tool refuses.
        open: Open it; without leave to optimise, an engine runs the graph as it was written. An
            optimiser can hide a defect: it deletes a dropout that was left on.
    """

    format: str
    write: Callable[[Job], None]
    open: Callable[[Job, bool], Run]


def _dynamo(job: Job) -> None:
    args, kwargs = bound(job.module, job.example)
    if args and isinstance(args[-1], dict):
        args, kwargs = (), job.example  # a dict in the last place is taken for the keywords
    torch.onnx.export(
        job.module,
        args,
        job.file,
        kwargs=kwargs or None,
        input_names=list(flat(job.example)),
        dynamic_shapes=_dynamic_shapes(job),
        dynamo=True,
    )


def _legacy(job: Job) -> None:
    args, kwargs = bound(job.module, job.example)
    if kwargs or isinstance(args[-1], dict):
        args += (kwargs,)  # as above
    torch.onnx.export(
        job.module,
        args,
        str(job.file),
        input_names=list(flat(job.example)),
        dynamic_axes={name: dict(axes) for name, axes in job.entry.dimensions.items()},
        dynamo=False,
    )


def _trace(job: Job) -> None:
    args, kwargs = bound(job.module, _without_defaults(job))
    if kwargs:
        traced = _jit.trace(job.module, example_kwarg_inputs=_without_defaults(job))
    else:
        traced = _jit.trace(job.module, args)
    _jit.save(traced, job.file)


def _script(job: Job) -> None:
    _jit.save(_jit.script(job.module), job.file)


def _program(job: Job) -> None:
    args, kwargs = bound(job.module, job.example)
    program = torch.export.export(job.module, args, kwargs, dynamic_shapes=_dynamic_shapes(job))
    torch.export.save(program, job.file.with_suffix(".pt2"))


def edgeport_export(job: Job, format_: str, on_event: Callable[[Any], None]) -> None:
    """Export with edgeport, which is told what the raw tools are told; no more, no less.

    Only where a module does not take every value of the right dtype, samples are given too.
    """
    from edgeport import deploy

    deploy.export(
        job.module,
        job.example,
        job.file.with_suffix(".edge"),
        dimensions=job.entry.dimensions,
        ranges=job.entry.ranges,
        samples=[_real_sample(job.entry, n) for n in range(job.entry.real_samples)],
        formats=(format_,),
        on_event=on_event,
    )


def _ours(format_: str) -> Callable[[Job], None]:
    return lambda job: edgeport_export(job, format_, lambda _: None)


def _real_sample(entry: Entry, number: int) -> dict[str, Array]:
    inputs = entry.check(REAL_SAMPLE_SEED + number, entry.usual)
    return {name: as_array(tensor) for name, tensor in flat(inputs).items()}


def _open_onnx(job: Job, optimize: bool) -> Run:
    settings = onnxruntime.SessionOptions()
    if not optimize:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        str(job.file), settings, providers=["CPUExecutionProvider"]
    )
    wanted = [value.name for value in session.get_inputs()]

    def run(inputs: Inputs) -> Sequence[Array]:
        arrays = {name: as_array(tensor) for name, tensor in flat(inputs).items()}
        if not set(wanted) <= set(arrays):
            arrays = dict(zip(wanted, arrays.values(), strict=True))  # other names, same order
        outputs: Any = session.run(None, {name: arrays[name] for name in wanted})
        return list(outputs)

    return run


def _open_torchscript(job: Job, optimize: bool) -> Run:
    loaded = _jit.load(job.file)
    return lambda inputs: _called(job, loaded, inputs)


def _open_trace(job: Job, optimize: bool) -> Run:
    loaded = _jit.load(job.file)
    kept = set(_without_defaults(job))
    return lambda inputs: _called(job, loaded, {n: v for n, v in inputs.items() if n in kept})


def _open_program(job: Job, optimize: bool) -> Run:
    loaded = torch.export.load(job.file.with_suffix(".pt2")).module()
    return lambda inputs: _called(job, loaded, inputs)


def _open_edgeport(backend: str) -> Callable[[Job, bool], Run]:
    def open_(job: Job, optimize: bool) -> Run:
        from edgeport import runtimes

        path = job.file.with_suffix(".edge")
        session = runtimes.Bundle.read(path).open(backend, runtimes.Options(optimize=optimize))
        wanted = [spec.name for spec in session.signature.inputs]

        def run(inputs: Inputs) -> Sequence[Array]:
            arrays = {name: as_array(tensor) for name, tensor in flat(inputs).items()}
            outputs = session.run({name: arrays[name] for name in wanted})
            return [outputs[spec.name] for spec in session.signature.outputs]

        return run

    return open_


RAW: Final[Mapping[str, Route]] = {
    "dynamo": Route("onnx", _dynamo, _open_onnx),
    "legacy": Route("onnx", _legacy, _open_onnx),
    "trace": Route("torchscript", _trace, _open_trace),
    "script": Route("torchscript", _script, _open_torchscript),
    "export": Route("pt2", _program, _open_program),
}

OURS: Final[Mapping[str, Route]] = {
    f"edgeport {format_}": Route(format_, _ours(format_), _open_edgeport(backend))
    for format_, backend in (("onnx", "ort-cpu"), ("torchscript", "libtorch"), ("pt2", "torch"))
}

ROUTES: Final[Mapping[str, Route]] = {**RAW, **OURS}


def _called(job: Job, loaded: Callable[..., Any], inputs: Inputs) -> Sequence[Array]:
    args, kwargs = bound(job.module, mapped(Tensor.clone, inputs))
    with torch.no_grad():
        return [as_array(tensor) for tensor in tensors(loaded(*args, **kwargs))]


def _without_defaults(job: Job) -> Inputs:
    """What a trace can be given: constants are left out where forward has them as defaults."""
    parameters = inspect.signature(job.module.forward).parameters
    return {
        name: value
        for name, value in job.example.items()
        if flat({name: value}) or name not in parameters or parameters[name].default != value
    }


def _dynamic_shapes(job: Job) -> dict[str, Any]:
    """The free dimensions in the shape of forward's arguments."""
    dims = {name: symbol(name, job.entry.range_of(name)) for name in job.entry.free}
    named = {
        name: {axis: dims[dim] for axis, dim in axes.items()}
        for name, axes in job.entry.dimensions.items()
    }
    args, kwargs = bound(job.module, {n: _shape(n, v, named) for n, v in job.example.items()})
    return dict(inspect.signature(job.module.forward).bind(*args, **kwargs).arguments)


def _shape(name: str, value: Any, named: Mapping[str, Any]) -> Any:
    if isinstance(value, Tensor):
        return named.get(name, {})
    parts = {key: _shape(f"{name}_{key}", part, named) for key, part in children(value)}
    if isinstance(value, Mapping):
        return parts
    return type(value)(parts.values()) if isinstance(value, tuple | list) else None
