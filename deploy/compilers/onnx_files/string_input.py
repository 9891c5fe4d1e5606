"""ONNX whose text comes in as strings: two nodes before a file that takes code points.

Stock ONNX Runtime has both: its own Tokenizer, which splits a string into its characters, and
LabelEncoder, which gives each a number. Characters that the module cannot tell apart get one
number, so that the table holds what makes a difference, and not all of Unicode. A module says
which they are in ``alike``: input -> (0x110000,) integers, one per class of code points.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgeport.deploy.compilers.stored import Compiled, store
from edgeport.deploy.compilers.targets import OnnxRequest, Target
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import ExportError, TensorSpec, UsageError
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.text import PADDING, SHORTEST, is_text

from .onnx_graph import EXTERNAL_FILE, FILE
from .onnx_messages import of_kind

FORMAT: Final = "onnx-strings"
STRINGS_FILE: Final = "strings.onnx"

_CODE_POINTS: Final = 0x110000
_SURROGATES: Final = slice(0xD800, 0xE000)
"""Halves of UTF-16, which no string of ONNX can hold."""

_DOMAINS: Final = (("com.microsoft", 1), ("ai.onnx.ml", 2))


def with_strings(
    formats: Sequence[str], source: Source, target: Target | None = None
) -> tuple[str, ...]:
    """The formats to make: ONNX of strings follows ONNX where the module's input is text.

    It is made unasked if the module says which code points are alike, and for any module of one
    text if it is asked for: then the table holds all of Unicode, 11 MB.

    Args:
        formats: As they were asked for.
        source: What is compiled.
        target: Where the ONNX files are to run.

    Raises:
        UsageError: It is asked for, and cannot be made.
    """
    texts = [spec.name for spec in source.signature.inputs if is_text(spec)]
    runs = target is None or target.name.startswith("ort-")
    possible = len(texts) == 1 and runs and "onnx" in formats
    if FORMAT not in formats:
        unasked = possible and texts[0] in _alike(source)
        return tuple(
            part
            for name in formats
            for part in ((name, FORMAT) if unasked and name == "onnx" else (name,))
        )
    if not possible:
        raise UsageError(
            f"cannot make {FORMAT}: it needs onnx beside it, ONNX Runtime as the target, and a "
            f"module with one input of text, int32[batch, characters]; this one has {len(texts)}",
            remedy=f"leave {FORMAT} out, or ask for onnx,{FORMAT}",
        )
    return (*(name for name in formats if name != FORMAT), FORMAT)  # onnx is there before it


def strings_before(source: Source, folder: Path, request: OnnxRequest) -> Compiled:
    """Put the two nodes before the ONNX file that is in the folder.

    Args:
        source: What was compiled.
        folder: With the file.
        request: As that file was asked for.

    Raises:
        ExportError: The file keeps its weights in another.
    """
    if (folder / EXTERNAL_FILE).exists():
        raise ExportError(
            f"{FILE} keeps its weights in a file of their own",
            remedy=f"leave {FORMAT} out: --format onnx,torchscript,pt2",
        )
    model = onnx.load(folder / FILE)
    (spec,) = (spec for spec in source.signature.inputs if is_text(spec))
    points = _rename(model.graph, spec.name)
    keys, values, others = table_of(_alike(source).get(spec.name, np.arange(_CODE_POINTS)))
    nodes, blank = _nodes(spec, points, keys, values, others)
    model.graph.initializer.append(blank)
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)
    (value,) = (value for value in model.graph.input if value.name == spec.name)
    value.CopyFrom(helper.make_tensor_value_info(spec.name, TensorProto.STRING, [spec.shape[0]]))
    known = {entry.domain for entry in model.opset_import}
    for domain, version in _DOMAINS:
        if domain not in known:
            model.opset_import.append(helper.make_opsetid(domain, version))
    file = store(folder, STRINGS_FILE, model.SerializeToString(deterministic=True))
    details: dict[str, int | str] = {
        "opset": request.opset,
        "ir_version": model.ir_version,
        "input": "strings",
    }
    return Compiled(Artefact(FORMAT, source.signature.precision, file, details=details))


def table_of(alike: Array) -> tuple[list[str], list[int], int]:
    """What LabelEncoder is told.

    Args:
        alike: (0x110000,) the class of each code point.

    Returns:
        The characters that are not of the most frequent class, the first code point of the class
        of each, and the first of that class.
    """
    there = np.ones(_CODE_POINTS, bool)
    there[_SURROGATES] = False
    points = np.flatnonzero(there)
    _, firsts, members, counts = np.unique(
        np.asarray(alike)[there], return_index=True, return_inverse=True, return_counts=True
    )
    usual = int(counts.argmax())
    told = members != usual
    keys = [chr(point) for point in points[told].tolist()]
    return keys, points[firsts[members[told]]].tolist(), int(points[firsts[usual]])


def _nodes(
    spec: TensorSpec, points: str, keys: Sequence[str], values: Sequence[int], others: int
) -> tuple[list[onnx.NodeProto], onnx.TensorProto]:
    """From the strings (batch,) to code points (batch, longest + ``SHORTEST``)."""
    each = f"{points}_each"
    blank = helper.make_tensor(f"{points}_blank", TensorProto.INT64, [1], [PADDING])
    pads = helper.make_node("Constant", [], [f"{points}_pads"], value_ints=[0, 0, 0, SHORTEST])
    return [
        helper.make_node(
            "Tokenizer", [spec.name], [f"{points}_characters"], domain="com.microsoft",
            mark=0, mincharnum=1, pad_value="", separators=[""],
        ),
        helper.make_node(
            "LabelEncoder", [f"{points}_characters"], [each], domain="ai.onnx.ml",
            keys_strings=["", *keys], values_int64s=[PADDING, *values], default_int64=others,
        ),
        pads,
        helper.make_node("Pad", [each, pads.output[0], blank.name], [f"{points}_filled"]),
        helper.make_node("Cast", [f"{points}_filled"], [points], to=TensorProto.INT32),
    ], blank  # fmt: skip  # attributes beside one another


def _rename(graph: onnx.GraphProto, name: str) -> str:
    """Give what took the input another name, in subgraphs too, and say which."""
    nodes = [*of_kind("NodeProto", graph)]
    taken = {output for node in nodes for output in node.output}
    new = f"{name}_code_points"
    while new in taken:
        new += "_"
    for node in nodes:
        node.input[:] = [new if each == name else each for each in node.input]
    for value in graph.output:
        if value.name == name:
            raise ExportError(
                f"the module returns its input {name!r} as it is",
                remedy="leave onnx-strings out: --format onnx,torchscript,pt2",
            )
    return new


def _alike(source: Source) -> Mapping[str, Array]:
    found: Mapping[str, Array] = getattr(source.module, "alike", {})
    return found
