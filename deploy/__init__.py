"""The workstation side: compile a module, prove every artefact, pack a bundle.

Examples:
    >>> from edgeport import deploy
    >>> deploy.export(model, {"image": images}, "digits.edge",          # doctest: +SKIP
    ...               dimensions={"image": {0: "batch"}})
"""

from edgeport.deploy.compilers.targets import find_target
from edgeport.deploy.proof.localiser import Localisation, localise
from edgeport.deploy.proof.search import Searched
from edgeport.deploy.proof.task import Score
from edgeport.deploy.sources.arguments import check_takes_inputs, make_call
from edgeport.deploy.sources.capture import capture, run_script
from edgeport.deploy.sources.drawing import Values
from edgeport.deploy.sources.loader import load_module
from edgeport.deploy.sources.source import Source, make_source
from edgeport.deploy.sources.spec import nested, parse_inputs
from edgeport.runtimes.tensorrt.order import EngineOptions, Progress

from .attempts import Attempt
from .events import Began, Ended, Event
from .exporter import export, model_name, source_of
from .isolation import Limits
from .pipeline import Export, export_source
from .request import DEFAULT_FORMATS, Request

__all__ = [
    "DEFAULT_FORMATS",
    "Attempt",
    "Began",
    "Ended",
    "EngineOptions",
    "Event",
    "Export",
    "Limits",
    "Localisation",
    "Progress",
    "Request",
    "Score",
    "Searched",
    "Source",
    "Values",
    "capture",
    "check_takes_inputs",
    "export",
    "export_source",
    "find_target",
    "load_module",
    "localise",
    "make_call",
    "make_source",
    "model_name",
    "nested",
    "parse_inputs",
    "run_script",
    "source_of",
]
