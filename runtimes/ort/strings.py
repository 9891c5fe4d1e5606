"""ONNX Runtime on the CPU, for a file whose text comes in as strings.

A session takes code points all the same, as every backend does, and hands ONNX Runtime the
strings: so the file is proved on the samples that all the others are proved on. ONNX Runtime
alone takes the strings: ``session.run(None, {"text": np.array(["..."], dtype=object)})``.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.runtimes.errors import ContractError, FormatError
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.outputs import OutputCheck
from edgeport.runtimes.session import Closes, Options, check_signature, closed
from edgeport.runtimes.signature import METADATA_KEY, Signature
from edgeport.runtimes.text import is_text, strings

from .cpu import open_engine, probe
from .loading import engine_of, failed, spec_of

__all__ = ["OrtStringsSession", "open", "probe"]


class OrtStringsSession(Closes):
    """An ONNX file of strings, opened. Safe to share between threads."""

    def __init__(self, path: Path, options: Options) -> None:
        self._session: Any = open_engine(path, options)
        self.signature = _signature(options.name or str(path), self._session)
        check_signature(path, self.signature, options)
        self.engine = engine_of("ort-strings", self._session, self.signature.precision)
        self._check = InputCheck(self.signature)
        self._check_outputs = OutputCheck(self.signature)
        self._outputs = [spec.name for spec in self.signature.outputs]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute every output.

        Raises:
            InputError: An input does not fit the signature, or is no text.
            EngineError: ONNX Runtime failed, an output does not fit the signature, or the session
                is closed.
        """
        arrays = self._check(inputs)
        feed, session = self._feed(arrays), self._opened()
        try:
            outputs = session.run(self._outputs, feed)
        except Exception as e:  # ONNX Runtime's exceptions have no common base
            raise failed(e) from e
        found = dict(zip(self._outputs, outputs, strict=True))
        self._check_outputs(arrays, found)
        return found

    @contextlib.contextmanager
    def engine_call(self, inputs: Mapping[str, Array]) -> Iterator[Callable[[], object]]:
        """Show ONNX Runtime's own call on these inputs, to be timed beside ``run``.

        Raises:
            InputError: An input does not fit the signature, or is no text.
            EngineError: The session is closed.
        """
        feed = self._feed(self._check(inputs))
        yield partial(self._opened().run, self._outputs, feed)

    def close(self) -> None:
        """Give the engine's memory back."""
        self._session = None

    def _opened(self) -> Any:
        session = self._session  # another thread may close it meanwhile
        if session is None:
            raise closed()
        return session

    def _feed(self, arrays: Sequence[Array]) -> dict[str, Array]:
        return {
            spec.name: np.array(strings(array, spec.name), object) if is_text(spec) else array
            for spec, array in zip(self.signature.inputs, arrays, strict=True)
        }


def open(path: Path, options: Options) -> OrtStringsSession:
    """Open an ONNX file of strings.

    Raises:
        EngineError: ONNX Runtime refused it.
        FormatError: It does not say what its strings stand for.
        ContractError: Its signature, or the provider in use, is not the one asked for.
    """
    return OrtStringsSession(path, options)


def _signature(name: str, session: Any) -> Signature:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise FormatError(
            f"{name} has no signature of edgeport's, so its strings could be anything",
            remedy="export the model with edgeport export, or feed the file with onnxruntime",
        )
    declared = Signature.loads(text, name)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    fits = (
        [node.name for node in inputs] == [spec.name for spec in declared.inputs]
        and all(
            (node.type, tuple(node.shape)) == ("tensor(string)", spec.shape[:1])
            if is_text(spec)
            else spec_of(name, node) == spec
            for node, spec in zip(inputs, declared.inputs, strict=True)
        )
        and tuple(spec_of(name, node) for node in outputs) == declared.outputs
    )
    if not fits:
        found = ", ".join(f"{node.name}: {node.type}{node.shape}" for node in (*inputs, *outputs))
        raise ContractError(
            f"{name} declares {declared}\n  but its graph has {found}",
            remedy="export the model again; the file was edited",
        )
    return declared
