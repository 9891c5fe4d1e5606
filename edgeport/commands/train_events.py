"""What TensorBoard shows of a training, written as it goes: ``tensorboard --logdir DIR``."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgeport.runtimes.files import writing
from edgeport.runtimes.needs import needs

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
        self._folder = folder or Path()
        if folder is not None:
            with needs("--tensorboard", "tensorboard"):
                from torch.utils.tensorboard import SummaryWriter
            with writing(folder):
                self._writer = SummaryWriter(str(folder))

    def tell(self, epoch: "Epoch", metric: str) -> None:
        """Write the figures of an epoch.

        Raises:
            StorageError: The disk is full.
        """
        if self._writer is None:
            return
        with writing(self._folder):
            for title, name in _OF_EPOCH.items():
                self._writer.add_scalar(title, getattr(epoch, name), epoch.number)
            self._writer.add_scalar(f"held out/{metric}", epoch.held_out_score, epoch.number)
            self._writer.flush()

    def end(self, run: "Run") -> None:
        """Write norms of layers, and warnings.

        Raises:
            StorageError: The disk is full.
        """
        if self._writer is None:
            return
        with writing(self._folder):
            for norms in run.history.norms:
                for kind in ("gradient", "activation"):
                    for layer, value in getattr(norms, kind).items():
                        self._writer.add_scalar(f"{kind}/{layer}", value, norms.epoch)
            for number, warning in enumerate(run.history.warnings):
                self._writer.add_text("warnings", warning, number)
            self._writer.flush()

    def close(self) -> None:
        """Close the file. What could not be written to it was told before."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()


@contextmanager
def events(folder: Path | None) -> Iterator[Events]:
    """Events that are closed however the block ends.

    Raises:
        BackendMissingError: tensorboard is not installed.
        StorageError: The folder can't be made.
    """
    found = Events(folder)
    before = threading.excepthook
    threading.excepthook = _not_written(before)
    try:
        yield found
    finally:
        found.close()
        threading.excepthook = before


def _not_written(
    otherwise: Callable[[threading.ExceptHookArgs], object],
) -> Callable[[threading.ExceptHookArgs], None]:
    """Without the traceback of the writer's thread, which raises the same again for its caller."""

    def hook(args: threading.ExceptHookArgs) -> None:
        if not issubclass(args.exc_type, OSError):
            otherwise(args)

    return hook
