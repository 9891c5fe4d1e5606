"""Compilers talk: what they print is kept off the terminal, what they raise is made short."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence a compiler: its warnings, its logs, its prints.

    They are no sign of anything: right traces warn, wrong ones are silent, and the exporters log
    pages before they raise. Parity is asked instead. The module's own warnings were heard when
    the reference ran.
    """
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)


def cause(error: BaseException) -> str:
    """The first line of the innermost cause: compilers wrap it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
