import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hostile import contents

from edgeport.runtimes import (
    Bundle,
    ExistingFileError,
    IntegrityError,
    MissingFileError,
    StorageError,
    UsageError,
)
from edgeport.runtimes.bundles.packing import keep_evidence, pack, sign_bundle


def test_there_and_back_again(packed: Path, tmp_path: Path) -> None:
    made = pack(packed, tmp_path / "deep" / "one.edge", zipped=True)
    assert made.manifest == Bundle.read(packed).manifest
    again = pack(made.path, tmp_path / "again.edge")
    assert contents(again.path) == contents(packed)


def test_the_same_bundle_is_the_same_file(packed: Path, tmp_path: Path) -> None:
    for name in ("a.edge", "b.edge"):
        pack(packed, tmp_path / name, zipped=True)
    assert (tmp_path / "a.edge").read_bytes() == (tmp_path / "b.edge").read_bytes()


@pytest.mark.parametrize("zipped", [False, True])
def test_some_of_the_artefacts(packed: Path, tmp_path: Path, zipped: bool) -> None:
    made = pack(packed, tmp_path / "small.edge", ["onnx"], zipped=zipped)
    found = Bundle.read(made.path)
    found.check_files()
    assert [artefact.format for artefact in found.manifest.artefacts] == ["onnx"]
    assert "model.null" not in found.files


@pytest.mark.parametrize(
    ("artefacts", "message"),
    [(["pt2"], "mlp.edge holds no pt2\n  fix: it holds onnx, null"), ([], "holds no artefact")],
)
def test_what_is_not_there(
    packed: Path, tmp_path: Path, artefacts: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        pack(packed, tmp_path / "x.edge", artefacts)
    assert [path.name for path in tmp_path.iterdir()] == ["mlp.edge"]


def test_a_bundle_is_not_named_like_a_file_that_it_holds(packed: Path, tmp_path: Path) -> None:
    """``-o model.onnx`` made a folder of that name."""
    with pytest.raises(
        UsageError, match=r"would be a bundle that is named like a \.onnx file"
    ) as e:
        pack(packed, tmp_path / "m.onnx")
    assert "m.edge: files are in it, as model.onnx is" in e.value.remedy


def test_what_is_unknown_goes_along(packed: Path, tmp_path: Path) -> None:
    file = packed / "manifest.json"
    value = {**json.loads(file.read_text()), "later": {"deep": [1]}}
    value["artefacts"][0]["later"] = "yes"
    file.write_text(json.dumps(value))
    made = pack(packed, tmp_path / "small.edge", ["onnx"])
    found = json.loads((made.path / "manifest.json").read_text())
    assert found["later"] == {"deep": [1]}
    assert found["artefacts"][0]["later"] == "yes"


@pytest.fixture
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    path = tmp_path_factory.mktemp("key") / "k.pem"
    private = Ed25519PrivateKey.generate()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)
    return path


def test_a_signature_stays_with_its_manifest(packed: Path, tmp_path: Path, key: Path) -> None:
    sign_bundle(packed, key)
    trusted = [key.with_suffix(".pub")]
    one = pack(packed, tmp_path / "one.edge", zipped=True)
    assert Bundle.read(one.path, trusted=trusted).vouched
    assert Bundle.read(pack(one.path, tmp_path / "two.edge").path, trusted=trusted).vouched
    small = pack(packed, tmp_path / "small.edge", ["onnx"])
    assert "manifest.sig" not in small.files


def test_signing_a_zip_file_changes_nothing_else(packed: Path, tmp_path: Path, key: Path) -> None:
    one = pack(packed, tmp_path / "one.edge", zipped=True).path
    for _ in range(2):
        sign_bundle(one, key)
    made = pack(one, tmp_path / "again.edge").path
    (made / "manifest.sig").unlink()
    assert contents(made) == contents(packed)


@pytest.mark.parametrize("zipped", [False, True])
def test_damage_is_not_packed(packed: Path, tmp_path: Path, zipped: bool) -> None:
    (packed / "model.onnx").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"model\.onnx is not the file that was packed"):
        pack(packed, tmp_path / "new" / "x.edge", zipped=zipped)
    (packed / "model.onnx").unlink()
    with pytest.raises(MissingFileError, match=r"model\.onnx is missing"):
        pack(packed, tmp_path / "new" / "x.edge", zipped=zipped)
    assert [path.name for path in tmp_path.iterdir()] == ["mlp.edge"]


@pytest.mark.parametrize("zipped", [False, True])
def test_nothing_is_overwritten(packed: Path, tmp_path: Path, zipped: bool) -> None:
    (tmp_path / "x.edge").write_text("old")
    with pytest.raises(ExistingFileError, match=r"x\.edge exists already\n  fix: remove it, or"):
        pack(packed, tmp_path / "x.edge", zipped=zipped)
    assert (tmp_path / "x.edge").read_text() == "old"


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("left", range(0, 8192, 1024))
def test_a_disk_that_is_full_at_any_write(
    packed: Path, full_disk: Path, key: Path, zipped: bool, left: int
) -> None:
    """The place has room for some of the files only."""
    fill(full_disk, left)
    with pytest.raises(StorageError, match=r"cannot write .*x\.edge.*: No space left on device"):
        pack(packed, full_disk / "new" / "x.edge", zipped=zipped)
    assert [path.name for path in full_disk.iterdir()] == ["filler"]
    (full_disk / "filler").unlink()
    made = pack(packed, full_disk / "x.edge", zipped=zipped)
    before = contents(full_disk) if not zipped else {"": made.path.read_bytes()}
    fill(full_disk, 0)
    with pytest.raises(StorageError, match=r"cannot write .*: No space left on device\n  fix: cho"):
        sign_bundle(made.path, key)
    (full_disk / "filler").unlink()
    assert (contents(full_disk) if not zipped else {"": made.path.read_bytes()}) == before


def fill(disk: Path, left: int) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        size = 0
        while True:
            try:
                size += file.write(bytes(1024))
            except OSError:
                break
        file.truncate(max(0, size - left))


@pytest.mark.parametrize("zipped", [False, True])
def test_reports_that_are_kept_at_once_leave_a_whole_bundle(
    packed: Path, tmp_path: Path, zipped: bool
) -> None:
    path = pack(packed, tmp_path / "one.edge", zipped=zipped).path

    def keep(number: int) -> str:
        return keep_evidence(path, "bench", b'{"number": %d}\n' % number)

    with ThreadPoolExecutor(4) as pool:
        names = [*pool.map(keep, range(12))]
    assert len({*names}) == 12
    bundle = Bundle.read(path)
    bundle.check_files()
    assert bundle.manifest.evidence["bench"].file in names
