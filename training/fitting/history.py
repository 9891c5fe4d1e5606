"""What was asked of a training, and what came of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from edgeport.runtimes.errors import UsageError

Option = float | int | bool | str | tuple[float, ...]

INITIALISATIONS: Final = ("kaiming", "xavier", "orthogonal")

SCHEDULES: Final = (
    "constant", "cosine", "linear", "exponential", "step", "one-cycle", "plateau",
)  # fmt: skip  # schedules.py has the formulas

ENDLESS: Final = ("constant", "plateau")
"""Schedules that do not know when the training ends: more epochs may follow."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked: hyperparameters of the training, not of the module.

    Attributes:
        epochs: Passes over the training examples.
        batch_size: Examples in one step; ``None`` for all of them (full batch), 1 for stochastic
            gradient descent.
        learning_rate: Of the optimizer; the schedule multiplies it.
        seed: Of the order of the examples, and of whatever the module draws.
        optimizer: Its class in ``torch.optim`` in any case, or a class of one's own as
            ``package.file:Class``.
        options: More arguments of the optimizer: ``{"weight_decay": 0.01}``.
        schedule: How the learning rate changes: one of ``SCHEDULES``.
        clip_norm: Largest norm of the gradient of all parameters; longer ones are shortened.
        patience: Epochs without a lower held-out cost after which to stop; the weights of the
            lowest are restored. ``None`` for all epochs, and the weights of the last.
        initialisation: One of ``INITIALISATIONS`` for all weights of two axes or more; ``None``
            for the module's own.
        tf32: Whether a GPU may round factors of float32 products to 10 bits: faster.

    Raises:
        UsageError: A number or name makes no sense.
    """

    epochs: int
    batch_size: int | None
    learning_rate: float
    seed: int = 0
    optimizer: str = "AdamW"
    options: Mapping[str, Option] = field(default_factory=dict)
    schedule: str = "cosine"
    clip_norm: float | None = None
    patience: int | None = None
    initialisation: str | None = None
    tf32: bool = False

    def __post_init__(self) -> None:
        batch_size, patience = self.batch_size, self.patience
        clip, init = self.clip_norm, self.initialisation
        for name, value, right, expected in (
            ("epochs", self.epochs, self.epochs >= 1, "1 or more"),
            ("batch_size", batch_size, batch_size is None or batch_size >= 1, "1 or more"),
            ("learning_rate", self.learning_rate, 0 < self.learning_rate < math.inf, "above 0"),
            ("seed", self.seed, 0 <= self.seed < 2**63, "0 or more and below 2**63"),
            ("schedule", self.schedule, self.schedule in SCHEDULES, f"one of {_list(SCHEDULES)}"),
            ("clip_norm", clip, clip is None or 0 < clip < math.inf, "above 0"),
            ("patience", patience, patience is None or patience >= 1, "1 or more"),
            (
                "initialisation",
                init,
                init is None or init in INITIALISATIONS,
                f"one of {_list(INITIALISATIONS)}",
            ),
        ):
            if not right:
                raise UsageError(f"{name} is {value}, expected {expected}", remedy="correct it")


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training examples reached.

    The loss is of one example; the cost is its mean over examples.

    Attributes:
        number: Counted from 1.
        cost: Mean loss of the training examples while they were trained on.
        held_out_cost: The same of the held-out examples, after the pass.
        held_out_score: The metric over them: accuracy or R2.
        learning_rate: Of its last step.
    """

    number: int
    cost: float
    held_out_cost: float
    held_out_score: float
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Norms:
    """Sizes of what flowed through the layers in one step, in the order of forward.

    Attributes:
        epoch: Whose first step it was.
        gradient: Layer -> Euclidean norm of the gradient of its own parameters, before clipping.
        activation: Layer -> root mean square of what it returned.
    """

    epoch: int
    gradient: Mapping[str, float]
    activation: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class History:
    """A training: at least one epoch.

    Attributes:
        settings: What was asked.
        objective: What was minimised: ``cross-entropy`` (nats) or ``squared error``.
        metric: What ``held_out_score`` is: ``accuracy`` or ``R2``.
        epochs: Fewer than asked if it was interrupted or stopped early.
        norms: Of some epochs, at most about a hundred.
        warnings: Named ones: ``vanishing-gradients: ...``.
        stopped_early: Whether patience ran out.
        device: Where it was trained: ``cpu``, ``cuda (NVIDIA H100 80GB HBM3)``.
    """

    settings: Settings
    objective: str
    metric: str
    epochs: tuple[Epoch, ...]
    norms: tuple[Norms, ...] = ()
    warnings: tuple[str, ...] = ()
    stopped_early: bool = False
    device: str = "cpu"

    @property
    def completed(self) -> bool:
        """Whether every epoch that was asked for is done, or patience ran out."""
        return self.stopped_early or len(self.epochs) == self.settings.epochs

    @property
    def kept(self) -> Epoch:
        """The epoch whose weights the module has: the best with patience, else the last."""
        if self.settings.patience is None:
            return self.epochs[-1]
        return min(self.epochs, key=lambda epoch: epoch.held_out_cost)
