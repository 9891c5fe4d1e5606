"""The ways from a module to an artefact, in the order in which they are tried.

First what keeps control flow or refuses it, then what records one run and may be wrong for
another; all of them have to pass the same proof.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from edgeport.deploy.sources.source import Source

from . import aotinductor, pt2, torchscript
from .onnx_files import onnx_export, string_input
from .stored import Compiled
from .targets import OnnxRequest

RECORDED: Final = "recorded"
"""The route whose file refuses what takes another way than it has."""


@dataclass(frozen=True, slots=True)
class Route:
    """One way.

    Attributes:
        name: As reports show it.
        compile: Writes the artefact into the folder; raises whatever the compiler raises.
        records: Whether it follows one run of forward, so that a branch not taken is lost.
        mends: Whether it is for those whose artefact by an earlier route is wrong.
        emulated: Writes in its place a file that does on the CPU what its engine does on a GPU.
    """

    name: str
    compile: Callable[[Source, Path], Compiled]
    records: bool = False
    mends: bool = False
    emulated: Callable[[Source, Path], Compiled] | None = None


def routes(format_: str, request: OnnxRequest) -> tuple[Route, ...]:
    """The routes to a format, the first ones first."""
    if format_ == "torchscript":
        return (
            Route("script", torchscript.script),
            Route("export", torchscript.exported),
            Route(RECORDED, torchscript.recorded, records=True),
            Route("trace", torchscript.trace, records=True),
        )
    if format_ == "onnx":
        exact = partial(onnx_export.written_out, request=request)
        steps = partial(onnx_export.steps_written_out, request=request)
        return (
            Route("dynamo", partial(onnx_export.dynamo, request=request)),
            Route("written out", exact, mends=True),
            Route("steps written out", steps, mends=True),
            Route("converted", partial(onnx_export.converted, request=request)),
            Route(RECORDED, partial(onnx_export.recorded, request=request), records=True),
            Route("trace", partial(onnx_export.trace, request=request), records=True),
        )
    if format_ == string_input.FORMAT:
        return (Route("strings", partial(string_input.strings_before, request=request)),)
    save = aotinductor.save if format_ == aotinductor.FORMAT else None
    return (
        Route("export", partial(pt2.export, save=save)),
        Route("oblivious", partial(pt2.oblivious, save=save)),
        Route("strict", partial(pt2.strict, save=save)),
        Route("script", partial(pt2.script, save=save)),
        Route(RECORDED, partial(pt2.recorded, save=save), records=True),
    )
