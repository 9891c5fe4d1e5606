"""Which releases of torch the compilers were tested with."""

from typing import Final

import torch

TESTED: Final = ("2.13", "2.14", "2.15")
"""Capture and export lean on what is inside of torch, which each release changes."""


def untested(version: str = torch.__version__) -> tuple[str, ...]:
    """A sentence for the user, if this is another release.

    Examples:
        >>> untested("2.13.1+cu130")
        ()
    """
    if version.split(".")[:2] in [release.split(".") for release in TESTED]:
        return ()
    return (
        f"torch {version} is installed, and exports were tested with {', '.join(TESTED)}: what "
        f"is refused may be for that reason, and pip install 'torch=={TESTED[-1]}.*' would tell; "
        "what is written is proved all the same",
    )
