"""Keys in PEM files: Ed25519 signs a manifest; the NIST curves sign a folder, as OpenSSF does."""

from __future__ import annotations

import hashlib
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from edgeport.runtimes.errors import BackendMissingError, FormatError, MissingFileError

from .container import reading

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    PrivateKey: TypeAlias = Ed25519PrivateKey | EllipticCurvePrivateKey
    PublicKey: TypeAlias = Ed25519PublicKey | EllipticCurvePublicKey

KEY_PAIR: Final = (
    "openssl genpkey -algorithm ed25519 -out new.pem; openssl pkey -in new.pem -pubout -out new.pub"
)
"""A remedy that overwrites no key of those who paste it: the manual's are called k.pem."""
CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}

_LARGEST_BYTES: Final = 4096


def read_private_key(file: Path) -> PrivateKey:
    """Read a private key.

    Args:
        file: PEM, without a password.

    Raises:
        MissingFileError: There is no such file.
        FormatError: It holds no such key.
        StorageError: It cannot be read.
        BackendMissingError: ``cryptography`` is not installed.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(file)
    try:
        key = load_pem_private_key(data, None)
    except TypeError as e:  # so it says that there is a password
        raise FormatError(
            f"{file} is locked with a password",
            remedy=f"take it off for signing: openssl pkey -in {quote(str(file))} -out new.pem",
        ) from e
    except Exception as e:  # ValueError, UnsupportedAlgorithm, whatever a damaged key raises
        _refuse(file, "private", data, e)
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in CURVES:
        return key
    return key if isinstance(key, Ed25519PrivateKey) else _refuse(file, "private", data)


def read_public_key(file: Path) -> PublicKey:
    """Read a public key.

    Args:
        file: PEM.

    Raises:
        EdgeportError: As ``read_private_key``.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read(file)
    try:
        key = load_pem_public_key(data)
    except Exception as e:  # as above
        _refuse(file, "public", data, e)
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in CURVES:
        return key
    return key if isinstance(key, Ed25519PublicKey) else _refuse(file, "public", data)


def identity(key: PublicKey) -> str:
    """What names a key: a sha256, in hexadecimal digits.

    Of the 32 bytes of an Ed25519 key; else of its PEM text, which is the hint in a signature of
    model-signing.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if isinstance(key, Ed25519PublicKey):
        return hashlib.sha256(key.public_bytes_raw()).hexdigest()
    text = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(text).hexdigest()


def beside(private: Path) -> Path:
    """Where the public key of a private one lies, if it is where the manual puts it."""
    public = private.with_suffix(".pub")
    return public if public != private else private.with_name(f"{private.name}.pub")


def to_public(private: Path) -> str:
    """The command that makes it."""
    public = quote(str(beside(private)))
    return f"openssl pkey -in {quote(str(private))} -pubout -out {public}"


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401  # whether it is there
    except ImportError as e:
        raise BackendMissingError(
            "signatures need 'cryptography', which is not installed",
            remedy="pip install 'edgeport[sign]'",
        ) from e


def _read(file: Path) -> bytes:
    with reading(file):
        if not file.is_file():
            raise MissingFileError(f"no such key: {file}", remedy="check the path")
        with file.open("rb") as opened:
            return opened.read(_LARGEST_BYTES)


def _refuse(file: Path, kind: str, data: bytes, cause: Exception | None = None) -> NoReturn:
    problem = f"{file} is no {kind} key in PEM form, of Ed25519 or on {', '.join(CURVES.values())}"
    remedy = f"make a pair: {KEY_PAIR}"
    if kind == "private" and b" PUBLIC KEY-----" in data:
        problem, remedy = f"{file} is a public key", "sign with the private one that it was made of"
    elif kind == "public" and b"PRIVATE KEY-----" in data:
        problem = f"{file} is a private key, which only who signs needs"
        remedy = f"take the public one out of it: {to_public(file)}"
    raise FormatError(problem, remedy=remedy) from cause
