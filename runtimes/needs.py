"""A library that is missing is named, with the line that installs it."""

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import BackendMissingError


@contextmanager
def needs(what: str, extra: str, otherwise: str = "") -> Iterator[None]:
    """Import within it what something needs.

    Args:
        what: Needs the library: "exporting".
        extra: Of edgeport, which has it.
        otherwise: What else could be done.

    Raises:
        BackendMissingError: Something that is imported is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as e:
        raise BackendMissingError(
            f"{what} needs {e.name!r}, which is not installed",
            remedy=f"pip install 'edgeport[{extra}]'{otherwise}",
        ) from e
