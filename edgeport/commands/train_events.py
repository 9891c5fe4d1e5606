"""What TensorBoard shows of a training, written as it goes: ``tensorboard --logdir DIR``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgeport.commands.needs import needs

if TYPE_CHECKING:
    from edgeport.training import Epoch, Run

_OF_EPOCH: Final = {
    "cost/training": "cost",
    "cost/held out": "held_out_cost",
    "learning rate": "learning_rate",
}


class Events:
    """A writer of events, or of nothing if no folder was given."""

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is not None:
            with needs("--tensorboard", "tensorboard"):
                from torch.utils.tensorboard import SummaryWriter
            self._writer = SummaryWriter(str(folder))

    def tell(self, epoch: "Epoch", metric: str) -> None:
        """Write the figures of an epoch."""
        if self._writer is None:
            return
        for title, name in _OF_EPOCH.items():
            self._writer.add_scalar(title, getattr(epoch, name), epoch.number)
        self._writer.add_scalar(f"held out/{metric}", epoch.held_out_score, epoch.number)
        self._writer.flush()

    def end(self, run: "Run") -> None:
        """Write norms of layers, and warnings."""
        if self._writer is None:
            return
        for norms in run.history.norms:
            for kind in ("gradient", "activation"):
                for layer, value in getattr(norms, kind).items():
                    self._writer.add_scalar(f"{kind}/{layer}", value, norms.epoch)
        for number, warning in enumerate(run.history.warnings):
            self._writer.add_text("warnings", warning, number)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def events(folder: Path | None) -> Iterator[Events]:
    """Events that are closed however the block ends.

    Raises:
        BackendMissingError: tensorboard is not installed.
    """
    found = Events(folder)
    try:
        yield found
    finally:
        found.close()
