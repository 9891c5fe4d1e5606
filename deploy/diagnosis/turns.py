"""Where Python turns by numbers: jumps and comparisons in functions that read one from a tensor.

``int(mask.sum())`` is a number as any other, of which nothing tells that ``n * 2 > 60`` hangs on
values. So each counts in a function that makes one, in those that called it, and in those that it
calls. Torch's code is between a layer and another, which counts if it is given more than tensors:
else an expert's ``if self.kind == "relu":`` would be one of those.
"""

import dis
import sys
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any, Final

from torch import Tensor, nn

from edgeport.deploy.origins import Origin, origin


class Turns:
    """While it is entered, notes those that this thread comes by, outside of torch."""

    def __init__(self) -> None:
        self._met: dict[CodeType, set[int]] = defaultdict(set)
        self._reading: set[CodeType] = set()
        self._before: Any = None

    def __enter__(self) -> "Turns":
        """Begin; a debugger or a measure of coverage goes on afterwards."""
        self._before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # 3.12 sends opcodes if one frame wanted them before
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        sys.settrace(self._before)

    def reads(self, frame: FrameType | None) -> None:
        """Note that a function makes a number or a truth, for those that called it too."""
        while frame is not None and not _is_torchs(frame.f_code):
            self._reading.add(frame.f_code)
            frame = frame.f_back

    def are_of_tensors(self, frame: FrameType) -> None:
        """Note that what a frame compares now are tensors, as in ``x[chosen == number]``."""
        self._met[frame.f_code].discard(frame.f_lasti)

    def seen(self) -> set[tuple[CodeType, int]]:
        """What numbers may have decided."""
        return {(code, place) for code in self._reading for place in self._met[code]}

    def _called(self, frame: FrameType, event: str, _: Any) -> Any:
        caller = frame.f_back
        if caller is not None and caller.f_code in self._reading:
            is_same_layer = not (_is_torchs(caller.f_code) or _is_torchs(frame.f_code))
            if is_same_layer or not _is_tensors(frame.f_locals):
                self._reading.add(frame.f_code)
        if not asked_at(frame.f_code):
            return None
        frame.f_trace = self._stepped  # else 3.13 sends no opcodes of a first call
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._stepped

    def _stepped(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "opcode" and frame.f_lasti in asked_at(frame.f_code):
            self._met[frame.f_code].add(frame.f_lasti)
        return self._stepped


def _is_torchs(code: CodeType) -> bool:
    return origin(code.co_filename) is Origin.COMPILER


def _is_tensors(given: Any) -> bool:
    """Whether tensors alone are in it, and what is none of the inputs."""
    if isinstance(given, Mapping):
        return all(map(_is_tensors, given.values()))
    if isinstance(given, list | tuple):
        return all(map(_is_tensors, given))
    return given is None or isinstance(given, Tensor | nn.Module | type)


@lru_cache(maxsize=4096)
def asked_at(code: CodeType) -> frozenset[int]:
    """Where it compares, or asks for a truth; of a compiler's code nothing is asked."""
    if _is_torchs(code):
        return frozenset()
    return frozenset(each.offset for each in dis.get_instructions(code) if _asks(each.opname))


def _asks(name: str) -> bool:
    """``if state is None:`` asks for no number."""
    words = {*name.split("_")}
    return name in _COMPARING or ({"JUMP", "IF"} <= words and "NONE" not in words)


_COMPARING: Final = {"COMPARE_OP", "CONTAINS_OP", "UNARY_NOT"}
