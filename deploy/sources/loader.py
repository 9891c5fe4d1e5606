"""Get the user's module: ``package.file:callable``, imported from the folder they stand in."""

import difflib
import importlib.util
import sys
from pathlib import Path
from typing import Final

from torch import nn

from edgeport.deploy.diagnosis.places import Line, frames_of, users_line
from edgeport.runtimes import SourceError

from .modules import weights_remedy

_MOST_NAMED: Final = 8


def load_module(reference: str) -> nn.Module:
    """Import ``package.file:attribute`` and return the module that it is, or returns.

    Args:
        reference: Names a callable without arguments that returns an ``nn.Module``, or an
            ``nn.Module`` itself.

    Raises:
        SourceError: It cannot be imported, does not exist, raises, or returns something else.
    """
    file, _, attribute = reference.partition(":")
    dotted = file.removesuffix(".py").replace("/", ".").strip(".")
    if dotted != file or not attribute or not all(map(str.isidentifier, file.split("."))):
        raise SourceError(
            f"{reference!r} does not name a callable",
            remedy=f"write package.file:callable, like {dotted or 'models'}:{attribute or 'make'}",
        )
    found = _attribute(_import(file), file, attribute)
    if isinstance(found, nn.Module):
        return found
    try:
        module = found()  # type: ignore[operator]  # not callable is an error of the user's too
    except (Exception, SystemExit) as e:  # the user's code may raise anything
        called = len(frames_of(e)) > 1
        raise SourceError(
            f"{reference} raised {_where(e)}",
            remedy="fix that error, and export again"
            if called
            else "name a function without arguments, which passes them itself",
        ) from e
    if not isinstance(module, nn.Module):
        raise SourceError(
            f"{reference} returned {type(module).__name__}, expected a torch.nn.Module",
            remedy=weights_remedy(module) or "return the module itself",
        )
    return module


def _import(file: str) -> object:
    here = str(Path.cwd())
    if here not in sys.path:  # as python -m does, and for good: forward may import something too
        sys.path.insert(0, here)
    _refuse_triton_folder()
    try:
        return importlib.import_module(file)
    except ModuleNotFoundError as e:
        if e.name is not None and (file == e.name or file.startswith(f"{e.name}.")):
            raise SourceError(
                f"there is no module {file!r} in {Path.cwd().name}/, nor is one installed",
                remedy="run edgeport in the folder that holds your package",
            ) from e
        raise SourceError(f"importing {file} raised {_where(e)}", remedy=f"install {e.name}") from e
    except (Exception, SystemExit) as e:  # the user's code may raise anything
        raise SourceError(
            f"importing {file} raised {_where(e)}", remedy="fix that error, and export again"
        ) from e


def _refuse_triton_folder() -> None:
    """A folder of that name, as of models for Triton's server, is a package to Python.

    torch 2.13 then has AttributeErrors of its own wherever it looks for Triton's language.
    """
    found = None if "triton" in sys.modules else importlib.util.find_spec("triton")
    if found is not None and found.origin is None:
        raise SourceError(
            f"torch takes the folder {next(iter(found.submodule_search_locations or ()))} for the "
            "package triton, which is not installed",
            remedy="rename it, or run edgeport in a folder without one",
        )


def _attribute(module: object, file: str, attribute: str) -> object:
    if not hasattr(module, attribute):
        public = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        near = difflib.get_close_matches(attribute, public)
        own = [n for n in public if getattr(vars(module)[n], "__module__", None) == file]
        names = near or own or public
        more = ", ..." * (len(names) > _MOST_NAMED)
        raise SourceError(
            f"{file} has no {attribute!r}",
            remedy=f"it has {', '.join(names[:_MOST_NAMED]) or 'nothing callable'}{more}",
        )
    found = getattr(module, attribute)
    if not callable(found):
        raise SourceError(
            f"{file}:{attribute} is of type {type(found).__name__}, which cannot be called",
            remedy="name a function that returns a torch.nn.Module",
        )
    return found


def _where(error: BaseException) -> str:
    """The exception, and the last line of the user's code that it passed through."""
    lines = [Line(frame.f_code.co_filename, number) for frame, number in frames_of(error)]
    line = users_line(lines)
    place = ""
    if line is not None and not isinstance(error, SyntaxError):  # which says the line itself
        place = f" ({Path(line.file).name}, line {line.number})"
    return f"{type(error).__name__}: {error}{place}"
