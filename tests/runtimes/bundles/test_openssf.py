"""Folders that are signed as the OpenSSF's ``model_signing`` does it, by us and by the tool."""

import builtins
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeport.runtimes import (
    BackendMissingError,
    Bundle,
    FormatError,
    IntegrityError,
    SignatureError,
    StorageError,
    UsageError,
)
from edgeport.runtimes.bundles import openssf
from edgeport.runtimes.bundles.manifest import FOLDER_SIGNATURE
from edgeport.runtimes.bundles.packing import keep_evidence, pack, sign_bundle
from edgeport.runtimes.bundles.signing import Claim, claims

pytest.importorskip("model_signing", reason="the extra 'model-signing' is not installed")

from model_signing import hashing, signing, verifying  # where it is there


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key pairs made by OpenSSL: ours and theirs on P-256, ed of Ed25519, odd on another curve."""
    folder = tmp_path_factory.mktemp("keys")
    kinds = {
        **dict.fromkeys(("ours", "theirs"), "EC -pkeyopt ec_paramgen_curve:P-256"),
        "wide": "EC -pkeyopt ec_paramgen_curve:P-384",
        "odd": "EC -pkeyopt ec_paramgen_curve:secp256k1",
        "ed": "ed25519",
    }
    for name, kind in kinds.items():
        for command in (
            f"openssl genpkey -algorithm {kind} -out {name}.pem",
            f"openssl pkey -in {name}.pem -pubout -out {name}.pub",
        ):
            subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


def tool(*command: object) -> subprocess.CompletedProcess[str]:
    """The tool itself, as a user types it."""
    return subprocess.run(
        [sys.executable, "-m", "model_signing", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
    )


def signed_by_library(folder: Path, key: Path) -> None:
    """What the tool does, without the seconds that it takes to start."""
    place = folder / FOLDER_SIGNATURE
    ignored = hashing.Config().set_ignored_paths(paths=[place.name])
    config = signing.Config().use_elliptic_key_signer(private_key=key)
    config.set_hashing_config(ignored).sign(folder, place)


@pytest.fixture
def theirs(packed: Path, keys: Path) -> Path:
    """A bundle that somebody signed with the library."""
    signed_by_library(packed, keys / "ours.pem")
    return packed


def read(path: Path, *keys: Path) -> Bundle:
    return Bundle.read(path, trusted=keys)


def test_the_tool_takes_what_we_signed(packed: Path, keys: Path) -> None:
    claim = sign_bundle(packed, keys / "ours.pem")
    assert claim == Claim("model.sig", claim.key_name)
    assert claims(Bundle.read(packed).files) == (claim,)
    assert read(packed, keys / "ours.pub").vouched
    sign_bundle(packed, keys / "ed.pem")  # the other signature spoils nothing
    command = ["verify", "key", packed, "--signature", packed / "model.sig", "--public_key"]
    right = tool(*command, keys / "ours.pub")
    assert right.returncode == 0, right.stderr
    assert "Verification succeeded" in right.stdout
    assert tool(*command, keys / "theirs.pub").returncode == 1


def test_we_take_what_the_tool_signed(packed: Path, keys: Path) -> None:
    command = ["sign", "key", packed, "--signature", packed / "model.sig", "--private_key"]
    made = tool(*command, keys / "ours.pem")
    assert made.returncode == 0, made.stderr
    bundle = read(packed, keys / "theirs.pub", keys / "ours.pub")
    assert bundle.vouched
    bundle.check_files()


def test_a_signature_that_was_put_in_later(packed: Path, keys: Path, tmp_path: Path) -> None:
    """The tool writes it beside the folder if nobody says where."""
    config = signing.Config().use_elliptic_key_signer(private_key=keys / "wide.pem")
    config.sign(packed, tmp_path / "model.sig")
    shutil.move(tmp_path / "model.sig", packed)
    assert read(packed, keys / "wide.pub").vouched


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda b: (b / "more.txt").write_text("x"), r"added more\.txt"),
        (lambda b: (b / "model.null").unlink(), r"missing model\.null"),
        (lambda b: (b / "model.null").write_text("x"), r"changed model\.null"),
        (
            lambda b: (b / "manifest.json").write_text(
                (b / "manifest.json").read_text().replace('"edgeport": "0"', '"edgeport": "1"')
            ),
            r"changed manifest\.json",
        ),
        (
            lambda b: [(b / name).write_text("x") for name in ("more.txt", "model.null")],
            r"added more\.txt; changed model\.null",
        ),
        (
            lambda b: (b / "link").symlink_to("model.null"),
            r"Cannot use .*link' because it is a symlink.*",
        ),
    ],
)
def test_what_was_changed_is_told(
    theirs: Path, keys: Path, change: Callable[[Path], object], what: str
) -> None:
    assert read(theirs, keys / "ours.pub").vouched
    change(theirs)
    with pytest.raises(
        SignatureError,
        match=rf"mlp\.edge is not as it was signed with the key of .*ours\.pub: {what}"
        r"\n  fix: don't open this bundle",
    ):
        read(theirs, keys / "ours.pub")


def test_somebody_else_signed(theirs: Path, keys: Path) -> None:
    for key in ("theirs.pub", "ed.pub"):
        with pytest.raises(
            SignatureError, match=r"is signed with the key [0-9a-f]{16}, which is not trusted here"
        ):
            read(theirs, keys / key)
    sign_bundle(theirs, keys / "ed.pem")
    assert read(theirs, keys / "ed.pub").vouched
    with pytest.raises(  # the tool signed no more than was there
        SignatureError, match=r"added manifest\.sig"
    ):
        read(theirs, keys / "ours.pub")


def test_who_lies_about_the_key(theirs: Path, keys: Path) -> None:
    """The hint says ours, the signature is theirs."""
    file = theirs / "model.sig"
    ours = json.loads(file.read_text())
    signed_by_library(theirs, keys / "theirs.pem")
    lie = json.loads(file.read_text())
    lie["verificationMaterial"] = ours["verificationMaterial"]
    file.write_text(json.dumps(lie))
    with pytest.raises(
        SignatureError, match=r"model\.sig was not made with .*ours\.pub, though it"
    ):
        read(theirs, keys / "ours.pub")


def test_the_manifest_that_was_read_is_the_one_that_was_signed(theirs: Path, keys: Path) -> None:
    """Somebody may put another one there in between."""
    held = Bundle.read(theirs).files
    signed = openssf.read_folder_signature(held)
    assert signed is not None
    manifest = (theirs / "manifest.json").read_bytes()
    openssf.require_signed_folder(signed, held, theirs, manifest, keys / "ours.pub")
    with pytest.raises(SignatureError, match=r"manifest\.json has no sha256 in it, or another"):
        openssf.require_signed_folder(signed, held, theirs, manifest + b" ", keys / "ours.pub")


def test_a_signature_without_the_manifest(packed: Path, keys: Path) -> None:
    place = packed / "model.sig"
    ignored = hashing.Config().set_ignored_paths(paths=["model.sig", "manifest.json"])
    config = signing.Config().use_elliptic_key_signer(private_key=keys / "ours.pem")
    config.set_hashing_config(ignored).sign(packed, place)
    with pytest.raises(SignatureError, match=r"manifest\.json has no sha256 in it"):
        read(packed, keys / "ours.pub")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: "", "Expecting value"),
        (lambda _: "[]", r"a value is \[\], expected an object"),
        (lambda _: "[" * 100_000, "nests too deeply"),
        (lambda _: " " * (2**24 + 1), "it has 16777217 bytes"),
        (lambda t: t.replace("dsseEnvelope", "dsse_envelope"), "'dsseEnvelope' is missing"),
        (lambda t: t.replace("{", '{"dsse_envelope": {}, ', 1), "is not a key that belongs there"),
        (lambda t: t.replace('"hint": "', '"hint": "x'), "its key is 'x"),
        (lambda t: t.replace('"payload": "', '"payload": "!'), "base64|Only base64"),
        (lambda t: t.replace('"publicKey": {', '"publicKey": [], "x": {'), "a key is"),
    ],
)
def test_what_is_no_signature(
    theirs: Path, keys: Path, change: Callable[[str], str], message: str
) -> None:
    file = theirs / "model.sig"
    text = json.dumps(json.loads(file.read_text()))
    changed = change(text)
    assert changed != text
    file.write_text(changed)
    with pytest.raises(
        FormatError, match=rf"model\.sig is no signature of model-signing: .*{message}"
    ):
        read(theirs, keys / "ours.pub")


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["dsseEnvelope"].update(signatures=[]),
        lambda value: value["dsseEnvelope"].update(payloadType="text"),
        lambda value: value.update(mediaType="text"),
        lambda value: value["dsseEnvelope"]["signatures"][0].update(sig="AAAA"),
        lambda value: value["dsseEnvelope"].update(payload="e30="),
    ],
)
def test_a_signature_that_the_library_refuses(
    theirs: Path, keys: Path, change: Callable[[dict[str, object]], object]
) -> None:
    file = theirs / "model.sig"
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))
    with pytest.raises(SignatureError, match=r"is not as it was signed|was not made with"):
        read(theirs, keys / "ours.pub")


def test_damage_is_an_error_of_ours_or_changes_nothing(theirs: Path, keys: Path) -> None:
    file, draw = theirs / "model.sig", random.Random(0)
    data = file.read_bytes()
    signed = openssf.read_folder_signature(Bundle.read(theirs).files)
    assert signed is not None
    refused = 0
    for _ in range(100):
        damaged = bytearray(data)
        damaged[draw.randrange(len(data))] = draw.randrange(256)
        file.write_bytes(damaged if draw.random() < 0.8 else data[: draw.randrange(len(data))])
        try:
            bundle = read(theirs, keys / "ours.pub")
        except (FormatError, SignatureError):
            refused += 1
        else:
            found = openssf.read_folder_signature(bundle.files)
            assert found is not None
            assert found.payload == signed.payload
    assert refused > 80


def test_a_certificate_is_no_key(theirs: Path, keys: Path) -> None:
    file = theirs / "model.sig"
    value = json.loads(file.read_text())
    value["verificationMaterial"] = {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": []}
    file.write_text(json.dumps(value))
    assert claims(Bundle.read(theirs).files) == (Claim("model.sig", None),)
    with pytest.raises(
        SignatureError, match="signed with a certificate or through Sigstore, not with a key"
    ):
        read(theirs, keys / "ours.pub")
    sign_bundle(theirs, keys / "ed.pem")
    assert read(theirs, keys / "ed.pub").vouched


def test_one_file_cannot_be_signed_so(theirs: Path, keys: Path, tmp_path: Path) -> None:
    one = pack(theirs, tmp_path / "one.edge", zipped=True).path
    assert claims(Bundle.read(one).files) == ()
    with pytest.raises(
        UsageError, match=r"one\.edge is one file, and .*ours\.pem, which is no Ed255"
    ):
        sign_bundle(one, keys / "ours.pem")
    held = Bundle.read(theirs).files
    signed = openssf.read_folder_signature(held)
    assert signed is not None
    with pytest.raises(
        SignatureError, match=r"one\.edge is one file, and its model\.sig signs a fo"
    ):
        openssf.require_signed_folder(signed, Bundle.read(one).files, one, b"", keys / "ours.pub")


def test_what_cannot_be_signed(packed: Path, keys: Path) -> None:
    with pytest.raises(FormatError, match=r"odd\.pem is no private key in PEM form, of Ed25519 or"):
        sign_bundle(packed, keys / "odd.pem")
    (packed / "link").symlink_to("model.null")
    with pytest.raises(
        FormatError, match=r"mlp\.edge cannot be signed: .*link' because it is a sy"
    ):
        sign_bundle(packed, keys / "ours.pem")
    (packed / "link").unlink()
    (packed / "model.null").write_text("x")
    with pytest.raises(IntegrityError, match=r"model\.null is not the file that was packed"):
        sign_bundle(packed, keys / "ours.pem")
    assert "model.sig" not in Bundle.read(packed).files


def test_a_signed_folder_stays_as_it_is(theirs: Path) -> None:
    with pytest.raises(UsageError, match=r"mlp\.edge is signed, and what is kept in it now would"):
        keep_evidence(theirs, "bench", b"{}")


def test_what_was_left_by_a_killed_process_is_not_signed(packed: Path, keys: Path) -> None:
    (packed / ".model.sig.01234567.tmp").write_text("half")
    sign_bundle(packed, keys / "ours.pem")
    assert read(packed, keys / "ours.pub").vouched
    assert not list(packed.glob(".*"))


def test_a_file_that_cannot_be_read(
    theirs: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "model.null")

    monkeypatch.setattr(verifying.Config, "verify", refuse)
    with pytest.raises(StorageError, match=r"cannot read model\.null: Permission denied"):
        read(theirs, keys / "ours.pub")
    monkeypatch.setattr(signing.Config, "sign", refuse)
    with pytest.raises(StorageError, match=r"cannot read model\.null: Permission denied"):
        sign_bundle(theirs, keys / "ours.pem")


def test_without_the_library(theirs: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("model_signing"):
            raise ImportError(name, name=name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(
        BackendMissingError,
        match=r"to check model\.sig edgeport needs 'model_signing', which is not installed\n"
        r"  fix: pip install 'edgeport\[model-signing\]'",
    ):
        read(theirs, keys / "ours.pub")
    with pytest.raises(
        BackendMissingError, match=r"to sign with .*ours\.pem, which is no Ed25519 key"
    ):
        sign_bundle(theirs, keys / "ours.pem")
    assert claims(Bundle.read(theirs).files)[0].file == "model.sig"  # to tell needs nothing


def test_the_name_of_the_folder_is_not_signed(theirs: Path, keys: Path) -> None:
    assert read(theirs.rename(theirs.with_name("other.edge")), keys / "ours.pub").vouched


def test_a_digest_with_quotes_hides_no_name() -> None:
    told = repr(["Hash mismatch for 'manifest.json': Expected 'b\"\\x92'\"', Actual 'b'\\x96''"])
    assert "\\'manifest" in told
    error = ValueError(f"Signature mismatch: {told}")
    assert openssf._differences(error) == "changed manifest.json"
