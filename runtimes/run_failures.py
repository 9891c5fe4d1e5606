"""Whose fault is it that an engine failed: its own, the machine's, or that of the input?

Engines say it in words only: ONNX Runtime's codes are 2 for ``Gather`` and 1 for
``GatherElements``, TorchScript turns each IndexError into a RuntimeError. So it is read from the
words, and what is not known here is the engine's fault.
"""

import re
from typing import Final

from .errors import EngineError, OutOfMemoryError, ValuesError

INDEX: Final = "index out of range in self"
"""What torch 2.13 says in ``embedding`` and ``index_select``, and our native code."""

_INDEX_ERRORS: Final = (
    "indices element out of data bounds",  # ONNX Runtime 1.31: Gather, ScatterElements
    "Out of range value in index tensor",  # GatherElements
    "invalid index found",  # GatherND
    "invalid indice found",  # ScatterND
    INDEX,
    "is out of bounds for dimension",  # gather, scatter, x[index]
    "Class values must be",  # one_hot
)

ANOTHER_WAY: Final = "another way through forward than the file has"
"""What a file says that lacks a way: in ONNX the name of a node, in TorchScript an error."""

_WAYS: Final = (
    ANOTHER_WAY,
    "Runtime assertion failed for expression",  # a .pt2 file, torch 2.13
    " but received ",  # the same in AOTInductor: Expected u0 >= 1 but received 0
    "forward raises",  # of scripted code, in a .pt2 file
)

_NO_MEMORY: Final = re.compile(
    r"std::bad_alloc|MemoryError|(?:Failed to|Unable to|[Cc]annot|[Cc]an't) allocate .*"
)
"""C++, Python, ONNX Runtime's arena, numpy, the system's words for ENOMEM, torch's allocator."""


def out_of_memory(what: str, reason: str) -> OutOfMemoryError | None:
    """The error of an engine that had not enough memory; ``None`` if it says nothing of memory.

    Args:
        what: That failed.
        reason: In the engine's words.
    """
    said = _NO_MEMORY.search(reason)
    if said is None:
        return None
    return OutOfMemoryError(
        f"{what}: out of memory: {said[0]}",
        remedy="end what else takes memory, or use smaller sizes or a larger machine",
    )


def run_failure(engine: str, reason: str) -> EngineError:
    """The error of a run.

    Args:
        engine: As its users call it.
        reason: In its own words.

    Examples:
        >>> print(run_failure("torch", "index out of range in self"))
        torch refused the values of an input: index out of range in self
          fix: keep every index within its table, and sizes within what the model was made for
    """
    if short := out_of_memory(f"{engine} failed", reason):
        return short
    if any(words in reason for words in _WAYS):
        return ValuesError(
            f"{engine} refused the values of an input: they take {ANOTHER_WAY}",
            remedy="keep them out, if forward refuses them too; else export the module again, with "
            "these among --samples, or with both ways by torch.where(condition, a, b) in place of "
            "`if`",
        )
    if any(words in reason for words in _INDEX_ERRORS):
        return ValuesError(
            f"{engine} refused the values of an input: {reason}",
            remedy="keep every index within its table, and sizes within what the model was made "
            "for",
        )
    return EngineError(
        f"{engine} failed: {reason}",
        remedy="edgeport verify tells whether the artefact works on this machine; if it does, look "
        "at the values that go in",
    )
