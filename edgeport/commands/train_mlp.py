"""``edgeport train mlp``: a multi-layer perceptron on a table or on arrays."""

import argparse
from typing import TYPE_CHECKING

from edgeport.commands.options import positive
from edgeport.commands.training_options import (
    TrainDefaults,
    add_data_options,
    add_training_options,
    parse_data,
    parse_training,
    share,
)
from edgeport.commands.training_run import open_data, run
from edgeport.runtimes import UsageError

if TYPE_CHECKING:
    from edgeport.training.recipes import Recipe


def add(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = kinds.add_parser("mlp", help="a multi-layer perceptron on a table or on arrays")
    add_data_options(parser, "digits, diabetes, iris, wine, breast_cancer")
    make = parser.add_argument_group("the module").add_argument
    make(
        "--hidden", type=_widths, default=(128,), metavar="N[,N]",
        help="widths of the hidden layers (default: 128)",
    )  # fmt: skip
    make(
        "--activation", choices=("relu", "gelu", "tanh", "sigmoid", "silu"), default="relu",
        help="default: relu",
    )  # fmt: skip
    make("--norm", choices=("none", "batch", "layer"), default="none", help="default: none")
    make("--dropout", type=share, default=0.0, metavar="SHARE", help="default: 0")
    add_training_options(parser, TrainDefaults(100, 32, 1e-3))
    parser.set_defaults(run=lambda a: run(parse_training(a), lambda: _recipe(a)))
    return parser


def _recipe(arguments: argparse.Namespace) -> "Recipe":
    from edgeport.training import recipes

    if arguments.norm == "batch" and arguments.batch == 1:
        raise UsageError(
            "--norm batch with --batch 1: one example has no deviation to normalise by",
            remedy="use larger batches, or --norm layer",
        )
    return recipes.mlp(
        open_data(parse_data(arguments)),
        hidden=arguments.hidden,
        activation=arguments.activation,
        norm=arguments.norm,
        dropout=arguments.dropout,
    )


def _widths(text: str) -> tuple[int, ...]:
    return tuple(positive(part) for part in text.split(","))
