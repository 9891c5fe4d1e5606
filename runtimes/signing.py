"""Who vouches for a bundle: a detached Ed25519 signature over the bytes of its manifest.

The manifest holds the hash of every other file, so one signature covers all of them. It lies
beside the manifest, as JSON that names the key; RFC 8032 is the signature itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .container import Container, reading
from .errors import BackendMissingError, FormatError, MissingFileError, SignatureError, UsageError
from .manifest import SIGNATURE
from .strict_json import expect, fields, parse

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

TRUSTED_KEYS: Final = "EDGEPORT_TRUSTED_KEYS"
"""Files of public keys, separated as in PATH. Where it is set, nothing unsigned is opened."""

_ALGORITHM: Final = "ed25519"
_LARGEST_BYTES: Final = 4096
_KEY_PAIR: Final = (
    "openssl genpkey -algorithm ed25519 -out k.pem; openssl pkey -in k.pem -pubout -out k.pub"
)
_DON_T_OPEN: Final = "don't open this bundle; ask whoever packed it"


@dataclass(frozen=True, slots=True)
class Signed:
    """What lies beside a manifest.

    Attributes:
        public_key: 32 bytes. It says who claims to have signed, and proves nothing.
        signature: 64 bytes.
    """

    public_key: bytes
    signature: bytes

    @property
    def key_name(self) -> str:
        """A short name for the key: the beginning of its sha256."""
        return key_name(self.public_key)


def key_name(public_key: bytes) -> str:
    """A short name for a key: the beginning of the sha256 of its 32 bytes."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def sign(manifest: bytes, key: Path) -> tuple[bytes, str]:
    """Sign the bytes of a manifest.

    Args:
        manifest: As they are in the bundle.
        key: A PEM file of an Ed25519 private key, without a password.

    Returns:
        What to write to ``manifest.sig``, and the short name of the key.

    Raises:
        MissingFileError: There is no such file.
        FormatError: It holds no such key.
        StorageError: It cannot be read.
        BackendMissingError: ``cryptography`` is not installed.
    """
    private = _private_key(key)
    public = private.public_key().public_bytes_raw()
    value = {
        "algorithm": _ALGORITHM,
        "public_key": base64.b64encode(public).decode(),
        "signature": base64.b64encode(private.sign(manifest)).decode(),
    }
    return (json.dumps(value, indent=2) + "\n").encode(), key_name(public)


def read_signature(held: Container) -> Signed | None:
    """The signature of a bundle, unproved; ``None`` if it has none.

    Raises:
        FormatError: What lies there is none.
        StorageError: It cannot be read.
    """
    if SIGNATURE not in held:
        return None
    place = held.place(SIGNATURE)
    with held.open(SIGNATURE) as (file, size_bytes), reading(place):
        data = file.read(min(size_bytes, _LARGEST_BYTES + 1))
    try:
        if size_bytes > _LARGEST_BYTES:
            raise ValueError(f"it has {size_bytes} bytes")
        algorithm, public_key, signature = fields(
            parse(data), "algorithm", "public_key", "signature"
        )
        if algorithm != _ALGORITHM:
            raise ValueError(f"its algorithm is {str(algorithm)[:40]!r}, expected {_ALGORITHM!r}")
        return Signed(_decoded(public_key, 32), _decoded(signature, 64))
    except ValueError as e:
        raise FormatError(
            f"{place} is no signature: {e}", remedy="sign the bundle again, or remove this file"
        ) from e


def require_signature(held: Container, path: Path, manifest: bytes, keys: Sequence[Path]) -> Path:
    """Demand that one of the keys signed the manifest.

    Args:
        held: What holds the bundle.
        path: Of the bundle.
        manifest: The bytes that were read, and that are used.
        keys: PEM files of Ed25519 public keys.

    Returns:
        The file of the key that signed.

    Raises:
        SignatureError: The signature is missing, wrong, or by another key.
        UsageError: There are no keys.
        MissingFileError: A file of a key is not there.
        FormatError: A file holds no such key, or the signature is none.
        StorageError: A file cannot be read.
        BackendMissingError: ``cryptography`` is not installed.
    """
    if not keys:
        raise UsageError(
            "a signature is demanded, and no key is trusted",
            remedy=f"set {TRUSTED_KEYS}=k.pub, or pass --public-key k.pub",
        )
    trusted = {_raw(key := _public_key(file)): (file, key) for file in keys}
    signed = read_signature(held)
    if signed is None:
        raise SignatureError(
            f"{path} is not signed", remedy="sign it: edgeport sign NAME.edge --key k.pem"
        )
    if signed.public_key not in trusted:
        names = ", ".join(key_name(raw) for raw in trusted)
        raise SignatureError(
            f"{path} is signed with the key {signed.key_name}, which is not trusted here "
            f"(trusted: {names})",
            remedy=f"pass the public key of whoever signed it; else {_DON_T_OPEN}",
        )
    file, key = trusted[signed.public_key]
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signed.signature, manifest)
    except InvalidSignature as e:
        raise SignatureError(
            f"{path}: the manifest, or its signature, was changed after it was signed with the "
            f"key {signed.key_name}",
            remedy=_DON_T_OPEN,
        ) from e
    return file


def trusted_keys() -> list[Path]:
    """The files that ``EDGEPORT_TRUSTED_KEYS`` names."""
    return [Path(name) for name in os.environ.get(TRUSTED_KEYS, "").split(os.pathsep) if name]


def _decoded(text: object, size: int) -> bytes:
    try:
        data = base64.b64decode(expect(str, text, "a value"), validate=True)
    except binascii.Error as e:
        raise ValueError(f"a value is not base64: {e}") from e
    if len(data) != size:
        raise ValueError(f"a value has {len(data)} bytes, expected {size}")
    return data


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes_raw()


def _private_key(file: Path) -> Ed25519PrivateKey:
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read_key(file)
    try:
        key = load_pem_private_key(data, None)
    except TypeError as e:  # so it says that there is a password
        raise FormatError(
            f"{file} is locked with a password",
            remedy="take it off for signing: openssl pkey -in k.pem -out unlocked.pem",
        ) from e
    except Exception as e:  # ValueError, UnsupportedAlgorithm, whatever a damaged key raises
        raise _no_key(file, "private") from e
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(file, "private")
    return key


def _public_key(file: Path) -> Ed25519PublicKey:
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read_key(file)
    try:
        key = load_pem_public_key(data)
    except Exception as e:  # as above
        raise _no_key(file, "public") from e
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(file, "public")
    return key


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401  # whether it is there
    except ImportError as e:
        raise BackendMissingError(
            "signatures need 'cryptography', which is not installed",
            remedy="pip install 'edgeport[sign]'",
        ) from e


def _read_key(file: Path) -> bytes:
    with reading(file):
        if not file.is_file():
            raise MissingFileError(f"no such key: {file}", remedy="check the path")
        with file.open("rb") as opened:
            return opened.read(_LARGEST_BYTES)


def _no_key(file: Path, kind: str) -> FormatError:
    return FormatError(
        f"{file} is no {kind} key of Ed25519 in PEM form", remedy=f"make a pair: {_KEY_PAIR}"
    )
