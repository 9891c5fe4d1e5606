"""Decorators, which torch.jit (2.13) leaves out: it reads the code of what they wrap."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from torch.jit import frontend


@contextlib.contextmanager
def decorators_count() -> Iterator[None]:
    """While it is entered, nothing is scripted that has a decorator other than torch's own.

    Raises:
        NotImplementedError: Something has one.
    """
    own: Any = vars(frontend)["parse_def"]  # a rewriting one, where that is tried

    def parse(function: Any) -> Any:
        each = function
        while (inner := getattr(each, "__wrapped__", None)) is not None:
            place = getattr(each, "__globals__", {}).get("__name__", "")
            if not place.startswith("torch."):  # ``@torch.no_grad()``
                name = function.__qualname__
                raise NotImplementedError(f"torch.jit leaves out the decorator of {name!r}")
            each = inner
        return own(function)

    with mock.patch.object(frontend, "parse_def", parse):
        yield
