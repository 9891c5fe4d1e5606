"""Why TensorRT refuses a model, in the user's terms: their module, their line, what to do."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import onnx
from torch import nn

from edgeport.deploy.diagnosis.diagnose import Diagnosis
from edgeport.deploy.diagnosis.nodes import origins_in, placed
from edgeport.deploy.diagnosis.remedies import Family
from edgeport.runtimes.tensorrt.order import Problem, Refused

from .operators import PART

_MOST_OTHERS: Final = 5

_LACKING: Final = re.compile(r"false|.*[Pp]lugin (?:not found|creator).*", re.DOTALL)
"""How the parser says that it has no such operator."""

_TURING: Final = re.compile(r"Cannot compile operation '([^']+)' for Turing .*: (.*)")
_ELEMENTS: Final = re.compile(
    r".*(?:requires inputs with type .*But type is (\w+)\.|has type (\w+) but must have "
    r"|unsupported input type of (\w+)).*",
    re.DOTALL,
)

_CONSTANT: Final = re.compile(r".*Failed to import initializer: (\S+)\s*", re.DOTALL)
"""All that the parser says of a constant whose dtype it has not: its name at the end."""

_FLAT: Final = "at least 2 dimensions are required"

_SUM: Final = (
    "a sum by index is a product with ones and zeros: "
    "torch.nn.functional.one_hot(index, n).float().transpose(-1, -2) @ values"
)
_SIZE: Final = (
    "how many there are is known only when it runs: use torch.where(mask, x, 0) in place of "
    "x[mask]; in a mixture of experts let each answer all rows, times a weight that may be 0"
)
_QUANTISED: Final = "quantise with scales that are known beforehand: QuantizeLinear and "
_REMEDIES: Final = {
    "NonZero": _SIZE,
    "Compress": _SIZE,
    "Unique": "how many there are is known only when it runs: sort in place of torch.unique, and "
    "compare neighbours",
    "ScatterElements": _SUM,
    "ScatterND": _SUM,
    "DFT": "a transform of fixed length is a product with a constant matrix of cosines and sines",
    "STFT": "a transform of fixed length is a product with a constant matrix of cosines and sines",
    "Det": "write the determinant of a small matrix out, by its cofactors",
    "Col2Im": "torch.nn.functional.fold is conv_transpose2d with an identity as its kernel",
    "SequenceEmpty": "write each step into a tensor that is made before the loop, or stack them in "
    "a loop of fixed length, in place of appending to a list",
    "Resize": "leave antialias=True out, or resize by two products with constant weights",
    "DynamicQuantizeLinear": f"{_QUANTISED}DequantizeLinear",
    "ConvInteger": f"{_QUANTISED}DequantizeLinear around a convolution of floats",
    "MatMulInteger": f"{_QUANTISED}DequantizeLinear around a product of floats",
}

_REMEDIES_OF_DTYPES: Final = {
    "BitShift": "a shift of integers is a product with a power of two, or a floor division by one: "
    "x * 8 in place of x << 3, x // 8 in place of x >> 3",
}

_DEFECT: Final = re.compile(r"MyelinCheckException|\bCHECK\(|\bAssertion ")
"""A check inside its compiler failed: nothing is wrong with the graph."""

_NESTED: Final = "op->input_size()"
_WITHIN: Final = "it is a branch within a branch, of which it fails"
"""What TensorRT-RTX 1.7 says of it, and what that means; those without a loop are written out."""

_CHOOSE: Final = (
    "compute both sides and choose: torch.where(condition, a, b), or take the loop out of it"
)

_RELEASE: Final = (
    "try another release of TensorRT, or use ort-cuda: this is a defect of its compiler"
)
_OTHERWISE: Final = "write it with operators that TensorRT has"
_DTYPE: Final = "convert it in forward first: x.int() or x.float()"


def diagnose(
    title: str,
    refused: Refused,
    debug_map: str | None,
    module: nn.Module,
    *,
    file: Path | None = None,
    narrowed: bool = False,
) -> Diagnosis:
    """Explain a refusal.

    Args:
        title: Of the library, with its version.
        refused: What it said.
        debug_map: From the nodes of the ONNX file to the user's code; ``None`` if there is none.
        module: The user's.
        file: The ONNX file that was refused; asked which node takes a constant that is refused.
        narrowed: Whether the graph was made narrower than it, which some operators don't bear.
    """
    origins = origins_in(debug_map)
    first, *others = (_located(problem, origins, file) for problem in refused.problems)
    found = _told(title, refused.phase, first)
    if narrowed and found.remedy in (_OTHERWISE, _RELEASE):
        found = replace(found, remedy=f"leave --precision out, or {found.remedy}")
    found = placed(found, first.node, origins, module)
    more = [f"{problem.operator or '?'} ({problem.node})" for problem in others if problem.node]
    if not more:
        return found
    told = ", ".join(more[:_MOST_OTHERS])
    rest = f" and {len(more) - _MOST_OTHERS} more" if len(more) > _MOST_OTHERS else ""
    return replace(found, problem=f"{found.problem}; nor does it take {told}{rest}")


def _located(problem: Problem, origins: Sequence[dict[str, Any]], file: Path | None) -> Problem:
    """A build error names nodes only in its text, and a constant that is refused none."""
    if problem.node is None and file and (constant := _CONSTANT.fullmatch(problem.text)):
        return _of_constant(problem, constant[1], file)
    if file and _NESTED in problem.text and (node := _within(file, is_side=False)):
        return _of_node(Problem(_WITHIN, node.name, node.op_type), node.name, origins)
    if problem.node is None:
        named = (each["node"] for each in origins if _names(problem.text, each["node"]))
        return _of_node(problem, max(named, key=len, default=None), origins)
    return _of_node(problem, problem.node.partition(PART)[0], origins)


def _within(place: Path | onnx.GraphProto, *, is_side: bool) -> onnx.NodeProto | None:
    """The first branch that is in a branch of a file."""
    graph = onnx.load(place, load_external_data=False).graph if isinstance(place, Path) else place
    node: onnx.NodeProto
    for node in graph.node:
        is_branch = node.op_type == "If"
        if is_side and is_branch:
            return node
        for each in node.attribute:
            found = _within(each.g, is_side=is_side or is_branch) if each.HasField("g") else None
            if found is not None:
                return found
    return None


def _of_constant(problem: Problem, name: str, path: Path) -> Problem:
    """In the words of the parser for a tensor of a dtype that an operator has not."""
    graph = onnx.load(path, load_external_data=False).graph
    kind = next((each.data_type for each in graph.initializer if each.name == name), None)
    taker = next((node for node in graph.node if name in node.input), None)
    if kind is None or taker is None:
        return problem
    dtype = onnx.TensorProto.DataType.Name(kind).lower()
    text = f"constant {name!r} has type {dtype} but must have another"
    return Problem(text, taker.name or None, taker.op_type)


def _names(text: str, node: str) -> bool:
    """Whether a text names a node, or a part that TensorRT-RTX made of it: ``node_arange_U2``."""
    ends = r"(?![\w/])|(?=_(?:shape_)?U\d)"
    return bool(node) and re.search(rf"(?<![\w/.]){re.escape(node)}(?:{ends})", text) is not None


def _of_node(problem: Problem, node: str | None, origins: Iterable[dict[str, Any]]) -> Problem:
    operator = next((each["operator"] for each in origins if each["node"] == node), None)
    return replace(problem, node=node, operator=problem.operator or operator)


def _told(title: str, phase: str, problem: Problem) -> Diagnosis:
    what = problem.operator or "the graph"
    text = problem.text.removeprefix(f"{problem.node}: ")
    operator = _operator(problem)
    if turing := _TURING.search(text):
        return Diagnosis(
            family=Family.OPERATOR,
            problem=f"{title} cannot compute {what} on compute capability 7.5 (Turing): "
            f"{turing[2].rstrip('.')}",
            remedy="leave 7.5 out of --compute-capability, or add --precision float16",
            operator=operator,
        )
    if elements := _ELEMENTS.search(text):
        return Diagnosis(
            family=Family.OPERATOR,
            problem=f"{title} has no {what} of {next(filter(None, elements.groups())).lower()}",
            remedy=_REMEDIES_OF_DTYPES.get(problem.operator or "", _DTYPE),
            operator=operator,
        )
    if _LACKING.fullmatch(text):
        problem_text = f"{title} has no {what}"
    elif phase == "parse":
        problem_text = f"{title} cannot take {what} as it is: {text.splitlines()[0]}"
    else:
        problem_text = f"{title} cannot build {what}: {text.splitlines()[0]}"
    remedy = _REMEDIES.get(problem.operator or "", _OTHERWISE)
    if phase == "build" and _DEFECT.search(text):
        remedy = _RELEASE
    if text == _WITHIN:
        remedy = _CHOOSE
    if _FLAT in text:
        remedy = "give it a second axis: x.unsqueeze(0).argmax(1).squeeze(0) in place of x.argmax()"
    return Diagnosis(family=Family.OPERATOR, problem=problem_text, remedy=remedy, operator=operator)


def _operator(problem: Problem) -> str | None:
    if problem.operator is None or problem.node is None:
        return problem.operator
    return f"{problem.operator}, ONNX node {problem.node}"
