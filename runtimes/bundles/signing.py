"""Who vouches for a bundle: a detached Ed25519 signature over the bytes of its manifest.

The manifest holds the hash of every other file, so one signature covers all of them. It lies
beside the manifest, as JSON that names the key; RFC 8032 is the signature itself. A key on a NIST
curve signs the folder instead, in the format of the OpenSSF: ``openssf.py``.
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

from edgeport.runtimes.errors import MissingFileError, SignatureError, UsageError
from edgeport.runtimes.formats.strict_json import expect, fields, parse

from .container import Container, reading, signature_in
from .keys import identity, read_private_key, read_public_key
from .manifest import FOLDER_SIGNATURE, SIGNATURE
from .openssf import (
    DON_T_OPEN,
    SignedFolder,
    read_folder_signature,
    require_signed_folder,
    sign_folder,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TRUSTED_KEYS: Final = "EDGEPORT_TRUSTED_KEYS"
"""Files of public keys, separated as in PATH. Where it is set, nothing unsigned is opened."""

_ALGORITHM: Final = "ed25519"
_LARGEST_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Claim:
    """Who says to have signed; whether that holds, ``require_signature`` tells.

    Attributes:
        file: ``"manifest.sig"`` or ``"model.sig"``.
        key_name: A short name for the key: the beginning of its identity. ``None`` where a
            certificate takes its place.
    """

    file: str
    key_name: str | None


@dataclass(frozen=True, slots=True)
class Signed:
    """What lies in ``manifest.sig``.

    Attributes:
        data: The file.
        public_key: 32 bytes. It says who claims to have signed, and proves nothing.
        signature: 64 bytes.
    """

    data: bytes
    public_key: bytes
    signature: bytes

    @property
    def identity(self) -> str:
        """What names the key, as ``keys.identity``."""
        return hashlib.sha256(self.public_key).hexdigest()


def sign(path: Path, manifest: bytes, key: Path) -> tuple[bytes, Claim]:
    """Sign a bundle with a key, whose kind decides how.

    Args:
        path: Of the bundle, whose files were checked.
        manifest: As it is in the bundle.
        key: A PEM file of a private key, without a password: of Ed25519, which signs the manifest;
            or on P-256, P-384 or P-521, which signs the folder as OpenSSF's model-signing does.

    Returns:
        What to write, and where.

    Raises:
        MissingFileError: There is no such key.
        FormatError: The file holds no such key, or the folder something that cannot be signed.
        UsageError: The key signs folders, and the bundle is one file.
        StorageError: A file cannot be read.
        BackendMissingError: A library is not installed.
    """
    private = read_private_key(key)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    name = _short(identity(private.public_key()))
    if not isinstance(private, Ed25519PrivateKey):
        return sign_folder(path, key), Claim(FOLDER_SIGNATURE, name)
    public = private.public_key().public_bytes_raw()
    value = {
        "algorithm": _ALGORITHM,
        "public_key": base64.b64encode(public).decode(),
        "signature": base64.b64encode(private.sign(manifest)).decode(),
    }
    return (json.dumps(value, indent=2) + "\n").encode(), Claim(SIGNATURE, name)


def read_signature(held: Container) -> Signed | None:
    """The signature of a bundle, unproved; ``None`` if it has none.

    Raises:
        FormatError: What lies there is none.
        StorageError: It cannot be read.
    """
    if SIGNATURE not in held:
        return None
    with signature_in(held, SIGNATURE, _LARGEST_BYTES, "signature") as data:
        algorithm, public_key, signature = fields(
            parse(data), "algorithm", "public_key", "signature"
        )
        if algorithm != _ALGORITHM:
            raise ValueError(f"its algorithm is {str(algorithm)[:40]!r}, expected {_ALGORITHM!r}")
        return Signed(data, _decoded(public_key, 32), _decoded(signature, 64))


def claims(held: Container) -> tuple[Claim, ...]:
    """Who says to have signed a bundle.

    Raises:
        FormatError: What lies there is no signature.
        StorageError: It cannot be read.
    """
    return tuple(map(_claim, _found(held)))


def require_signature(held: Container, path: Path, manifest: bytes, keys: Sequence[Path]) -> Claim:
    """Demand that one of the keys signed the manifest, or the folder with it.

    Args:
        held: What holds the bundle.
        path: Of the bundle.
        manifest: The bytes that were read, and that are used.
        keys: PEM files of public keys, of Ed25519 or on P-256, P-384 or P-521.

    Returns:
        The signature that holds: the first one by one of the keys.

    Raises:
        SignatureError: The signature is missing, wrong, or by another key; or the folder is not as
            it was signed.
        UsageError: There are no keys.
        MissingFileError: A file of a key is not there.
        FormatError: A file holds no such key, or the signature is none.
        StorageError: A file cannot be read.
        BackendMissingError: A library is not installed.
    """
    if not keys:
        raise UsageError(
            "a signature is demanded, and no key is trusted",
            remedy=f"set {TRUSTED_KEYS}=k.pub, or pass --public-key k.pub",
        )
    read = [(file, read_public_key(file)) for file in keys]
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    of_manifests = {identity(key): key for _, key in read if isinstance(key, Ed25519PublicKey)}
    of_folders = {
        identity(key): file for file, key in read if not isinstance(key, Ed25519PublicKey)
    }
    found = _found(held)
    if not found:
        raise SignatureError(
            f"{path} is not signed, as {TRUSTED_KEYS} or --public-key demands",
            remedy="get it from whoever packed it, signed: edgeport sign NAME.edge --key k.pem",
        )
    for signed in found:
        if isinstance(signed, Signed):
            if signed.identity in of_manifests:
                _require_signed(signed, path, manifest, of_manifests[signed.identity])
                return _claim(signed)
        elif signed.identity in of_folders:
            require_signed_folder(signed, held, path, manifest, of_folders[signed.identity])
            return _claim(signed)
    raise _untrusted(path, list(map(_claim, found)), [*of_manifests, *of_folders])


def trusted_keys() -> list[Path]:
    """The files that ``EDGEPORT_TRUSTED_KEYS`` names.

    Raises:
        MissingFileError: One of them is not there.
        StorageError: One of them cannot be looked for.
    """
    keys = [Path(name) for name in os.environ.get(TRUSTED_KEYS, "").split(os.pathsep) if name]
    for key in keys:
        with reading(key):
            if not key.is_file():
                raise MissingFileError(
                    f"{TRUSTED_KEYS} names {key}, which is no file",
                    remedy=f"check the path; between several stands {os.pathsep!r}",
                )
    return keys


def _found(held: Container) -> list[Signed | SignedFolder]:
    found = (read_signature(held), read_folder_signature(held))
    return [signed for signed in found if signed is not None]


def _claim(signed: Signed | SignedFolder) -> Claim:
    file = SIGNATURE if isinstance(signed, Signed) else FOLDER_SIGNATURE
    return Claim(file, None if signed.identity is None else _short(signed.identity))


def _short(identity: str) -> str:
    return identity[:16]


def _require_signed(signed: Signed, path: Path, manifest: bytes, key: Ed25519PublicKey) -> None:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signed.signature, manifest)
    except InvalidSignature as e:
        raise SignatureError(
            f"{path}: the manifest, or its signature, was changed after it was signed with the "
            f"key {_short(signed.identity)}",
            remedy=DON_T_OPEN,
        ) from e


def _untrusted(path: Path, found: Sequence[Claim], trusted: Sequence[str]) -> SignatureError:
    names = [claim.key_name for claim in found if claim.key_name]
    if not names:
        return SignatureError(
            f"{path} is signed with a certificate or through Sigstore, not with a key",
            remedy="check it with model_signing verify, before you open it without a key; or have "
            "it signed with a key: edgeport sign NAME.edge --key k.pem",
        )
    return SignatureError(
        f"{path} is signed with the key {' and the key '.join(names)}, which is not trusted here "
        f"(trusted: {', '.join(map(_short, trusted))})",
        remedy=f"pass the public key of whoever signed it; else {DON_T_OPEN}",
    )


def _decoded(text: object, size: int) -> bytes:
    try:
        data = base64.b64decode(expect(str, text, "a value"), validate=True)
    except binascii.Error as e:
        raise ValueError(f"a value is not base64: {e}") from e
    if len(data) != size:
        raise ValueError(f"a value has {len(data)} bytes, expected {size}")
    return data
