"""Capture: what the user's own code calls a module with.

Their real calls say which inputs there are, what is in them and which sizes vary; nothing has to
be declared. Arguments are copied before anything else sees them, since a module may write into
its inputs.
"""

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch
from torch import nn

from edgeport.runtimes import EdgeportError, MissingFileError, SourceError

from . import trees

MOST_CALLS: Final = 16
"""Calls that are kept; each becomes a sample, and a few show which sizes vary."""

MOST_BYTES: Final = 2**30
"""Bytes of all tensors that are kept: 1 GiB, what a workstation can spare."""

_COLLECTING: Final[ContextVar[list["Captured"] | None]] = ContextVar("collecting", default=None)
"""Where ``run_script`` finds the captures that the script makes; nothing outside of it."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The arguments of one call, as given; tensors are detached copies on the CPU."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Kept:
    shapes: tuple[tuple[torch.Size, torch.dtype], ...]
    is_repeat: bool
    size_bytes: int
    recorded: Recorded


class Captured:
    """The calls of one module.

    Kept are the first call of each set of shapes, then the first others, up to ``MOST_CALLS``
    calls and ``MOST_BYTES``.

    Attributes:
        module: The object that was captured.
        count: All calls, also those that were not kept.
        left_out: Those of them that were not to be captured.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.count = 0
        self.left_out = 0
        self._kept: list[_Kept] = []

    @property
    def calls(self) -> tuple[Recorded, ...]:
        """The calls that were kept, in the order they were made.

        Raises:
            SourceError: There are none.
        """
        if self._kept:
            return tuple(kept.recorded for kept in self._kept)
        name = type(self.module).__name__
        if self.left_out and self.left_out == self.count:
            raise SourceError(
                f"`only` left out each of the {self.count} calls of {name}",
                remedy="let it return True for the calls that are to be captured",
            )
        if self.count:
            raise SourceError(
                f"each call of {name} has more than {MOST_BYTES:,} bytes of tensors",
                remedy="capture a smaller batch: the size that varies can still grow later",
            )
        raise SourceError(
            f"the captured {name} was not called",
            remedy="inside of `with capture(module):` call that same object, as module(...): not a "
            "copy, not what it wraps or is wrapped in, and not module.forward(...); where a "
            "library calls another method, capture a module of yours whose forward calls it",
        )

    def leave_out(self) -> None:
        """Count a call that is not to be captured."""
        self.count += 1
        self.left_out += 1

    def record(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Count a call, and keep a copy if it shows something new or there is room."""
        self.count += 1
        args, kwargs = trees.with_tensors((args, dict(kwargs)))  # arrays may be filled anew
        tensors = list(trees.tensors((args, kwargs)))
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        is_repeat = any(kept.shapes == shapes for kept in self._kept)
        size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if not self._make_room(size_bytes, may_replace=not is_repeat):
            return
        with torch.inference_mode(False):  # a copy made in inference mode could not be compiled
            copies = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
        args, kwargs = trees.filled((args, kwargs), iter(copies))
        self._kept.append(_Kept(shapes, is_repeat, size_bytes, Recorded(args, kwargs)))

    def _make_room(self, size_bytes: int, *, may_replace: bool) -> bool:
        """Whether one more call fits, once the latest repeats are dropped if they may be."""
        stays = list(self._kept)
        while not _fits(stays, size_bytes):
            repeats = [kept for kept in stays if kept.is_repeat]
            if not repeats or not may_replace:
                return False
            stays = [kept for kept in stays if kept is not repeats[-1]]
        self._kept = stays
        return True


def _fits(kept: list[_Kept], size_bytes: int) -> bool:
    total_bytes = size_bytes + sum(call.size_bytes for call in kept)
    return len(kept) < MOST_CALLS and total_bytes <= MOST_BYTES


@contextmanager
def capture(module: nn.Module, *, only: Callable[..., bool] | None = None) -> Iterator[Captured]:
    """Record the calls that are made inside of the ``with`` block.

    Args:
        module: The object that the code calls: the compiled or parallel wrapper, if it calls that.
        only: Called as the module is, right before it: whether this call is to be captured. A
            bundle is for one kind of calls, and code may make several: a text generation with a
            cache and, at first, without.

    Raises:
        SourceError: It is no module, or a scripted one, which cannot be listened to.

    Examples:
        >>> linear = nn.Linear(2, 1)
        >>> with capture(linear) as captured:
        ...     _ = linear(torch.ones(3, 2))
        >>> captured.calls[0].args[0].shape
        torch.Size([3, 2])
    """
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise SourceError(
            f"capture was given a {type(module).__name__}, which cannot be listened to",
            remedy="give it the eager torch.nn.Module that your code calls",
        )
    captured = Captured(module)

    def hook(called: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if called is not module:  # a copy of the module has a copy of its hooks
            return
        if only is None or only(*args, **kwargs):
            captured.record(args, kwargs)
        else:
            captured.leave_out()

    collecting = _COLLECTING.get()
    if collecting is not None:
        collecting.append(captured)
    handle = module.register_forward_pre_hook(hook, prepend=True, with_kwargs=True)
    compiled = module._compiled_call_impl
    module._compiled_call_impl = None  # Module.compile() compiles hooks too: run it eagerly
    try:
        yield captured
    finally:
        module._compiled_call_impl = compiled
        handle.remove()


def run_script(path: Path) -> Captured:
    """Run a script as ``python script.py`` does, and return the one capture it makes.

    It becomes ``__main__`` and its folder comes first in ``sys.path``, both for good: its module
    may import something, and compilers look up what it uses, when it is called later.

    Args:
        path: A script that uses ``with edgeport.deploy.capture(module):``.

    Raises:
        MissingFileError: There is no such file.
        SourceError: The script raises or fails, or makes no capture, several, or an empty one.
    """
    if not path.is_file():
        raise MissingFileError(f"no such script: {path}", remedy="check the path of --capture")
    collected: list[Captured] = []
    token = _COLLECTING.set(collected)
    try:
        _execute(path)
    finally:
        _COLLECTING.reset(token)
    if len(collected) != 1:
        raise SourceError(
            f"{path} makes {len(collected) or 'no'} capture{'s' if collected else ''}, expected 1",
            remedy="write `with edgeport.deploy.capture(module):` once, around all calls of the "
            "one module to export",
        )
    _ = collected[0].calls  # raises if there are none
    return collected[0]


def _execute(path: Path) -> None:
    """Not by ``runpy``: it takes ``__main__`` away again, and compilers fail to find it."""
    main = ModuleType("__main__")
    main.__file__ = str(path.absolute())
    argv, main_before = sys.argv, sys.modules["__main__"]
    sys.argv = [str(path)]
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules["__main__"] = main
    try:
        code = compile(path.read_bytes(), main.__file__, "exec", dont_inherit=True)
        exec(code, main.__dict__)
    except BaseException as e:
        if isinstance(e, SystemExit) and e.code in (None, 0):
            return
        sys.modules["__main__"] = main_before
        if isinstance(e, EdgeportError) or not isinstance(e, Exception | SystemExit):
            raise
        raise SourceError(
            f"{path} raised {type(e).__name__}: {e}{_place(e, path)}",
            remedy=f"mend it until `python {path}` works",
        ) from e
    finally:
        sys.argv = argv


def _place(error: BaseException, path: Path) -> str:
    """The last line of the script that the exception passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path.absolute())]
    return f" ({path.name}, line {lines[-1]})" if lines else ""
