"""The workstation side: compile a module, prove every artefact, pack a bundle.

Examples:
    >>> from edgeport import deploy
    >>> deploy.export(model, {"image": images}, "digits.edge",          # doctest: +SKIP
    ...               dimensions={"image": {0: "batch"}})
"""

from .exporter import DEFAULT_FORMATS, Export, export, export_source, model_name
from .loader import load_module
from .onnx_graph import DEFAULT_OPSET
from .samples import Values
from .source import Source, make_source
from .spec import parse_inputs

__all__ = [
    "DEFAULT_FORMATS",
    "DEFAULT_OPSET",
    "Export",
    "Source",
    "Values",
    "export",
    "export_source",
    "load_module",
    "make_source",
    "model_name",
    "parse_inputs",
]
