"""Options of the commands that open bundles: whose signature is demanded, what they may use."""

import argparse
from pathlib import Path

from edgeport.commands.options import positive
from edgeport.runtimes.safety.isolation import Limits

__all__ = ["Limits", "add_trust_options", "limits", "trusted"]


def add_trust_options(parser: argparse.ArgumentParser, besides: str = "") -> None:
    """Declare ``--public-key``, ``--require-signature`` and ``--time-limit``.

    Args:
        parser: The command's.
        besides: What else the limit is of.
    """
    parser.add_argument(
        "--public-key",
        type=Path,
        action="append",
        metavar="FILE",
        help="demand a signature by this key; repeat: by one of them",
    )
    parser.add_argument(
        "--require-signature",
        action="store_true",
        help="demand a signature by a key of EDGEPORT_TRUSTED_KEYS",
    )
    parser.add_argument(
        "--time-limit",
        type=positive,
        metavar="SECONDS",
        help="of the process in which a backend opens and proves a bundle (default: 600)" + besides,
    )


def trusted(arguments: argparse.Namespace) -> tuple[Path, ...] | None:
    """The keys, one of which must have signed; ``None`` to leave it to the environment."""
    keys: list[Path] = list(arguments.public_key or ())
    if arguments.require_signature:
        from edgeport.runtimes.bundles.signing import trusted_keys

        keys += trusted_keys()
    return tuple(keys) if keys or arguments.require_signature else None


def limits(arguments: argparse.Namespace) -> Limits:
    """What the process of one backend may use."""
    return Limits() if arguments.time_limit is None else Limits(time_s=arguments.time_limit)
