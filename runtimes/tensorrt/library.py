"""TensorRT 10, TensorRT 11 and TensorRT-RTX: found, opened, their messages kept.

The three have one API in the parts that are used here. Where they differ, a caller asks with
``hasattr`` whether a name is there, never which version it is.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Literal, get_args

from edgeport.runtimes.cuda.gpus import Gpus, gpus
from edgeport.runtimes.errors import BackendMissingError, EdgeportError
from edgeport.runtimes.session import Availability

Name = Literal["tensorrt", "tensorrt-rtx"]
"""Of a library, of the backend that runs its engines, and of their format."""

NAMES: Final[tuple[Name, ...]] = get_args(Name)

TITLES: Final = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}

_MODULES: Final = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}

INSTALL: Final = {
    "tensorrt": "pip install 'edgeport[tensorrt]', or TensorRT's own package with its Python wheel",
    "tensorrt-rtx": "pip install 'edgeport[tensorrt-rtx]'",
}


Level = Literal["error", "warning", "info", "verbose"]
_LEVELS: Final[tuple[Level, ...]] = ("error", "error", "warning", "info", "verbose")
"""By TensorRT's number; its internal errors are errors too."""


@dataclass(frozen=True, slots=True)
class Message:
    """What TensorRT said."""

    level: Level
    text: str


class _Ear:
    """Where the messages of a library go: to everybody who listens."""

    def __init__(self) -> None:
        self._lists: list[tuple[int, list[Message]]] = []
        self._lock = threading.RLock()  # a lane that is collected meanwhile ends its listening

    def hear(self, severity: int, text: str) -> None:
        with self._lock:
            for most, heard in self._lists:
                if severity <= most:
                    heard.append(Message(_LEVELS[severity], text))

    @contextlib.contextmanager
    def listening(self, level: Level) -> Iterator[list[Message]]:
        heard: list[Message] = []
        with self._lock:
            self._lists.append((len(_LEVELS) - 1 - _LEVELS[::-1].index(level), heard))
        try:
            yield heard
        finally:
            with self._lock:
                self._lists[:] = [each for each in self._lists if each[1] is not heard]


@dataclass(frozen=True, slots=True)
class Library:
    """A library that was found.

    Attributes:
        name: Of its backend and format.
        title: As its maker writes it.
        version: As ``10.13.3.9``.
        module: The Python module, as ``tensorrt_rtx``.
        logger: What ``Builder``, ``Runtime`` and ``OnnxParser`` take: one for the whole process,
            because TensorRT keeps the first that it is given and ignores all others.
    """

    name: Name
    title: str
    version: str
    module: Any
    logger: Any
    _ear: _Ear

    def listening(
        self, level: Level = "warning"
    ) -> contextlib.AbstractContextManager[list[Message]]:
        """Collect what the library says, in every thread, while the block runs.

        Args:
            level: The least important that is kept; a build says millions of verbose things.
        """
        return self._ear.listening(level)

    def __str__(self) -> str:
        return f"{self.title} {self.version}"


@functools.cache  # the library itself has one logger per process
def load(name: Name) -> Library:
    """Import a library.

    Raises:
        BackendMissingError: It is not installed, or does not load.
    """
    title = TITLES[name]
    try:
        module = import_module(_MODULES[name])
    except ModuleNotFoundError as e:
        raise BackendMissingError(
            f"{title} is not installed: there is no module {e.name!r}", remedy=INSTALL[name]
        ) from e
    except (ImportError, OSError) as e:  # the bindings without their library
        raise BackendMissingError(
            f"{title} is installed, but does not load: {e}",
            remedy=f"install all of it, in the version of its bindings: {INSTALL[name]}",
        ) from e
    if not hasattr(module, "Builder") and not hasattr(module, "Runtime"):
        raise BackendMissingError(
            f"the module {_MODULES[name]!r} is a placeholder without {title} in it",
            remedy=f"install the real one: {INSTALL[name]}",
        )
    ear = _Ear()
    return Library(name, title, str(module.__version__), module, _logger(module, ear), ear)


def _logger(module: Any, ear: _Ear) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]  # of a module that is known by name only
        def __init__(self) -> None:
            module.ILogger.__init__(self)  # pybind11 wants it by name

        def log(self, severity: Any, msg: str) -> None:
            ear.hear(int(severity), msg)

    return Logger()


def probe(name: Name) -> Availability:
    """Say whether engines of a library can be run here.

    Raises:
        BackendMissingError: It is not installed, or does not load.
    """
    library = load(name)
    try:
        found = gpus()
    except EdgeportError as e:
        return Availability(
            False, library.title, library.version, reason=e.problem, remedy=e.remedy
        )
    reason = lacks_all(library, found)
    if reason is None:
        return Availability(True, library.title, library.version, "cuda")
    remedy = "use another backend: ort-cuda, or tensorrt"
    return Availability(False, library.title, library.version, reason=reason, remedy=remedy)


def lacks_all(library: Library, found: Gpus) -> str | None:
    """Why no engine of a library runs on any of some GPUs; which of them it takes, opening tells.

    Returns:
        ``None`` if there is one for which it has something.
    """
    if not all(lacks(library, capability) for capability in found.capabilities):
        return None
    each = zip(found.capabilities, found.names, strict=True)
    told = dict.fromkeys(f"{capability}, which {name} has" for capability, name in each)
    return f"it has nothing for compute capability {', nor for '.join(told)}"


def lacks(library: Library, capability: str) -> bool:
    """Whether a library says for which GPUs it is, and a compute capability is none of them."""
    known = getattr(library.module, "ComputeCapability", None)
    return known is not None and not hasattr(known, f"SM{capability.replace('.', '')}")


def require_gpu(library: Library, what: str) -> None:
    """Refuse what cannot be done without a GPU.

    Args:
        library: That needs it.
        what: Is to be done: "to build an engine".

    Raises:
        BackendMissingError: There is no GPU.
    """
    try:
        gpus()
    except EdgeportError as e:
        raise BackendMissingError(
            f"{library.title} needs an NVIDIA GPU {what}: {e.problem}", remedy=e.remedy
        ) from e
