"""The compilers, loaded once: processes that are forked afterwards have what is loaded here."""

import contextlib
import copy
import functools
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, Final
from unittest import mock

from edgeport.runtimes.collector import collector_off

_EXPORT: Final = "torch.export._trace"
_REGISTRATION: Final = "torch.onnx._internal.exporter._registration"
_ONNX: Final = ("torch.onnx._internal.exporter._compat", _REGISTRATION)

_LOCK: Final = threading.Lock()


def warm_up(formats: Sequence[str], opset: int) -> None:
    """Load what compiling to these formats needs: a thousand modules, and ONNX's operators.

    Nothing is compiled. It takes seconds, once; a module that another torch lacks is left to the
    compilers.

    Args:
        formats: Of the artefacts to come.
        opset: Of ONNX.
    """
    for_onnx = any(name.startswith("onnx") for name in formats)
    if not for_onnx and not {"pt2", "aotinductor"}.intersection(formats):
        return
    with (
        _LOCK,
        collector_off(),  # a thousand modules, and all of them stay: a third less time
        warnings.catch_warnings(),
        contextlib.suppress(ImportError, AttributeError),
    ):
        warnings.simplefilter("ignore")
        import_module(_EXPORT)
        if for_onnx:
            for name in _ONNX:
                import_module(name)
            _operators(opset)


@contextlib.contextmanager
def operators_kept() -> Iterator[None]:
    """While it is entered, dynamo's exporter takes its table of operators from the last time.

    Else it reads the source code of 500 functions for it, at every export. What it gets is a copy.
    """
    registry = import_module(_REGISTRATION).ONNXRegistry  # loads dynamo
    newest = registry().opset_version

    def kept(_: object, opset_version: int = newest) -> Any:
        found = copy.copy(_operators(opset_version))
        found.functions = {name: [*each] for name, each in found.functions.items()}
        return found

    _read()  # by the exporter's own method
    with mock.patch.object(registry, "from_torchlib", classmethod(kept)):
        yield


def _operators(opset: int) -> Any:
    return _read()(opset, "torchvision" in sys.modules)


@functools.cache
def _read() -> Callable[[int, bool], Any]:
    module = import_module(_REGISTRATION)
    own = module.ONNXRegistry.from_torchlib

    @functools.cache
    def read(opset: int, _: bool) -> Any:
        """The table has torchvision's operators if they are there when it is read."""
        log = logging.getLogger(_REGISTRATION)
        disabled, log.disabled = log.disabled, True  # it warns that torchvision is not there
        try:
            return own(opset)
        finally:
            log.disabled = disabled

    return read
