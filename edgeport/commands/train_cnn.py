"""``edgeport train cnn``: a small CNN on images of one size."""

import argparse
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
    parser = kinds.add_parser("cnn", help="a small CNN on images of one size")
    add_data_options(parser, "digits")
    make = parser.add_argument_group("the module").add_argument
    make("--channels", type=positive, default=32, metavar="N", help="default: 32")
    make("--hidden", type=positive, default=128, metavar="N", help="default: 128")
    add_training_options(parser, TrainDefaults(12, 64, 3e-3))
    parser.set_defaults(run=lambda a: run(parse_training(a), lambda: _recipe(a)))
    return parser


def _recipe(arguments: argparse.Namespace) -> "Recipe":
    from edgeport.training import recipes

    data = open_data(parse_data(arguments))
    return recipes.cnn(data, channels=arguments.channels, hidden=arguments.hidden)
