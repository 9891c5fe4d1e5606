"""Find the first value at which an artefact leaves the module that it was made from."""

from .choice import choose_sample
from .result import Localisation, Summary, Tensor, WalkStep
from .search import localise, write_repro

__all__ = [
    "Localisation",
    "Summary",
    "Tensor",
    "WalkStep",
    "choose_sample",
    "localise",
    "write_repro",
]
