"""Where in the user's module an exception comes from: the layer, and the line of their own code.

The witnesses, the best one first: Python frames, alive in the exception's traceback or on the
stack; the node of a captured graph that an exporter was translating; the bytecode that
torch.export was reading; the text of the message.
"""

import inspect
import linecache
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import torch
from torch import nn

from edgeport.deploy.kinds import kind_of
from edgeport.deploy.origins import Origin, origin

_LONGEST_CODE: Final = 100

# Innermost frame last, as Python writes it; else innermost first, as torch.jit does.
_PYTHON_FRAME: Final = re.compile(r'File "([^"\n]+)", line (\d+), in ')
_SCRIPT_FRAME: Final = re.compile(r'File "([^"\n]+)", line (\d+)\n')
_TRACE_FRAME: Final = re.compile(r"^#?\s*(\S+\.py)[:(](\d+)\)?:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of code."""

    file: str
    number: int

    @property
    def code(self) -> str:
        """Its text."""
        return linecache.getline(self.file, self.number).strip()

    def __str__(self) -> str:
        path = Path(self.file)
        inside = path.is_relative_to(Path.cwd())
        name = path.relative_to(Path.cwd()) if inside else path.name
        return f"{name}:{self.number}  {self.code[:_LONGEST_CODE]}".rstrip()


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the user's module; ``None`` is what could not be found out."""

    layer: str | None = None
    kind: type[nn.Module] | None = None
    line: Line | None = None


Frames = Iterable[tuple[FrameType, int]]
"""Frames with their line numbers, innermost first."""


def chain(error: BaseException) -> list[BaseException]:
    """An exception and what led to it, innermost first."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found[::-1]


def frames_of(error: BaseException) -> list[tuple[FrameType, int]]:
    """The frames of one exception's traceback, innermost first."""
    return list(traceback.walk_tb(error.__traceback__))[::-1]


def _frames_to_root(errors: list[BaseException]) -> list[list[tuple[FrameType, int]]]:
    """The frames of each, and of one that was caught also those that called who caught it."""
    found: list[list[tuple[FrameType, int]]] = []
    callers: list[tuple[FrameType, int]] = []
    for error in errors[::-1]:
        own = frames_of(error)
        if own:
            outer = [frame for frame, _ in callers]
            catcher = own[-1][0]
            callers = own + (callers[outer.index(catcher) + 1 :] if catcher in outer else [])
        found.append(callers if own else [])
    return found[::-1]


def stack() -> Iterator[tuple[FrameType, int]]:
    """The frames that run now, innermost first."""
    return traceback.walk_stack(sys._getframe())


class Map:
    """The layers of a module, to find exceptions in.

    Args:
        module: A wrapper, whose attribute ``module`` is the user's; or the user's itself.
    """

    def __init__(self, module: nn.Module) -> None:
        self._wrapper = type(module)
        self._prefix = "module." if isinstance(getattr(module, "module", None), nn.Module) else ""
        self._paths: dict[int, str] = {}
        self._layers: dict[str, nn.Module] = {}
        self._add(module)

    @property
    def root(self) -> Place:
        """The user's module as a whole."""
        return self._place("", None) if self._layers else Place()

    def place(self, error: BaseException) -> Place:
        """Find what can be found about an exception."""
        errors = chain(error)
        running = _first(map(self.in_frames, _frames_to_root(errors)))
        if running.line:
            return running
        witnesses = (self._in_graph, self._in_dynamo, self._in_message)
        told = _first(witness(one) for witness in witnesses for one in errors)
        if running.kind and (told.kind is None or told.kind is running.kind):
            return Place(running.layer, running.kind, told.line)
        return told

    def in_frames(self, frames: Frames) -> Place:
        """The innermost layer that runs, and the innermost line of the user's below forward."""
        frames = list(frames)
        selves = [_self(frame) for frame, _ in frames]
        for owner in reversed(selves):
            if owner is not None and type(owner) is self._wrapper and id(owner) not in self._paths:
                self._add(owner)  # the compiler was given a copy
        known = [self._paths.get(id(owner)) for owner in selves]
        depth = max((at for at, path in enumerate(known) if path is not None), default=-1)
        lines = [Line(frame.f_code.co_filename, number) for frame, number in frames[: depth + 1]]
        path = next((path for path in known if path), "") if depth >= 0 else None
        return Place() if path is None else self._place(path, users_line(lines))

    def _in_message(self, error: BaseException) -> Place:
        return self.in_text(str(error))

    def in_text(self, text: str) -> Place:
        """What a message says: torch quotes lines of the user's code."""
        written = [Line(file, int(number)) for file, number in _PYTHON_FRAME.findall(text)][::-1]
        for pattern in (_SCRIPT_FRAME, _TRACE_FRAME):
            written += [Line(file, int(number)) for file, number in pattern.findall(text)]
        line = told_line(written)
        return Place() if line is None else self._around(line)

    def _add(self, module: nn.Module) -> None:
        for name, layer in module.named_modules():
            if name == self._prefix[:-1] or name.startswith(self._prefix):
                path = name[len(self._prefix) :]
                self._paths[id(layer)] = path
                self._layers.setdefault(path, layer)
            else:
                self._paths[id(layer)] = ""

    def _place(self, path: str, line: Line | None) -> Place:
        layer = self._layers[path]
        kind = kind_of(layer)
        return Place(f"{path} ({kind})" if path else kind, type(layer), line)

    def _around(self, line: Line) -> Place:
        """The layer whose class has this line; the first, where several could be meant."""
        kinds = {kind for kind in set(map(type, self._layers.values())) if _has(kind, line)}
        paths = [path for path, layer in self._layers.items() if type(layer) in kinds]
        if not paths:
            return Place(None, None, line)
        place = self._place(paths[0], line)
        several = f", one of {len(paths)} of its class" if len(paths) > 1 else ""
        return Place(f"{place.layer}{several}", place.kind, line)

    def _in_dynamo(self, error: BaseException) -> Place:
        """The line at which torch.export(strict=True) was reading the bytecode."""
        lines = []
        for frame, _ in frames_of(error):
            reader = frame.f_locals.get("self")
            code, number = getattr(reader, "f_code", None), getattr(reader, "lineno", None)
            if isinstance(code, CodeType) and isinstance(number, int):
                lines.append(Line(code.co_filename, number))
        line = users_line(lines)
        return Place() if line is None else self._around(line)

    def _in_graph(self, error: BaseException) -> Place:
        """The node that torch.onnx was translating."""
        for frame, _ in frames_of(error):
            if "onnx" not in frame.f_code.co_filename:
                continue
            for value in list(frame.f_locals.values()):
                if isinstance(value, torch.fx.Node) and value.op == "call_function":
                    return self._at_node(value)
                if isinstance(value, torch._C.Node) and value.kind() != "prim::Constant":
                    return self._at_script_node(value)
        return Place()

    def _at_node(self, node: torch.fx.Node) -> Place:
        owners: dict[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
        path = next(reversed(owners.values()), ("", None))[0] if owners else ""
        return self._named(path, node.meta.get("stack_trace") or "")

    def _at_script_node(self, node: Any) -> Place:
        scopes = re.findall(r"([\w.]+)::([\w.]*)", node.scopeName())  # pkg.Class::name/...
        path = ".".join(name for _, name in scopes if name)
        place = self._named(path, node.sourceRange())
        if place.layer is None and scopes:  # a scripted ModuleList leaves no name
            kind = scopes[-1][0].rpartition(".")[2]
            alike = [p for p, layer in self._layers.items() if kind_of(layer) == kind]
            return self._place(alike[0], place.line) if len(alike) == 1 else place
        return place

    def _named(self, path: str, text: str) -> Place:
        place = self.in_text(text)
        path = path.removeprefix("L['self'].").removeprefix(self._prefix)
        return self._place(path, place.line) if path in self._layers else place


def _first(places: Iterable[Place]) -> Place:
    found = list(places)
    return next((p for p in found if p.line), None) or next((p for p in found if p.kind), Place())


def _self(frame: FrameType) -> nn.Module | None:
    for name in ("self", "nn_module"):  # the second: what torch.jit.script is at work on
        owner = frame.f_locals.get(name)
        if isinstance(owner, nn.Module):
            return owner
    return None


def users_line(lines: list[Line]) -> Line | None:
    """The innermost line of the user's own code; of a model library, where there is none.

    Args:
        lines: Innermost first.
    """
    whose = [line for line in lines if origin(line.file) is not Origin.COMPILER]
    return min(whose, key=lambda line: origin(line.file), default=None)  # the first of equals


def told_line(lines: list[Line]) -> Line | None:
    """The user's line of some that were kept or written, which is none of those that export.

    Args:
        lines: Innermost first.
    """
    calling = {Line(frame.f_code.co_filename, number) for frame, number in stack()}
    return users_line([line for line in lines if line not in calling])


def _has(kind: type[nn.Module], line: Line) -> bool:
    return any(
        inspect.isfunction(member) and _spans(inspect.unwrap(member).__code__, line)
        for base in kind.__mro__
        for member in vars(base).values()
    )


def _spans(code: CodeType, line: Line) -> bool:
    if code.co_filename != line.file:
        return False
    numbers = [number for *_, number in code.co_lines() if number is not None]
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return min(numbers) <= line.number <= max(numbers) or any(_spans(one, line) for one in inner)
