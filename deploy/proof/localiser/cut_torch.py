"""Cut the wrong operator out of a torch archive, as a case that needs nothing else."""

import io
import operator
import warnings
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from edgeport.deploy.compilers.pt2 import forget_this_machine
from edgeport.deploy.compilers.torchscript import without_debug_records
from edgeport.runtimes.inputs import Array

from .divergence import Sides
from .recording import Call, Recorder, Reference
from .repro import script, stored_arrays
from .result import Localisation
from .segment import Segment, Whole, inputs_of


def cut(
    recorder: Recorder, sides: Sides, segment: Segment, whole: Whole, told: Localisation
) -> tuple[Array, dict[str, bytes]] | None:
    """Make the case and run it.

    Args:
        recorder: Of the archive, with its weights.
        sides: Both runs.
        segment: What to cut out.
        whole: Values of the module that the segment names.
        told: What was found, for the script's first line.

    Returns:
        What the case answers, and its files; ``None`` if it cannot be cut out or does not run.
    """
    arrays = inputs_of(segment, sides, whole)
    try:
        module = _module(recorder, sides, segment)
        tensors = tuple(torch.tensor(array) for array in arrays.values())
        with torch.no_grad():
            actual: Array = module(*tensors).detach().numpy()
            name, data = _saved(told.format, module, tensors)
    except Exception:  # a call that cannot be repeated: a loop, or a write into memory
        return None
    return actual, {
        name: data,
        "inputs.npz": stored_arrays(arrays, whole[segment.expected], actual),
        "repro.py": script(told.format, told).encode(),
    }


def _module(recorder: Recorder, sides: Sides, segment: Segment) -> torch.fx.GraphModule:
    graph = torch.fx.Graph()
    weights = torch.nn.Module()
    made: dict[int, torch.fx.Node] = {}
    for index, number in enumerate(segment.inputs):
        made[number] = graph.placeholder(f"input_{index}")

    def node_of(number: int) -> torch.fx.Node:
        if number not in made:  # a weight
            name = f"weight_{number}"
            weights.register_buffer(name, recorder.weights[number].detach().clone())
            made[number] = graph.get_attr(name)
        return made[number]

    for number in sorted(segment.inner):
        call: Call = sides.artefact.values[number].call
        args, kwargs = tree_map_only(
            Reference, lambda reference: node_of(reference.number), (call.args, call.kwargs)
        )
        result = graph.call_function(call.function, args, kwargs)
        made[number] = (
            result
            if call.output is None
            else graph.call_function(operator.getitem, (result, call.output))
        )
    graph.output(made[segment.output])
    return torch.fx.GraphModule(weights, graph)


def _saved(format_: str, module: Any, tensors: tuple[torch.Tensor, ...]) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if format_ == "torchscript":
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]  # torch.jit has no types
                module, tensors, check_trace=False
            )
            torch.jit.save(traced, buffer)
            return "model.ts", without_debug_records(buffer.getvalue())
        program = torch.export.export(module, tensors)
        forget_this_machine(program)
        torch.export.save(program, buffer)
        return "model.pt2", buffer.getvalue()
