"""What TensorRT's messages mean to a person. It answers None or False, and says why in its log."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from edgeport.runtimes.cuda import failures as cuda
from edgeport.runtimes.cuda.driver import driver
from edgeport.runtimes.errors import BackendMissingError, EdgeportError, EngineError

from .library import Library, Message


class RefusedError(Exception):
    """TensorRT answered None or False. Its text is what was refused, as an infinitive."""


class _Rule(NamedTuple):
    kind: type[EdgeportError]  # what is missing here is no fault of the engine
    pattern: re.Pattern[str]
    problem: str  # {0}, {1}: what the pattern's groups matched
    remedy: str


_REBUILD: Final = "build it on this machine: edgeport export --format"
_WHOLE: Final = "copy or export it again; a bundle knows its hash: edgeport verify"

# "expecting" is what is here, "got" is what the engine has:
# https://github.com/microsoft/onnxruntime/issues/15250, https://github.com/pytorch/TensorRT/issues/1059
_RULES: Final = tuple(
    _Rule(kind, re.compile(pattern, re.IGNORECASE), problem, remedy)
    for kind, pattern, problem, remedy in (
        (
            BackendMissingError,
            r"incompatible device[,.] expecting compute ([\d.]*\d)[,.]? got compute ([\d.]*\d)",
            "it was built for compute capability {1}, and this GPU has {0}",
            "{rebuild}",
        ),
        (
            BackendMissingError,
            r"which has compute capability ([\d.]*\d)(?:.|\n)*does not support this compute cap",
            "this library has nothing for compute capability {0}, which this GPU has",
            "use another backend: ort-cuda, or tensorrt",
        ),
        (
            BackendMissingError,
            r"cannot run on this GPU, which has compute capability ([\d.]*\d)",
            "it was not built for compute capability {0}, which this GPU has",
            "export it again, with {0} in --compute-capability",
        ),
        (
            BackendMissingError,
            r"hardware-compatible engine\. Expected compute capability >= ?([\d.]*\d)"
            r".*got compute capability = ?([\d.]*\d)",
            "it needs compute capability {0} or more, and this GPU has {1}",
            "{rebuild}",
        ),
        (
            BackendMissingError,
            r"expecting library version ([\w.]*\w),? got (?:library version )?([\w.]*\w)",
            "it was built with version {1}, and this is {0}",
            "{rebuild}, or install the version that built it",
        ),
        (
            BackendMissingError,
            r"created with TensorRT-RTX version ([\w.]*\w), but the current runtime is "
            r"TensorRT-RTX version ([\w.]*\w)",
            "it was built with version {0}, and this is {1}",
            "{rebuild}, or install the version that built it",
        ),
        (EngineError, r"empty memory buffer", "it is empty", _WHOLE),
        (
            EngineError,
            r"magic ?tag|header does not conform",
            "it is no engine of this library, or of a version that is too far from it",
            "TensorRT opens .engine and TensorRT-RTX .rtx, each its own only: export it again",
        ),
        (
            BackendMissingError,
            r"incompatible serialization version|version tag does not match|stdVersionRead"
            r"|old deserialization call",
            "another version built it",
            "{rebuild}, or install the version that built it",
        ),
        (EngineError, r"Serialization assertion", "it is damaged or cut short", _WHOLE),
    )
)

_MEMORY: Final = re.compile(
    r"out of memory|could not be allocated|cudaError 2\b|MEM_ALLOC|bad_alloc|OutOfMemory",
    re.IGNORECASE,
)
NO_START: Final = "CUDA initialization failure with error"
"""A warning, and the only word that TensorRT says of a driver that it cannot use."""

_OLD_DRIVER: Final = re.compile(
    rf"(?:cudaError|{NO_START}:?) 3[56]\b|driver version is insufficient", re.IGNORECASE
)
_CUDA: Final = re.compile(rf"(?:cudaError(?:_t)?|{NO_START}:?) (\d+)\b", re.IGNORECASE)
_IN_WORDS: Final = re.compile(r"Cuda (?:Runtime|Driver) \(.*")  # TensorRT 10: without the number
_REST: Final = "see the NVIDIA driver's log, and try another release: edgeport doctor"


def explain(library: Library, heard: Iterable[Message], doing: str) -> EdgeportError:
    """The error for something that a library refused.

    Args:
        library: That refused it.
        heard: What it said meanwhile.
        doing: What was refused, as an infinitive: "open model.engine".

    Returns:
        By the first cause that is known: GPU, version, damage, driver, memory, CUDA. What another
        GPU, version or driver would mend is a ``BackendMissingError``.
    """
    told = [each for each in heard if each.level == "error" or NO_START in each.text]
    texts = [each.text for each in told]
    everything = "\n".join(texts)
    for rule in _RULES:
        if found := rule.pattern.search(everything):
            remedy = rule.remedy.format(*found.groups(), rebuild=f"{_REBUILD} {library.name}")
            problem = rule.problem.format(*found.groups())
            return rule.kind(f"{library} cannot {doing}: {problem}", remedy=remedy)
    if _OLD_DRIVER.search(everything):
        return cuda.driver_too_old(str(library), driver().cuda_version)
    if _MEMORY.search(everything):
        return _renamed(library, cuda.failure(2, "out of memory", doing))
    if code := _CUDA.search(everything):
        return _renamed(library, cuda.failure(int(code[1]), f"cudaError {code[1]}", doing))
    words = " ".join(_IN_WORDS.findall(everything))
    if crash := cuda.crash(words):
        return _renamed(library, cuda.failure(crash, f"cudaError {crash}", doing))
    reason = texts[0].splitlines()[0] if texts and texts[0] else "it does not say why"
    return EngineError(f"{library} cannot {doing}: {reason}", remedy=_REST)


def _renamed(library: Library, error: EdgeportError) -> EdgeportError:
    return type(error)(f"{library} {error.problem}", remedy=error.remedy)
