"""Options that every ``edgeport train MODEL`` has, and the settings that they make."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgeport.commands.options import TF32_HELP, Listed, above_zero, names, positive, seed
from edgeport.runtimes.needs import needs

if TYPE_CHECKING:
    from edgeport.training import Settings

SCHEDULES: Final = (
    "constant", "cosine", "linear", "exponential", "step", "one-cycle", "plateau",
)  # fmt: skip  # = edgeport.training.fitting.SCHEDULES, which would import torch

INITIALISATIONS: Final = ("kaiming", "xavier", "orthogonal")


@dataclass(frozen=True, slots=True)
class TrainDefaults:
    """What a model is trained with where nothing is said; ``None`` for what depends on the data."""

    epochs: int
    batch_size: int | None
    learning_rate: float | None
    optimizer: str = "AdamW"
    options: Mapping[str, float | bool | None] | None = None
    schedule: str = "cosine"


@dataclass(frozen=True, slots=True)
class TrainArgs:
    """What was asked of a training, besides its model and data."""

    output: Path
    settings: Mapping[str, Any]
    checkpoint: Path | None
    find_rate: bool
    as_json: bool
    png: bool = False
    tensorboard: Path | None = None
    device: str = "cpu"

    def make(
        self, learning_rate: float | None = None, weight_decay: float | None = None
    ) -> "Settings":
        """The settings, with a learning rate and a decay where they were left to the data."""
        from edgeport.training import Settings

        asked = dict(self.settings)
        if asked["learning_rate"] is None:
            asked["learning_rate"] = learning_rate
        options = dict(asked["options"])
        if options.get("weight_decay", 0) is None:
            del options["weight_decay"]
            if weight_decay is not None:
                options["weight_decay"] = weight_decay
        return Settings(**{**asked, "options": options})


def add_training_options(parser: argparse.ArgumentParser, defaults: TrainDefaults) -> None:
    """Declare them."""
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder for the run")
    how = parser.add_argument_group("how it is trained").add_argument
    rate = "by the data" if defaults.learning_rate is None else f"{defaults.learning_rate:g}"
    batch = "full" if defaults.batch_size is None else str(defaults.batch_size)
    how(
        "--epochs", type=positive, default=defaults.epochs, metavar="N",
        help=f"passes over the training examples (default: {defaults.epochs})",
    )  # fmt: skip
    how(
        "--batch", "--batch-size", dest="batch", type=batch_size, default=defaults.batch_size,
        metavar="N|full", help=f"examples in one step (default: {batch})",
    )  # fmt: skip
    how(
        "--lr", type=above_zero, default=defaults.learning_rate, metavar="X",
        help=f"learning rate (default: {rate})",
    )  # fmt: skip
    how("--seed", type=seed, default=0, metavar="N", help="default: 0")
    how(
        "--optimizer", default=defaults.optimizer, metavar="NAME",
        help="any class of torch.optim, or your own as package.file:Class "
        f"(default: {defaults.optimizer})",
    )  # fmt: skip
    how(
        "--option", type=option, action="append", default=[], metavar="NAME=VALUE",
        help="of the optimizer: momentum=0.9, betas=0.9,0.99, nesterov=true; repeat",
    )  # fmt: skip
    how(
        "--schedule", choices=SCHEDULES, default=defaults.schedule,
        help=f"of the learning rate (default: {defaults.schedule})",
    )  # fmt: skip
    how("--clip-norm", type=above_zero, metavar="X", help="shorten gradients longer than this")
    how("--init", choices=INITIALISATIONS, help="how initial weights are drawn (default: as torch)")
    how(
        "--patience", type=positive, metavar="N",
        help="stop after N epochs without a lower held-out cost, and take the best weights",
    )  # fmt: skip
    how(
        "--checkpoint", type=Path, metavar="FILE",
        help="keep the state of the training here; if it is there, go on from it, bit for bit",
    )  # fmt: skip
    how(
        "--find-lr", action="store_true", help="try a range of learning rates, and train no further"
    )
    gpu = parser.add_argument_group("on a GPU").add_argument
    gpu("--device", default="cpu", metavar="NAME", help="cpu, cuda or cuda:N (default: cpu)")
    gpu("--tf32", action="store_true", help=TF32_HELP)
    add_seeing_options(parser)
    parser.set_defaults(
        default_options=defaults.options or {}, default_optimizer=defaults.optimizer
    )


def add_seeing_options(parser: argparse.ArgumentParser) -> None:
    """Declare what every training has to show itself by."""
    say = parser.add_argument
    say("--json", action="store_true", help="print the metrics as JSON")
    say("--png", action="store_true", help="keep the charts of the report as PNG files too")
    say("--tensorboard", type=Path, metavar="DIR", help="write events for TensorBoard there")


def parse_training(arguments: argparse.Namespace) -> TrainArgs:
    """Read them."""
    same = arguments.optimizer.lower() == arguments.default_optimizer.lower()
    options = {**(arguments.default_options if same else {}), **dict(arguments.option)}
    settings = {
        "epochs": arguments.epochs,
        "batch_size": arguments.batch,
        "learning_rate": arguments.lr,
        "seed": arguments.seed,
        "optimizer": arguments.optimizer,
        "options": options,
        "schedule": arguments.schedule,
        "clip_norm": arguments.clip_norm,
        "patience": arguments.patience,
        "initialisation": arguments.init,
        "tf32": arguments.tf32,
    }
    return TrainArgs(
        arguments.output,
        settings,
        arguments.checkpoint,
        arguments.find_lr,
        arguments.json,
        arguments.png,
        arguments.tensorboard,
        arguments.device,
    )


@dataclass(frozen=True, slots=True)
class DataArgs:
    """Which data, and which of their columns."""

    where: str
    target: str | None
    categorical: tuple[str, ...]
    drop: tuple[str, ...]
    held_out: float | None
    stratified: bool


def add_data_options(parser: argparse.ArgumentParser, example: str) -> None:
    """Declare ``--data`` and what belongs to it."""
    say = parser.add_argument_group("what it is trained on").add_argument
    say(
        "--data", required=True, metavar="WHERE",
        help=f"{example}; a .csv, .tsv or .npz file, a folder with one folder of images per "
        "class, or MNIST's or CIFAR's",
    )  # fmt: skip
    say("--target", metavar="NAME", help="the column or array to predict")
    say(
        "--categorical", type=names, action=Listed, default=(), metavar="NAME[,NAME]",
        help="columns of numbers that are categories",
    )  # fmt: skip
    say(
        "--drop",
        type=names,
        action=Listed,
        default=(),
        metavar="NAME[,NAME]",
        help="columns to leave out",
    )
    say(
        "--held-out", type=share, metavar="SHARE",
        help="of the examples, to measure on (default: the part that the data come with, or 0.2)",
    )  # fmt: skip
    say("--stratify", action="store_true", help="hold out as much of every class")


def parse_data(arguments: argparse.Namespace) -> DataArgs:
    """Read them."""
    return DataArgs(
        arguments.data,
        arguments.target,
        tuple(arguments.categorical),
        tuple(arguments.drop),
        arguments.held_out,
        arguments.stratify,
    )


def needs_torch() -> None:
    """Say so if torch is missing.

    Raises:
        BackendMissingError: It is.
    """
    with needs("training", "train"):
        import torch  # noqa: F401  # the import is the question

        import edgeport.training  # noqa: F401


def share(text: str) -> float:
    """Read a number between 0 and 1."""
    value = above_zero(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return value


def batch_size(text: str) -> int | None:
    """Read the size of a batch; ``full`` is ``None``."""
    return None if text == "full" else positive(text)


def option(text: str) -> tuple[str, object]:
    """Read ``NAME=VALUE``: a number, true, false, numbers with commas between them, or a word.

    Examples:
        >>> option("betas=0.9,0.99"), option("nesterov=True")
        (('betas', (0.9, 0.99)), ('nesterov', True))
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        return name, value
    if len(numbers) > 1:
        return name, tuple(numbers)
    return name, int(value) if value.lstrip("-").isdecimal() else numbers[0]
