import base64
import builtins
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeport.runtimes import (
    BackendMissingError,
    Bundle,
    FormatError,
    IntegrityError,
    MissingFileError,
    SignatureError,
    UsageError,
)
from edgeport.runtimes.bundles.packing import pack, sign_bundle
from edgeport.runtimes.bundles.signing import TRUSTED_KEYS, Claim, claims


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key pairs made by OpenSSL, as a user makes them: ours.pem, ours.pub, theirs..., rsa..."""
    folder = tmp_path_factory.mktemp("keys")
    commands = [
        *(
            f"openssl genpkey -algorithm ed25519 -out {name}.pem && "
            f"openssl pkey -in {name}.pem -pubout -out {name}.pub"
            for name in ("ours", "theirs")
        ),
        "openssl genpkey -algorithm RSA -out rsa.pem",
        "openssl pkey -in rsa.pem -pubout -out rsa.pub",
        "openssl pkey -in ours.pem -aes256 -passout pass:x -out locked.pem",
    ]
    for command in commands:
        subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True)
    (folder / "junk.pem").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    (folder / "junk.txt").write_text("junk")
    return folder


@pytest.fixture(params=["folder", "zip"])
def bundle(request: pytest.FixtureRequest, packed: Path) -> Path:
    if request.param == "folder":
        return packed
    pack(packed, packed.with_name("one.edge"), zipped=True)
    return packed.with_name("one.edge")


def test_who_signed_is_demanded(bundle: Path, keys: Path) -> None:
    with pytest.raises(
        SignatureError, match=r"edge is not signed, as .* demands\n  fix: get it from "
    ):
        Bundle.read(bundle, trusted=[keys / "ours.pub"])
    sign_bundle(bundle, keys / "ours.pem")
    assert Bundle.read(bundle, trusted=[keys / "theirs.pub", keys / "ours.pub"]).vouched
    assert not Bundle.read(bundle).vouched
    Bundle.read(bundle).check_files()
    with pytest.raises(
        SignatureError,
        match=r"edge is signed with the key [0-9a-f]{16}, which is not trusted here \(trusted: "
        r"[0-9a-f]{16}\)\n  fix: pass the public key of whoever signed it; else don't open",
    ):
        Bundle.read(bundle, trusted=[keys / "theirs.pub"])
    sign_bundle(bundle, keys / "theirs.pem")  # again, by another
    assert Bundle.read(bundle, trusted=[keys / "theirs.pub"]).vouched


def test_the_environment_demands_it(
    packed: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRUSTED_KEYS, f"{keys / 'theirs.pub'}:{keys / 'ours.pub'}")
    with pytest.raises(SignatureError, match="is not signed"):
        Bundle.read(packed)
    sign_bundle(packed, keys / "ours.pem")
    assert Bundle.read(packed).vouched
    monkeypatch.setenv(TRUSTED_KEYS, str(keys / "gone.pub"))
    with pytest.raises(
        MissingFileError,
        match=r"EDGEPORT_TRUSTED_KEYS names .*gone\.pub, which is no file\n  fix: ch",
    ):
        Bundle.read(packed)
    with pytest.raises(MissingFileError, match=r"no such key: .*gone\.pub\n  fix: check the path"):
        Bundle.read(packed, trusted=[keys / "gone.pub"])
    with pytest.raises(
        UsageError, match=r"a signature is demanded, and no key is trusted\n  fix: set EDGEPORT_TR"
    ):
        Bundle.read(packed, trusted=[])


def test_a_changed_manifest(packed: Path, keys: Path) -> None:
    sign_bundle(packed, keys / "ours.pem")
    file = packed / "manifest.json"
    file.write_text(file.read_text().replace('"edgeport": "0"', '"edgeport": "1"'))
    with pytest.raises(
        SignatureError,
        match="the manifest, or its signature, was changed after it was signed with the key",
    ):
        Bundle.read(packed, trusted=[keys / "ours.pub"])


def test_a_changed_file_is_found_by_its_hash(packed: Path, keys: Path) -> None:
    sign_bundle(packed, keys / "ours.pem")
    with (packed / "model.onnx").open("ab") as file:
        file.write(b"x")
    bundle = Bundle.read(packed, trusted=[keys / "ours.pub"])
    with pytest.raises(IntegrityError, match=r"model\.onnx is not the file that was packed"):
        bundle.check_files()
    with pytest.raises(IntegrityError, match=r"model\.onnx is not the file that was packed"):
        sign_bundle(packed, keys / "ours.pem")


def test_openssl_checks_it_too(packed: Path, keys: Path, tmp_path: Path) -> None:
    """With the commands of docs/bundle.md."""
    sign_bundle(packed, keys / "ours.pem")
    signature = json.loads((packed / "manifest.sig").read_text())["signature"]
    (tmp_path / "raw").write_bytes(base64.b64decode(signature))
    command = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-rawin",
        "-pubin",
        "-inkey",
        str(keys / "ours.pub"),
    ]
    command += ["-in", str(packed / "manifest.json"), "-sigfile", str(tmp_path / "raw")]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Signature Verified Successfully" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: b"", "Expecting value"),
        (lambda _: b"[]", r"a value is \[\], expected an object"),
        (lambda _: bytes(10_000), "it has 10000 bytes"),
        (lambda d: d.replace(b"ed25519", b"rsa"), "its algorithm is 'rsa', expected 'ed25519'"),
        (lambda d: d.replace(b'"signature": "', b'"signature": "!'), "a value is not base64"),
        (
            lambda d: d.replace(b'"signature": "', b'"signature": "AAAA'),
            "has 67 bytes, expected 64",
        ),
        (lambda d: d.replace(b'"public_key"', b'"key"'), "'public_key' is missing"),
    ],
)
def test_what_is_no_signature(
    packed: Path, keys: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    sign_bundle(packed, keys / "ours.pem")
    file = packed / "manifest.sig"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(FormatError, match=rf"manifest\.sig is no signature: .*{message}"):
        Bundle.read(packed, trusted=[keys / "ours.pub"])


def test_another_signature_of_the_same_key(packed: Path, keys: Path) -> None:
    sign_bundle(packed, keys / "ours.pem")
    file = packed / "manifest.sig"
    value = json.loads(file.read_text())
    value["signature"] = "A" * 86 + "=="
    file.write_text(json.dumps(value))
    with pytest.raises(SignatureError, match="or its signature, was changed after it was signed"):
        Bundle.read(packed, trusted=[keys / "ours.pub"])


@pytest.mark.parametrize("name", ["rsa.pem", "junk.txt", "."])
def test_what_is_no_private_key(packed: Path, keys: Path, name: str) -> None:
    kind = MissingFileError if name == "." else FormatError
    with pytest.raises(
        kind, match=r"is no private key in PEM form, of Ed25519 or on P-256, P-384, P-521|no suc"
    ):
        sign_bundle(packed, keys / name)
    assert "manifest.sig" not in Bundle.read(packed).files


def test_a_key_with_a_password(packed: Path, keys: Path) -> None:
    with pytest.raises(
        FormatError, match=r"locked\.pem is locked with a password\n  fix: take it off for signing"
    ) as caught:
        sign_bundle(packed, keys / "locked.pem")
    assert f"openssl pkey -in {keys / 'locked.pem'} -out new.pem" in caught.value.remedy


@pytest.mark.parametrize("name", ["rsa.pub", "junk.pem"])
def test_what_is_no_public_key(packed: Path, keys: Path, name: str) -> None:
    with pytest.raises(
        FormatError, match="is no public key in PEM form, of Ed25519 or on P-256, P-"
    ) as caught:
        Bundle.read(packed, trusted=[keys / name])
    assert "make a pair: openssl genpkey -algorithm ed25519 -out new.pem" in caught.value.remedy


def test_a_key_of_the_other_kind(packed: Path, keys: Path) -> None:
    with pytest.raises(
        FormatError, match=r"ours\.pub is a public key\n  fix: sign with the private"
    ):
        sign_bundle(packed, keys / "ours.pub")
    with pytest.raises(FormatError, match=r"ours\.pem is a private key, which only") as caught:
        Bundle.read(packed, trusted=[keys / "ours.pem"])
    made = f"openssl pkey -in {keys / 'ours.pem'} -pubout -out {keys / 'ours.pub'}"
    assert caught.value.remedy == f"take the public one out of it: {made}"


def test_without_cryptography(packed: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(builtins, "__import__", missing)
    for call in (
        lambda: sign_bundle(packed, keys / "ours.pem"),
        lambda: Bundle.read(packed, trusted=[keys / "ours.pub"]),
    ):
        with pytest.raises(BackendMissingError, match=r"not installed\n  fix: .*edgeport\[sign\]"):
            call()


def test_it_says_who_claims_to_have_signed(packed: Path, keys: Path) -> None:
    assert claims(Bundle.read(packed).files) == ()
    claim = sign_bundle(packed, keys / "ours.pem")
    assert claim == Claim("manifest.sig", claim.key_name)
    assert claims(Bundle.read(packed).files) == (claim,)
