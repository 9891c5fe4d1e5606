"""``edgeport sign``: vouch for a bundle with a key, whose kind decides how."""

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
        "openssl pkey -in k.pem -pubout -out k.pub. For OpenSSF's model-signing: "
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out k.pem",
    )
    parser.add_argument("bundle", type=Path, help="a bundle: NAME.edge")
    parser.add_argument(
        "--key",
        type=Path,
        required=True,
        metavar="FILE",
        help="private key, PEM: of Ed25519, which signs the manifest; or on P-256, P-384 or P-521, "
        "which signs the folder as OpenSSF's model-signing does",
    )
    parser.set_defaults(run=lambda a: run(SignArgs(a.bundle, a.key)))
    return parser


def run(args: SignArgs) -> int:
    """Check every file, sign, and say how to check the signature."""
    from edgeport.runtimes.bundles.keys import beside, to_public
    from edgeport.runtimes.bundles.manifest import FOLDER_SIGNATURE
    from edgeport.runtimes.bundles.packing import sign_bundle

    claim = sign_bundle(args.bundle, args.key)
    bundle, public = shlex.quote(str(args.bundle)), shlex.quote(str(beside(args.key)))
    show(f"signed {args.bundle} with the key {claim.key_name}, in {claim.file}")
    if not beside(args.key).is_file():
        show(f"next: {to_public(args.key)}")
    show(f"next: edgeport verify {bundle} --public-key {public}")
    if claim.file == FOLDER_SIGNATURE:
        signature = shlex.quote(str(args.bundle / claim.file))
        verify = "model_signing verify key"
        show(f"or:   {verify} {bundle} --signature {signature} --public_key {public}")
    return 0
