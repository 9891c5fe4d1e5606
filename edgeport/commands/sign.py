"""``edgeport sign``: vouch for a bundle with an Ed25519 key."""

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path

from edgeport.commands.terminal import show


@dataclass(frozen=True, slots=True)
class SignArgs:
    """What ``edgeport sign`` was asked."""

    bundle: Path
    key: Path


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "sign",
        help="vouch for a bundle with your key",
        epilog="make a key pair: openssl genpkey -algorithm ed25519 -out k.pem; "
        "openssl pkey -in k.pem -pubout -out k.pub",
    )
    parser.add_argument("bundle", type=Path, help="a bundle: NAME.edge")
    parser.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="private key, PEM, Ed25519"
    )
    parser.set_defaults(run=lambda a: run(SignArgs(a.bundle, a.key)))
    return parser


def run(args: SignArgs) -> int:
    """Check every file, sign, and say how to check the signature."""
    from edgeport.runtimes.packing import sign_bundle

    name = sign_bundle(args.bundle, args.key)
    show(f"signed {args.bundle} with the key {name}")
    show(f"next: edgeport verify {shlex.quote(str(args.bundle))} --public-key k.pub")
    return 0
