"""``edgeport train vision:NAME``: a model of torchvision on images of any size."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.commands.options import positive
from edgeport.commands.training_options import (
    TrainDefaults,
    add_data_options,
    add_training_options,
    parse_data,
    parse_training,
)
from edgeport.commands.training_run import open_data, run

if TYPE_CHECKING:
    from edgeport.training.recipes import Recipe


def add(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = kinds.add_parser(
        "vision",
        prog="edgeport train vision:NAME",
        description="A classification model of torchvision: resnet18, mobilenet_v3_small, ...",
        help="vision:resnet18 or any other classification model of torchvision",
        epilog="example: edgeport train vision:resnet18 --data photos/ "
        "--weights resnet18-f37072fd.pth -o runs/photos",
    )
    parser.add_argument("network", metavar="NAME", help=argparse.SUPPRESS)
    add_data_options(parser, "photos/")
    make = parser.add_argument_group("the module").add_argument
    make(
        "--resize", type=positive, default=256, metavar="N",
        help="of the shorter side, in the artefact (default: 256)",
    )  # fmt: skip
    make(
        "--crop", type=positive, default=224, metavar="N",
        help="side of the square in the middle (default: 224)",
    )  # fmt: skip
    make(
        "--weights", type=Path, metavar="FILE",
        help="start from these (.pth, .safetensors), and train only the layers that they don't fit",
    )  # fmt: skip
    make("--train-all", action="store_true", help="train all layers, though there are weights")
    add_training_options(parser, TrainDefaults(10, 32, 1e-3))
    parser.set_defaults(run=lambda a: run(parse_training(a), lambda: _recipe(a)))
    return parser


def _recipe(arguments: argparse.Namespace) -> "Recipe":
    from edgeport.runtimes import UsageError
    from edgeport.training import recipes

    if arguments.crop > arguments.resize:
        raise UsageError(
            f"--crop {arguments.crop} from images resized to {arguments.resize}",
            remedy="use a --resize of at least --crop",
        )
    return recipes.vision(
        open_data(parse_data(arguments)),
        arguments.network,
        resize=arguments.resize,
        crop=arguments.crop,
        weights=arguments.weights,
        train_all=arguments.train_all,
    )
