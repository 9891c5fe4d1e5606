"""Whose fault is it that a run failed: the engine's, or that of the values that went in?

Engines say it in words only: ONNX Runtime's codes are 2 for ``Gather`` and 1 for
``GatherElements``, TorchScript turns each IndexError into a RuntimeError. So it is read from the
words, and what is not known here is the engine's fault.
"""

from typing import Final

from .errors import EngineError, ValuesError

_INDEX_ERRORS: Final = (
    "indices element out of data bounds",  # ONNX Runtime 1.31: Gather, ScatterElements
    "Out of range value in index tensor",  # GatherElements
    "invalid index found",  # GatherND
    "invalid indice found",  # ScatterND
    "index out of range in self",  # torch 2.13: embedding, index_select, index_add
    "is out of bounds for dimension",  # gather, scatter, x[index]
    "Class values must be",  # one_hot
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
