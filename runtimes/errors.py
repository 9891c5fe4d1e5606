"""What can go wrong, and what to do about it.

* EdgeportError                exit code
  - UsageError            2    an argument or option makes no sense
  - InputError            2    an input does not fit the model's signature
  - MissingFileError      2    a file or folder is not there
  - ExistingFileError     2    a file or folder is there already
  - FormatError           2    a file is not what it should be
  - SourceError           2    the user's model or samples cannot be used
  - IntegrityError        1    a file is not the one that was packed
  - SignatureError        1    a signature is missing, or not by a key that is trusted
  - ContractError         1    asked for one thing, got another
  - ParityError           1    an artefact does not compute what the module computes
  - ExportError           1    a compiler refused the module
  - EngineError           1    an engine refused a file or failed while it ran
    - ValuesError         2    and it was the values of an input; it is an InputError too
    - LostGpuError        1    and it took along all that this process had on the GPU
    - OutOfMemoryError    3    the machine, or the GPU, has not enough memory
  - UnknownModelError     2    a server has no such model or version
  - ForbiddenError        2    a server does not let its clients do that
  - OverloadedError       1    a server has more work than it can do in time
  - DeadlineError         1    a request waited longer than it may
  - UnavailableError      1    a server is shutting down, or a model of it is not ready
  - BackendMissingError   3    a library or device is not in this environment
  - StorageError          3    the disk is full, or a place cannot be read or written
    - PlaceError          2    what is asked for can be at no such place: a file is in the way
"""

from typing import ClassVar


class EdgeportError(Exception):
    """Base of every error a caller may want to catch.

    Args:
        problem: What is wrong, with the offending and the expected value; lower case.
        remedy: What to do: an imperative, or a command to paste.

    Examples:
        >>> print(EdgeportError("no such dimension 'bach'", remedy="did you mean 'batch'?"))
        no such dimension 'bach'
          fix: did you mean 'batch'?
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  fix: {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.problem, self.remedy)


def _rebuild(kind: type[EdgeportError], problem: str, remedy: str) -> EdgeportError:
    return kind(problem, remedy=remedy)


def first_line(error: Exception) -> str:
    """What happened, as a foreign exception says it, without what was called where."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class UsageError(EdgeportError, ValueError):
    """An argument or option makes no sense."""

    exit_code = 2


class InputError(EdgeportError, ValueError):
    """An input does not fit the model's signature: name, dtype, rank or size."""

    exit_code = 2


class MissingFileError(EdgeportError, FileNotFoundError):
    """A file or folder is not there."""

    exit_code = 2


class ExistingFileError(EdgeportError, FileExistsError):
    """A file or folder is there already and would be overwritten."""

    exit_code = 2


class FormatError(EdgeportError, ValueError):
    """A file is not what its name or place says it is."""

    exit_code = 2


class SourceError(EdgeportError, ValueError):
    """The user's model or samples cannot be used."""

    exit_code = 2


class IntegrityError(EdgeportError, ValueError):
    """A file is not the one that was packed: its size or hash differs."""


class SignatureError(EdgeportError, ValueError):
    """A signature is missing, or wrong, or not by a key that is trusted."""


class ContractError(EdgeportError, ValueError):
    """Asked for one thing, got another: signature, opset, provider, threads."""


class ParityError(EdgeportError, AssertionError):
    """An artefact does not compute what the module computes."""


class ExportError(EdgeportError, RuntimeError):
    """A compiler refused the module."""


class EngineError(EdgeportError, RuntimeError):
    """An engine refused a file, or failed while it ran."""


class ValuesError(InputError, EngineError):
    """An engine refused the values of an input, such as an index behind the end of its table."""

    exit_code = 2


class LostGpuError(EngineError):
    """A kernel crashed: nothing can be computed on the GPU any more in this process."""


class OutOfMemoryError(EngineError, MemoryError):
    """An engine did not get the memory that a file or an input takes: here or on the GPU."""

    exit_code = 3


class UnknownModelError(EdgeportError, LookupError):
    """A server has no such model, or no such version of it."""

    exit_code = 2


class ForbiddenError(EdgeportError, PermissionError):
    """A server does not let its clients do that."""

    exit_code = 2


class OverloadedError(EdgeportError, RuntimeError):
    """A server has more work than it can do in time: try again later."""


class DeadlineError(EdgeportError, TimeoutError):
    """A request waited longer than it may, and was dropped before it ran."""


class UnavailableError(EdgeportError, ConnectionError):
    """A server is shutting down, or a model of it is not ready."""


class BackendMissingError(EdgeportError, ImportError):
    """A library or device is not in this environment."""

    exit_code = 3


class StorageError(EdgeportError, OSError):
    """The disk is full, or a place cannot be read or written."""

    exit_code = 3


class PlaceError(StorageError):
    """What is asked for can be at no such place: a file where a folder is needed, a long name."""

    exit_code = 2
