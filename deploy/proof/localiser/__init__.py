"""Find the first value at which an artefact leaves the module that it was made from."""

from .result import Localisation, Summary, Tensor, WalkStep
from .search import localise, write_repro

__all__ = ["Localisation", "Summary", "Tensor", "WalkStep", "localise", "write_repro"]
