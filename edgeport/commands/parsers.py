"""How commands are declared."""

import argparse
from typing import Any


class Commands(argparse._SubParsersAction):  # type: ignore[type-arg]  # not subscriptable at run time
    """Commands whose own ``--help`` begins with what the list of them says."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """Declare a command with ``help``."""
        said: str = options["help"]
        options.setdefault("description", f"{said[0].upper()}{said[1:]}.")
        parser: argparse.ArgumentParser = super().add_parser(name, **options)
        return parser
