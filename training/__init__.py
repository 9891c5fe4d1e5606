"""The workstation side: train a module on real data and save the run.

Examples:
    >>> from edgeport import training
    >>> data = training.digits()
    >>> module = training.SmallCnn()
    >>> history = training.fit(                              # doctest: +SKIP
    ...     module, data.train, data.held_out,
    ...     epochs=12, batch_size=64, learning_rate=3e-3, seed=0,
    ... )
"""

from .cnn import SmallCnn
from .datasets import DataSet, Labelled, Origin, Split, digits
from .history import Epoch, History, Settings
from .loop import fit
from .run import Run, check_place, load, save

__all__ = [
    "DataSet",
    "Epoch",
    "History",
    "Labelled",
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
