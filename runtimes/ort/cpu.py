"""ONNX Runtime on the CPU."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from edgeport.runtimes.bound_buffers import BoundBuffers, unbound
from edgeport.runtimes.errors import ContractError
from edgeport.runtimes.heap import give_back
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.outputs import OutputCheck
from edgeport.runtimes.session import Availability, Closes, Options, check_signature, closed

from .buffers import OrtBinder
from .loading import (
    engine_of,
    failed,
    load,
    missing,
    precision_of,
    settings_of,
    signature_of,
)

PROVIDER: Final = "CPUExecutionProvider"


class OrtSession(Closes):
    """An ONNX file, opened. Safe to share between threads."""

    def __init__(self, path: Path, options: Options) -> None:
        self._session = open_engine(path, options)
        self.signature = signature_of(options.name or str(path), self._session)
        check_signature(path, self.signature, options)
        precision = precision_of(self._session, self.signature)
        self.engine = engine_of("ort-cpu", self._session, precision)
        self._check = InputCheck(self.signature)
        self._check_outputs = OutputCheck(self.signature)
        self._bound = BoundBuffers(self.signature, OrtBinder(self._session, self.signature))
        self._quick = self._bound.run
        self._inputs = [spec.name for spec in self.signature.inputs]
        self._outputs = [spec.name for spec in self.signature.outputs]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute every output.

        Raises:
            InputError: An input does not fit the signature.
            EngineError: ONNX Runtime failed, an output does not fit the signature, or the session
                is closed.
        """
        found = self._quick(inputs)
        if found is not None:
            return found
        arrays = self._check(inputs)
        session, bound = self._opened()
        try:
            outputs: Any = session.run(self._outputs, dict(zip(self._inputs, arrays, strict=True)))
        except Exception as e:  # ONNX Runtime's exceptions have no common base
            raise failed(e) from e
        found = dict(zip(self._outputs, outputs, strict=True))
        self._check_outputs(arrays, found)
        bound.learn(arrays, outputs)
        return found

    @contextlib.contextmanager
    def engine_call(self, inputs: Mapping[str, Array]) -> Iterator[Callable[[], object]]:
        """Show ONNX Runtime's own call on these inputs, to be timed beside ``run``.

        Raises:
            InputError: An input does not fit the signature.
            EngineError: The session is closed.
        """
        feed = dict(zip(self._inputs, self._check(inputs), strict=True))
        session, _ = self._opened()
        yield partial(session.run, self._outputs, feed)

    def close(self) -> None:
        """Give the engine's memory back."""
        self._quick = unbound
        with contextlib.suppress(AttributeError):  # closed already
            del self._bound, self._session
            give_back()

    def _opened(self) -> tuple[onnxruntime.InferenceSession, BoundBuffers]:
        try:
            return self._session, self._bound
        except AttributeError:
            raise closed() from None


def probe() -> Availability:
    """Say whether ONNX Runtime can run on the CPU here."""
    return missing(PROVIDER, "ort") or Availability(
        True, "onnxruntime", onnxruntime.__version__, PROVIDER
    )


def open(path: Path, options: Options) -> OrtSession:
    """Open an ONNX file.

    Raises:
        EngineError: ONNX Runtime refused it.
        ContractError: Its signature, or the provider in use, is not the one asked for.
    """
    return OrtSession(path, options)


def open_engine(path: Path, options: Options) -> onnxruntime.InferenceSession:
    """Open a file in ONNX Runtime, as it was asked for.

    Raises:
        EngineError: ONNX Runtime refused it.
        ContractError: The provider in use is another.
    """
    _keep_freed_memory()
    session = load(path, options, settings_of(options), PROVIDER, {})
    give_back()  # free pages that optimising a graph, and closing it, leave behind
    if session.get_providers() != [PROVIDER]:
        raise ContractError(
            f"asked for {PROVIDER}, got {', '.join(session.get_providers())}",
            remedy="edgeport doctor shows which providers work here",
        )
    return session


def _keep_freed_memory() -> None:
    """Let glibc use large blocks again, of which optimising a graph takes and frees many.

    It asks the system for each anew, until one was freed that was as large, up to 32 MiB
    (mallopt(3), M_MMAP_THRESHOLD). Every new page is a fault: 51,000 of them for ResNet18, where
    35,000 do. Nothing is written to this block, so that it costs no memory.
    """
    with contextlib.suppress(MemoryError):  # a limit on addresses
        np.empty(2**25 - 2**16, np.uint8)
