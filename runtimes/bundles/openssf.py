"""A folder that is signed as the OpenSSF's ``model_signing`` does it, with a key.

https://github.com/sigstore/model-transparency: a Sigstore bundle around a DSSE envelope around an
in-toto statement, which has the hash of every file. The library is asked whether all of that holds;
here the manifest that was read is tied to it, so that what is opened later is what was signed.
Sigstore's own way, where a certificate from the network takes the place of a key, is not taken.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from edgeport.runtimes import files
from edgeport.runtimes.errors import (
    BackendMissingError,
    FormatError,
    SignatureError,
    StorageError,
    UsageError,
    first_line,
)
from edgeport.runtimes.formats.strict_json import expect, fields, parse

from .container import Container, Folder, signature_in
from .keys import KEY_PAIR
from .manifest import FOLDER_SIGNATURE, MANIFEST, SIGNATURE

_LARGEST_BYTES: Final = 2**24
_DIFFERENCES: Final = {
    "added": r"Extra files found in model '.*?': ([^\"]*)\"",
    "missing": r"Missing files in model '.*?': ([^\"]*)\"",
    "changed": r"Hash mismatch for \\?'(.*?)\\?'",  # escaped, if a digest holds both quotes
}
DON_T_OPEN: Final = "don't open this bundle; ask whoever packed it"


@dataclass(frozen=True, slots=True)
class SignedFolder:
    """What lies in ``model.sig``.

    Attributes:
        data: The file.
        identity: Of the key that claims to have signed, as ``keys.identity``; ``None`` where it is
            a certificate. It proves nothing.
        payload: What is signed: JSON.
    """

    data: bytes
    identity: str | None
    payload: bytes


def sign_folder(folder: Path, key: Path) -> bytes:
    """Sign every file of a folder but the two signatures, which may come in any order.

    Args:
        folder: Of a bundle whose files were checked.
        key: A PEM file of a private key on P-256, P-384 or P-521, without a password.

    Returns:
        What to write to ``model.sig``.

    Raises:
        UsageError: It is one file, not a folder.
        FormatError: Something in it is a link, or no file.
        StorageError: A file cannot be read.
        BackendMissingError: ``model_signing`` is not installed.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is one file, and {key}, which is no Ed25519 key, signs folders",
            remedy=f"sign it with an Ed25519 key: {KEY_PAIR}; or sign the folder it was made from",
        )
    with _library(f"to sign with {key}, which is no Ed25519 key,"):
        from model_signing import hashing, signing
    files.remove_dead(folder / FOLDER_SIGNATURE)  # or it would be signed
    ignored = hashing.Config().set_ignored_paths(paths=[SIGNATURE, FOLDER_SIGNATURE])
    config = signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(ignored)
    with TemporaryDirectory(prefix="edgeport-") as scratch:
        made = Path(scratch, FOLDER_SIGNATURE)  # the library does not write whole or not at all
        try:
            config.sign(folder, made)
        except ValueError as e:
            raise FormatError(
                f"{folder} cannot be signed: {first_line(e)}", remedy="put a copy in its place"
            ) from e
        except OSError as e:
            raise _unreadable(folder, e) from e
        return made.read_bytes()


def read_folder_signature(held: Container) -> SignedFolder | None:
    """The signature of a folder, unproved; ``None`` if it has none.

    Raises:
        FormatError: What lies there is none.
        StorageError: It cannot be read.
    """
    if FOLDER_SIGNATURE not in held:
        return None
    what = "signature of model-signing"
    with signature_in(held, FOLDER_SIGNATURE, _LARGEST_BYTES, what) as data:
        # no other keys: the library knows other spellings, and might read them
        _, material, envelope = fields(
            parse(data), "mediaType", "verificationMaterial", "dsseEnvelope"
        )
        encoded, _, _ = fields(envelope, "payload", "payloadType", "signatures")
        payload = base64.b64decode(expect(str, encoded, "a payload"), validate=True)
        key = expect(dict, material, "a material").get("publicKey")
        if key is None:
            return SignedFolder(data, None, payload)
        hint = expect(str, expect(dict, key, "a key").get("hint"), "a hint")
        if not re.fullmatch("[0-9a-f]{64}", hint):
            raise ValueError(f"its key is {hint[:80]!r}, expected a sha256")
        return SignedFolder(data, hint, payload)


def require_signed_folder(
    signed: SignedFolder, held: Container, path: Path, manifest: bytes, key: Path
) -> None:
    """Demand that a signature is the key's, and that the folder is as it was signed, file by file.

    Args:
        signed: What lies in the bundle; its identity is the key's.
        held: What holds the bundle.
        path: Of the bundle.
        manifest: The bytes that were read, and that are used.
        key: PEM file of the public key, on P-256, P-384 or P-521.

    Raises:
        SignatureError: The signature is wrong; a file was changed, added or removed; or it is one
            file, not a folder.
        StorageError: A file cannot be read.
        BackendMissingError: ``model_signing`` is not installed.
    """
    if not isinstance(held, Folder):
        raise SignatureError(
            f"{path} is one file, and its {FOLDER_SIGNATURE} signs a folder",
            remedy="take it apart with unzip; or have the file signed with an Ed25519 key",
        )
    with _library(f"to check {FOLDER_SIGNATURE}"):
        from cryptography.exceptions import InvalidSignature
        from model_signing import hashing, verifying
    ignored = hashing.Config().set_ignored_paths(paths=[FOLDER_SIGNATURE])  # what it ignores comes
    config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    with TemporaryDirectory(prefix="edgeport-") as scratch:
        copy = Path(scratch, FOLDER_SIGNATURE)  # the bytes that were read, whatever lies there now
        copy.write_bytes(signed.data)
        try:
            config.set_hashing_config(ignored).verify(path, copy)
        except InvalidSignature as e:
            raise SignatureError(
                f"{held.place(FOLDER_SIGNATURE)} was not made with {key}, though it says so",
                remedy=DON_T_OPEN,
            ) from e
        except OSError as e:
            raise _unreadable(path, e) from e
        except Exception as e:  # ValueError of what differs; others of what was signed strangely
            raise _not_as_signed(path, key, _differences(e)) from e
    if _signed_hash(signed.payload) != hashlib.sha256(manifest).hexdigest():
        raise _not_as_signed(path, key, f"{MANIFEST} has no sha256 in it, or another")


def _signed_hash(payload: bytes) -> str | None:
    """Of the manifest; the payload was signed by who is trusted."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        for resource in parse(payload)["predicate"]["resources"]:
            if resource["name"] == MANIFEST and resource["algorithm"] == "sha256":
                return str(resource["digest"])
    return None


def _differences(error: Exception) -> str:
    """What the library says, without the hashes: they are the repr of Python's bytes."""
    text = first_line(error)
    found = {word: re.findall(pattern, text) for word, pattern in _DIFFERENCES.items()}
    return "; ".join(f"{word} {', '.join(names)}" for word, names in found.items() if names) or text


def _not_as_signed(path: Path, key: Path, what: str) -> SignatureError:
    return SignatureError(
        f"{path} is not as it was signed with the key of {key}: {what}", remedy=DON_T_OPEN
    )


def _unreadable(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot read {error.filename or folder}: {error.strerror or error}",
        remedy="check its permissions, and the disk",
    )


@contextlib.contextmanager
def _library(why: str) -> Iterator[None]:
    try:
        yield
    except ImportError as e:
        raise BackendMissingError(
            f"{why} edgeport needs {e.name or 'model_signing'!r}, which is not installed",
            remedy="pip install 'edgeport[model-signing]'; an Ed25519 key needs 'edgeport[sign]' "
            "alone",
        ) from e
