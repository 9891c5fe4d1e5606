"""Fit a module to data: loop, objective, optimizer, schedule, checkpoints, what is watched."""

from .evaluation import evaluate, outputs_of, tensors
from .history import INITIALISATIONS, SCHEDULES, Epoch, History, Norms, Settings
from .loop import fit
from .objective import CLASSIFICATION, REGRESSION, Objective, losses, objective_for
from .optimizers import find_optimizer, optimizer_names
from .ranks import Rank, join_group, leave_group
from .rates import RangeTest, largest_stable_step, range_test

__all__ = [
    "CLASSIFICATION",
    "INITIALISATIONS",
    "REGRESSION",
    "SCHEDULES",
    "Epoch",
    "History",
    "Norms",
    "Objective",
    "RangeTest",
    "Rank",
    "Settings",
    "evaluate",
    "find_optimizer",
    "fit",
    "join_group",
    "largest_stable_step",
    "leave_group",
    "losses",
    "objective_for",
    "optimizer_names",
    "outputs_of",
    "range_test",
    "tensors",
]
