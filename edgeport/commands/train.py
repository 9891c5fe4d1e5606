"""``edgeport train MODEL``: train a model on real data and save the run.

Each model is a module of its own, ``train_MODEL.py``, which declares its options.
"""

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from edgeport.commands.parsers import Commands

KINDS: Final = ("linear", "mlp", "cnn", "vision", "digits", "text", "word2vec")


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("train", help="train a model on real data")
    kinds: Any = parser.add_subparsers(
        title="models", required=True, metavar="MODEL", action=_Kinds
    )
    kinds.choices = None  # vision:resnet18 is one, and no list of them is complete
    for kind in KINDS:
        child = import_module(f"edgeport.commands.train_{kind}").add(kinds)
        child.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


class _Kinds(Commands):
    """``vision:resnet18`` is ``vision resnet18``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        kind, *rest = values
        family, colon, name = kind.partition(":")
        given: Sequence[str] = [family, name, *rest] if colon else [kind, *rest]
        if given[0] not in KINDS:
            parser.error(f"no model is called {given[0]!r}: {', '.join(KINDS)}, vision:NAME")
        super().__call__(parser, namespace, given, option_string)
