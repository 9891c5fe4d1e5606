"""The workstation side: train a module on real data and save the run.

Examples:
    >>> from edgeport import training
    >>> data = training.digits()
    >>> module = training.SmallCnn()
    >>> settings = training.Settings(epochs=12, batch_size=64, learning_rate=3e-3, seed=0)
    >>> history = training.fit(module, data, settings)                   # doctest: +SKIP
"""

from .data import DataSet, Labelled, Origin, Split, digits
from .fitting import Epoch, History, Norms, Objective, Settings, fit
from .models import SmallCnn
from .run import Run, check_place, load, save

__all__ = [
    "DataSet",
    "Epoch",
    "History",
    "Labelled",
    "Norms",
    "Objective",
    "Origin",
    "Run",
    "Settings",
    "SmallCnn",
    "Split",
    "check_place",
    "digits",
    "fit",
    "load",
    "save",
]
