"""What a script has set around a model, and no file takes with it."""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Final, TextIO

import torch

_ONE_AT_A_TIME: Final = threading.RLock()


@contextlib.contextmanager
def left_outside() -> Iterator[None]:
    """Run modules as on a device: no autocast, inference mode or default device from around.

    What a module's own forward enters stays. The default dtype stays too: modules are made for it.
    Other threads wait: torch's compilers, and what is changed of torch meanwhile, are one for all.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ONE_AT_A_TIME)
        stack.enter_context(_each_warning_once())
        stack.enter_context(torch.inference_mode(False))  # its tensors could not be compiled
        if torch.is_autocast_enabled("cpu"):  # eager would be as coarse as bfloat16
            stack.enter_context(torch.autocast("cpu", enabled=False))
        if torch.get_default_device().type != "cpu":  # where neither copy nor samples are
            stack.enter_context(torch.device("cpu"))
        yield


@contextlib.contextmanager
def _each_warning_once() -> Iterator[None]:
    """Show what a module warns of in its first run, and not again in each of dozens.

    Python's own record of what was shown is void whenever anything changes the filters.
    """
    show = warnings.showwarning
    shown: set[object] = set()

    def once(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        warning = (str(message), category, filename, lineno)
        if warning not in shown:
            shown.add(warning)
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = once
    try:
        yield
    finally:
        warnings.showwarning = show
