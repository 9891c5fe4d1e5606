"""Options that several commands share, and how their values are read."""

import argparse


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Declare ``--backend`` and ``--threads``."""
    parser.add_argument(
        "--backend", type=names, metavar="NAME[,NAME]", help="only these (default: all that fit)"
    )
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads in one operator (default: all CPUs)"
    )


def names(text: str) -> tuple[str, ...]:
    """Split a comma-separated list."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise argparse.ArgumentTypeError("expected NAME[,NAME...]")
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} names something twice")
    return found


def positive(text: str) -> int:
    """Read a number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)
