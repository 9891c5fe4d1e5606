"""The workstation side: compile a module, prove every artefact, pack a bundle.

Examples:
    >>> from edgeport import deploy
    >>> deploy.export(model, {"image": images}, "digits.edge",          # doctest: +SKIP
    ...               dimensions={"image": {0: "batch"}})
"""

from .arguments import make_call
from .attempts import Attempt
from .capture import capture, run_script
from .exporter import export, model_name, source_of
from .isolation import Limits
from .loader import load_module
from .pipeline import DEFAULT_FORMATS, Began, Ended, Event, Export, Request, export_source
from .samples import Values
from .source import Source, make_source
from .spec import nested, parse_inputs
from .targets import find_target

__all__ = [
    "DEFAULT_FORMATS",
    "Attempt",
    "Began",
    "Ended",
    "Event",
    "Export",
    "Limits",
    "Request",
    "Source",
    "Values",
    "capture",
    "export",
    "export_source",
    "find_target",
    "load_module",
    "make_call",
    "make_source",
    "model_name",
    "nested",
    "parse_inputs",
    "run_script",
    "source_of",
]
