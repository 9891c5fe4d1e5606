"""How commands are declared."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A mistake is told in two lines, as all others are, and not behind all that there is."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with what was typed, and end."""
        self.exit(2, f"{self.prog}: {message}\n  fix: see {self.prog} --help\n")


class Commands(argparse._SubParsersAction):  # type: ignore[type-arg]  # not subscriptable at run time
    """Commands whose own ``--help`` begins with what the list of them says."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """Declare a command with ``help``."""
        said: str = options["help"]
        options.setdefault("description", f"{said[0].upper()}{said[1:]}.")
        parser: argparse.ArgumentParser = super().add_parser(name, **options)
        return parser

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Let the command itself say what it does not know: argparse leaves it to the outermost."""
        super().__call__(parser, namespace, values, option_string)
        unknown = getattr(namespace, argparse._UNRECOGNIZED_ARGS_ATTR, None)
        if unknown and values:
            self._name_parser_map[values[0]].error(f"unrecognized arguments: {' '.join(unknown)}")
