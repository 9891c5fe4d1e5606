"""On which inputs a static int8 file can be judged: where its values stay in the measured ranges.

A search that leaves them finds how far it left them, and not whether the file is right.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array

from .localiser.onnx_run import OnnxFile, open_outputs

Inputs = Mapping[str, Array]
Bounds = dict[str, tuple[float, float]]
"""The least and the largest of each value that is rounded."""


@contextlib.contextmanager
def within_ranges(path: Path, golden: Sequence[Golden]) -> Iterator[Callable[[Inputs], bool]]:
    """What says of inputs whether all values of a file stay in its ranges, or where samples get.

    Args:
        path: Of an ONNX file; one without ranges can be judged on all inputs.
        golden: What it was proved on, which may leave the ranges a little.

    Raises:
        EngineError: ONNX Runtime refused it.
    """
    file = OnnxFile.read(path)
    seen = dict(_ranges(file))
    inner = [name for name in seen if name not in golden[0].inputs]
    with open_outputs(file, inner) if inner else contextlib.nullcontext() as session:

        def reached(inputs: Inputs) -> Bounds:
            values = dict(inputs)
            if session is not None:
                feed = {entry.name: inputs[entry.name] for entry in session.get_inputs()}
                values |= zip(inner, session.run(inner, feed), strict=True)
            found = {name: values[name] for name in seen}
            return {n: (float(a.min()), float(a.max())) for n, a in found.items() if a.size}

        for sample in golden:
            for name, (low, high) in reached(sample.inputs).items():
                seen[name] = min(low, seen[name][0]), max(high, seen[name][1])
        yield lambda inputs: all(
            seen[name][0] <= low and high <= seen[name][1]
            for name, (low, high) in reached(inputs).items()
        )


def _ranges(file: OnnxFile) -> Iterator[tuple[str, tuple[float, float]]]:
    """To half a step beyond the least and the largest integer.

    A range is of all of a value: a module that rounds channel by channel does so by itself.
    """
    single = {t.name: t for t in file.model.graph.initializer if math.prod(t.dims) == 1}
    for node in file.model.graph.node:
        given = [single[name] for name in node.input[1:] if name in single]
        if node.op_type == "QuantizeLinear" and len(given) == 2:
            step, zero = (file.weight(tensor).reshape(()) for tensor in given)
            ends = np.iinfo(zero.dtype)
            least, largest = ends.min - 0.5 - float(zero), ends.max + 0.5 - float(zero)
            yield node.input[0], (least * float(step), largest * float(step))
