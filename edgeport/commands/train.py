"""``edgeport train``: train a model on real data and save the run."""

import argparse
import contextlib
import json
import math
import shlex
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgeport.commands.options import positive
from edgeport.commands.terminal import note, progress, show
from edgeport.runtimes import BackendMissingError

if TYPE_CHECKING:
    from torch import nn

    from edgeport.training import DataSet, Epoch, History, Run

_HYPERPARAMETERS: Final = {"channels": 32, "hidden": 128}


@dataclass(frozen=True, slots=True)
class TrainArgs:
    """What ``edgeport train`` was asked. The defaults give 0.99 held-out accuracy on digits."""

    output: Path
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 3e-3
    seed: int = 0
    as_json: bool = False


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("train", help="train a small model on real data")
    parser.add_argument(
        "data", choices=["digits"], help="digits: a CNN on scikit-learn's 1,797 images"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder for the run")
    parser.add_argument("--epochs", type=positive, default=12, metavar="N", help="default: 12")
    parser.add_argument("--batch-size", type=positive, default=64, metavar="N", help="default: 64")
    parser.add_argument(
        "--lr", type=_rate, default=3e-3, metavar="X", help="learning rate (default: 0.003)"
    )
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="default: 0")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    parser.set_defaults(
        run=lambda a: run(TrainArgs(a.output, a.epochs, a.batch_size, a.lr, a.seed, a.json))
    )
    return parser


def run(args: TrainArgs) -> int:
    """Train, save what was trained, and say where it is."""
    try:
        import torch

        from edgeport import training
    except ModuleNotFoundError as e:
        raise BackendMissingError(
            f"training needs {e.name!r}, which is not installed",
            remedy="pip install 'edgeport[train]'",
        ) from e
    training.check_place(args.output)
    data = training.digits()
    torch.manual_seed(args.seed)
    module = training.SmallCnn(**_HYPERPARAMETERS)
    history = _fit(module, data, args)
    made = training.Run("small_cnn", _HYPERPARAMETERS, module, data.origin, data.held_out, history)
    with _uninterrupted():
        training.save(made, args.output)
        return _report(made, args)


def _fit(module: "nn.Module", data: "DataSet", args: TrainArgs) -> "History":
    from edgeport.training import fit

    note(
        f"training on {len(data.train):,} images of {data.origin.name}, "
        f"{len(data.held_out):,} held out"
    )
    with progress("training", 1000) as bar:

        def on_epoch(epoch: "Epoch") -> None:
            bar.clear()
            (note if args.as_json else show)(_line(epoch, args.epochs))

        return fit(
            module,
            data.train,
            data.held_out,
            epochs=args.epochs,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            seed=args.seed,
            on_batch=lambda done, planned, loss: bar.update(
                1000 * done // planned, f"loss {loss:.4f}"
            ),
            on_epoch=on_epoch,
        )


def _line(epoch: "Epoch", asked: int) -> str:
    return (
        f"epoch {epoch.number:>{len(str(asked))}}/{asked}  loss {epoch.loss:.4f}  "
        f"held-out accuracy {epoch.held_out_accuracy:.4f}"
    )


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let no Ctrl-C in while a run is saved: that takes milliseconds, and leaves nothing half."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _report(made: "Run", args: TrainArgs) -> int:
    done, last = len(made.history.epochs), made.history.epochs[-1]
    if args.as_json:
        show(json.dumps(_metrics(made)))
    else:
        right = round(last.held_out_accuracy * len(made.held_out))
        output = shlex.quote(str(args.output))
        show(
            f"{args.output}  held-out accuracy {last.held_out_accuracy:.4f} "
            f"({right} of {len(made.held_out)}), {made.parameters:,} parameters"
        )
        show(f"next: edgeport export {output} -o {shlex.quote(args.output.name + '.edge')}")
    if made.history.completed:
        return 0
    note(f"interrupted after {done} of {args.epochs} epochs; the run so far is in {args.output}")
    return 130


def _metrics(made: "Run") -> dict[str, object]:
    return {
        "train_version": 1,
        "model": made.model,
        "parameters": made.parameters,
        "data": made.origin.name,
        "completed": made.history.completed,
        "held_out_examples": len(made.held_out),
        "held_out_accuracy": made.history.epochs[-1].held_out_accuracy,
        "epochs": [asdict(epoch) for epoch in made.history.epochs],
    }


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 2**63 - 1, got {text!r}")
    return int(text)
