"""``edgeport train linear``: linear or logistic regression on a table."""

import argparse
from typing import TYPE_CHECKING

from edgeport.commands.training_options import (
    DataArgs,
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
    """Declare the command.

    The defaults are gradient descent with Nesterov's momentum over all rows at half of the largest
    stable step: they reach the closed form on well-scaled data, and for classes the minimum of
    scikit-learn's ``LogisticRegression()``, whose penalty is the default.
    """
    parser = kinds.add_parser(
        "linear",
        help="linear regression, or logistic regression where the target is text",
        epilog="classes are penalised as by scikit-learn's LogisticRegression(C=1); for another C: "
        "--option weight_decay=1/(C n), of two classes 2/(C n), 0 for none. "
        "example: edgeport train linear --data my.csv --target price -o runs/price",
    )
    add_data_options(parser, "diabetes, iris, wine, breast_cancer")
    options = {"momentum": 0.95, "nesterov": True, "weight_decay": None}
    defaults = TrainDefaults(1000, None, None, "SGD", options, "constant")
    add_training_options(parser, defaults)
    parser.set_defaults(run=lambda a: run(parse_training(a), lambda: _recipe(parse_data(a))))
    return parser


def _recipe(data: DataArgs) -> "Recipe":
    from edgeport.training import recipes

    return recipes.linear(open_data(data))
