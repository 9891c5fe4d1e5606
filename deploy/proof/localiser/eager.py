"""Record the eager module, and the oracle beside it."""

import contextlib
import difflib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeport.deploy.compilers.upstream import inference_only
from edgeport.deploy.proof.oracle import Oracle
from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.source import Source
from edgeport.runtimes.inputs import Array

from .recording import Recorder, record
from .trace import Trace, Value


def trace_eager(
    source: Source,
    inputs: Mapping[str, Array],
    limit: int,
    whole: frozenset[int] = frozenset(),
) -> Trace:
    """Run the module in its own precision and in float64, and note every value of both.

    Args:
        source: The module.
        inputs: By name.
        limit: How many elements of a value are kept.
        whole: Numbers of values that are kept whole.

    Raises:
        Exception: Whatever the module raises.
    """
    recurrent = any(isinstance(part, nn.RNNBase) for part in source.module.modules())
    with _plain_kernels() if recurrent else contextlib.nullcontext():
        trace = _run(source.flat, source, inputs, limit, whole)
    try:
        oracle = Oracle(source.flat)
        with oracle.in_float64(), _plain_kernels():
            wide = _run(oracle.flat, source, inputs, limit, whole)
            there = {b for a, b in _pairs(trace.values, wide.values) if a in whole}
            if there != whole:  # its run takes other steps, whose numbers are now known
                wide = _run(oracle.flat, source, inputs, limit, frozenset(there))
    except Exception:  # an operator without float64; the floor is then some ulp
        return trace
    return Trace(_with_oracle(trace.values, wide.values), trace.outputs)


def _plain_kernels() -> contextlib.AbstractContextManager[None]:
    """No fused kernels of oneDNN: they have no float64, so that its run would take other steps."""
    found: contextlib.AbstractContextManager[None] = torch.backends.mkldnn.flags(enabled=False)
    return found


def _run(
    flat: Flat, source: Source, inputs: Mapping[str, Array], limit: int, whole: frozenset[int]
) -> Trace:
    recorder = Recorder(limit, whole=whole)
    recorder.name(flat.module)

    def run(tensors: list[torch.Tensor]) -> Iterable[torch.Tensor]:
        with torch.compiler.set_stance("force_eager"):
            found: Iterable[torch.Tensor] = flat(*tensors)
        return found

    outputs = [spec.name for spec in source.signature.outputs]
    with (
        contextlib.redirect_stdout(io.StringIO()),
        inference_only(),
        recorder.following(flat.module),
    ):
        return record(run, recorder, inputs, outputs)


def _key(value: Value) -> tuple[Any, ...]:
    return value.operator, value.name, value.module, value.shape


def _with_oracle(values: Iterable[Value], wide: Iterable[Value]) -> list[Value]:
    values, wide = list(values), list(wide)
    for here, there in _pairs(values, wide):
        if wide[there].kept.dtype == np.float64 and values[here].floats:
            values[here] = replace(values[here], oracle=wide[there].kept)
    return values


def _pairs(values: Sequence[Value], wide: Sequence[Value]) -> list[tuple[int, int]]:
    """The numbers of what is one value in both runs."""
    if [*map(_key, values)] == [*map(_key, wide)]:
        return [(index, index) for index in range(len(values))]
    matcher = difflib.SequenceMatcher(
        None, [*map(_key, values)], [*map(_key, wide)], autojunk=False
    )
    return [
        (block.a + step, block.b + step)
        for block in matcher.get_matching_blocks()
        for step in range(block.size)
    ]
