"""A library that is missing, or does not load, is named, with the line that installs it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import BackendMissingError, EdgeportError

_UNMAPPED = "failed to map segment"
"""What glibc 2.36's loader says where there are no addresses for a library, or none to run it."""


@contextmanager
def needs(what: str, extra: str, otherwise: str = "") -> Iterator[None]:
    """Import within it what something needs.

    Args:
        what: Needs the library: "exporting".
        extra: Of edgeport, which has it.
        otherwise: What else could be done.

    Raises:
        BackendMissingError: Something that is imported is not installed, or does not load.
    """
    try:
        yield
    except (EdgeportError, MemoryError):
        raise
    except ModuleNotFoundError as e:
        raise BackendMissingError(
            f"{what} needs {e.name!r}, which is not installed",
            remedy=f"pip install 'edgeport[{extra}]'{otherwise}",
        ) from e
    except Exception as e:  # a shared library that lacks another, numpy of another version, ...
        if getattr(e, "errno", None) == errno.ENOMEM:
            raise
        mends = f"pip install --force-reinstall 'edgeport[{extra}]'{otherwise}"
        if _UNMAPPED in str(e):
            mends = (
                f"give it more memory (ulimit -v), and a place that is not mounted noexec; {mends}"
            )
        raise BackendMissingError(
            f"{what} needs {_imported(e)!r}, which is installed and does not load: {e}",
            remedy=mends,
        ) from e


def _imported(error: Exception) -> str:
    """The package that our module imported when this was raised, or one that lacks a name."""
    from traceback import walk_tb

    names = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    if isinstance(error, ImportError) and error.name:
        names.append(error.name)
    packages = (name.partition(".")[0] for name in names)
    return next((p for p in packages if p not in ("edgeport", "importlib", "contextlib")), "?")
