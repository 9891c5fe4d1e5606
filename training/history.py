"""What was asked of a training, and what came of it."""

import math
from dataclasses import dataclass

from edgeport.runtimes.errors import UsageError


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked.

    Attributes:
        epochs: Passes over the training examples.
        batch_size: Examples in one step.
        learning_rate: Of the first step; it falls to 0 along a cosine.
        seed: Of the order of the examples, and of whatever the module draws.
        optimizer: Its class in ``torch.optim``.
        weight_decay: Of the optimizer; PyTorch's default.
        schedule: Of the learning rate: its class in ``torch.optim.lr_scheduler``.

    Raises:
        UsageError: A number makes no sense.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    optimizer: str = "AdamW"
    weight_decay: float = 0.01
    schedule: str = "CosineAnnealingLR"

    def __post_init__(self) -> None:
        for name, value, right, expected in (
            ("epochs", self.epochs, self.epochs >= 1, "1 or more"),
            ("batch_size", self.batch_size, self.batch_size >= 1, "1 or more"),
            ("learning_rate", self.learning_rate, 0 < self.learning_rate < math.inf, "above 0"),
            ("seed", self.seed, 0 <= self.seed < 2**63, "0 or more and below 2**63"),
        ):
            if not right:
                raise UsageError(f"{name} is {value}, expected {expected}", remedy="correct it")


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training examples reached.

    Attributes:
        number: Counted from 1.
        loss: Cross-entropy in nats, mean over the training examples while they were trained on.
        held_out_loss: The same over the held-out examples, after the pass.
        held_out_accuracy: Share of them whose largest logit is that of their class.
    """

    number: int
    loss: float
    held_out_loss: float
    held_out_accuracy: float


@dataclass(frozen=True, slots=True)
class History:
    """A training: at least one epoch, and fewer than asked if it was interrupted."""

    settings: Settings
    epochs: tuple[Epoch, ...]

    @property
    def completed(self) -> bool:
        """Whether every epoch that was asked for is done."""
        return len(self.epochs) == self.settings.epochs
