import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from handmade import edit, replace_artefact, stored
from onnx.external_data_helper import set_external_data
from safetensors.numpy import load, save

from edgeport import runtimes
from edgeport.runtimes import (
    Bundle,
    ContractError,
    EngineError,
    FormatError,
    IntegrityError,
    MissingFileError,
    Options,
    StorageError,
    UsageError,
)
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.session import open_artefact


def test_it_holds_what_was_packed(packed: Path, samples: tuple[Golden, ...]) -> None:
    bundle = Bundle.read(packed)
    bundle.check_files()
    assert bundle.backends == ("ort-cpu", "ort-cuda", "null")
    assert bundle.artefact("ort-cpu").details == {"opset": 20}
    for found, expected in zip(bundle.golden(), samples, strict=True):
        assert (found.name, found.kind) == (expected.name, expected.kind)
        np.testing.assert_array_equal(found.eager["logits"], expected.eager["logits"])


def test_open_is_the_verb_of_the_package(packed: Path, samples: tuple[Golden, ...]) -> None:
    for path in (packed, str(packed), packed / "model.onnx"):
        with runtimes.open(path, threads=1) as session:
            answer = session.run(samples[2].inputs)
        np.testing.assert_allclose(answer["logits"], samples[2].eager["logits"], rtol=1e-5)
        assert session.engine.threads == 1


def test_a_session_declares_the_bundles_signature(packed: Path) -> None:
    edit(packed, lambda m: m["signature"]["ranges"]["batch"].update(max=8))
    with pytest.raises(ContractError, match=r"model\.onnx declares .*1\.\.64\n  but .*1\.\.8 was"):
        Bundle.read(packed).open("ort-cpu")


def test_where_there_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no such bundle: .*gone\.edge\n  fix: check the"):
        Bundle.read(str(tmp_path / "gone.edge"))
    with pytest.raises(MissingFileError, match=r"no such bundle: .*gone\.edge\n  fix: check the"):
        Bundle.peek(str(tmp_path / "gone.edge"))
    with pytest.raises(FormatError, match=r"is not a bundle: it has no manifest\.json\n  fix: m"):
        Bundle.read(tmp_path)
    (tmp_path / "file.edge").touch()
    with pytest.raises(FormatError, match=r"file\.edge is not a bundle: it is no zip file: too sh"):
        Bundle.read(tmp_path / "file.edge")


def test_a_manifest_that_cannot_be_read(packed: Path) -> None:
    (packed / "manifest.json").write_text("{")
    with pytest.raises(FormatError, match=r"mlp\.edge/manifest\.json is not a manifest: Expecting"):
        Bundle.read(packed)


@pytest.mark.parametrize("damage", [b"", b"x", None])
@pytest.mark.parametrize("file", ["model.onnx", "golden.safetensors"])
def test_a_file_that_is_not_the_one_that_was_packed(
    packed: Path, file: str, damage: bytes | None
) -> None:
    data = (packed / file).read_bytes()
    flipped = bytes([data[0] ^ 1]) + data[1:]  # of the right size
    (packed / file).write_bytes(flipped if damage is None else damage)
    bundle = Bundle.read(packed)
    calls: list[Callable[[], object]] = [bundle.check_files]
    calls += [bundle.golden] if file.startswith("golden") else [lambda: bundle.open("ort-cpu")]
    for call in calls:
        with pytest.raises(IntegrityError, match=r"is not the file that was packed.*\n  fix: copy"):
            call()


def test_a_wrong_size_is_a_wrong_file(packed: Path) -> None:
    edit(packed, lambda m: m["golden"].update(size_bytes=1))
    bundle = Bundle.read(packed)
    for call in (bundle.golden, bundle.check_files):
        with pytest.raises(IntegrityError, match="its size or sha256 differs"):
            call()


def test_a_file_that_is_missing(packed: Path) -> None:
    (packed / "model.onnx").unlink()
    (packed / "golden.safetensors").unlink()
    bundle = Bundle.read(packed)
    for call in (bundle.golden, bundle.check_files, lambda: bundle.open("ort-cpu")):
        with pytest.raises(
            MissingFileError, match="is missing\n  fix: copy the whole bundle again"
        ):
            call()


@pytest.mark.parametrize("target", ["../outside.onnx", "/etc/passwd"])
def test_a_link_out_of_the_bundle_is_not_followed(packed: Path, target: str) -> None:
    (packed / "model.onnx").rename(packed.parent / "outside.onnx")
    (packed / "model.onnx").symlink_to(target)
    with pytest.raises(FormatError, match=r"model\.onnx leads out of the bundle .*\n  fix: don't"):
        Bundle.read(packed).open("ort-cpu")


def test_a_linked_folder_leads_out_too(packed: Path) -> None:
    (packed.parent / "other").mkdir()
    (packed / "model.onnx").rename(packed.parent / "other" / "model.onnx")
    (packed / "parts").symlink_to("../other")
    edit(packed, lambda m: m["artefacts"][0].update(file="parts/model.onnx"))
    with pytest.raises(FormatError, match=r"parts/model\.onnx leads out of the bundle"):
        Bundle.read(packed).check_files()


def test_links_inside_and_to_a_bundle_are_fine(packed: Path) -> None:
    (packed / "model.onnx").rename(packed / "real.onnx")
    (packed / "model.onnx").symlink_to("real.onnx")
    (packed.parent / "link.edge").symlink_to(packed)
    Bundle.read(packed.parent / "link.edge").check_files()


def test_a_loop_of_links_is_a_missing_file(packed: Path) -> None:
    (packed / "model.onnx").unlink()
    (packed / "model.onnx").symlink_to("model.onnx")
    with pytest.raises(MissingFileError, match=r"model\.onnx is missing"):
        Bundle.read(packed).check_files()


def test_a_folder_or_a_pipe_is_no_file(packed: Path) -> None:
    (packed / "model.onnx").unlink()
    os.mkfifo(packed / "model.onnx")
    with pytest.raises(MissingFileError, match=r"model\.onnx is missing"):
        Bundle.read(packed).check_files()


@pytest.fixture
def public(packed: Path) -> Iterator[Path]:
    """A bundle in a place that every user reaches."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield packed.rename(Path(folder) / "mlp.edge")


_AS_ANOTHER_USER = """
import sys
from edgeport.runtimes import Bundle, StorageError
import hashlib, os, pathlib
# later, nobody could read them
import edgeport.runtimes.weights.external, edgeport.runtimes.bundles.golden
from edgeport.runtimes.safety import model_file, onnx_limits, private_copy, torch_limits
if os.getuid() == 0:
    os.setuid(65534)
try:
    Bundle.read(pathlib.Path(sys.argv[1])).check_files()
except StorageError as e:
    print(e)
"""


@pytest.mark.parametrize("place", [".", "manifest.json", "model.onnx", "golden.safetensors"])
def test_a_file_of_another_user(public: Path, place: str) -> None:
    (public / place).chmod(0)
    command = [sys.executable, "-c", _AS_ANOTHER_USER, str(public)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (public / place).chmod(0o755)
    assert out.startswith("cannot read ")
    assert out.endswith(": Permission denied\n  fix: check its permissions, and the disk\n")
    assert issubclass(StorageError, OSError)


def test_a_backend_that_does_not_fit(packed: Path) -> None:
    bundle = Bundle.read(packed)
    with pytest.raises(UsageError, match="no backend is named 'ort'\n  fix: use one of ort-cpu,"):
        bundle.open("ort")
    with pytest.raises(
        UsageError,
        match=r"mlp\.edge holds no torchscript artefact for backend 'libtorch'\n"
        r"  fix: backends that fit this bundle: ort-cpu, ort-cuda, null; or export",
    ):
        bundle.open("libtorch")


def test_a_bare_file_of_another_backend(packed: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"backend 'ort-cpu' opens \.onnx files, not model\.null\n"
        "  fix: choose the backend 'null'",
    ):
        runtimes.open(packed / "model.null")
    with pytest.raises(UsageError, match="no backend is named 'ort'"):
        runtimes.open(packed / "model.onnx", "ort")
    with pytest.raises(
        MissingFileError, match=r"no such file: .*gone\.onnx\n  fix: check the path"
    ):
        runtimes.open(packed / "gone.onnx")
    with pytest.raises(MissingFileError, match=r"no such bundle: .*gone\n"):
        runtimes.open(packed / "gone")


@pytest.mark.parametrize("backend", ["torch", None])
def test_a_bare_exported_program_is_not_opened(tmp_path: Path, backend: str | None) -> None:
    """Not by the default either, whose remedy was to take the backend that refuses it."""
    (tmp_path / "model.pt2").touch()
    with pytest.raises(
        UsageError, match=r"loading one can run code that is hidden in it\n  fix: o"
    ):
        runtimes.open(tmp_path / "model.pt2", backend)


def test_a_folder_may_be_named_like_a_file(packed: Path) -> None:
    renamed = packed.rename(packed.with_name("model.onnx"))
    with runtimes.open(renamed, threads=1) as session:
        assert session.engine.backend == "ort-cpu"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("1/input/x"), "sample 'sample 1' holds nothing, the signature names x"),
        (lambda t: t.update({"0/input/z": t["0/input/x"]}), "holds x, z, the signature names x"),
        (lambda t: t.pop("2/eager/label"), "sample 'sample 2' holds logits, the signature names"),
        (lambda t: t.update({"4/input/x": t["0/input/x"]}), "holds '4/input/x', which belongs to"),
    ],
)
def test_golden_samples_that_do_not_fit_the_signature(
    packed: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    tensors = load((packed / "golden.safetensors").read_bytes())
    change(tensors)
    replace_artefact(packed, "golden", save(tensors))
    with pytest.raises(FormatError, match=rf"golden\.safetensors.* {message}"):
        Bundle.read(packed).golden()


def test_a_packed_file_that_is_none(packed: Path) -> None:
    replace_artefact(packed, "onnx", b"junk")
    with pytest.raises(EngineError, match=r"ONNX Runtime cannot open .*model\.onnx: .*PROTOBUF"):
        Bundle.read(packed).open("ort-cpu", Options(threads=1))


WEIGHTS = "parts/model.onnx.data"


@pytest.fixture
def split(packed: Path) -> Path:
    """A bundle whose ONNX artefact keeps its weights in a file beside it."""
    (packed / "parts").mkdir()
    model = onnx.load(packed / "model.onnx")
    for tensor in model.graph.initializer:
        set_external_data(tensor, "model.onnx.data")
    onnx.save(model, packed / "parts" / "model.onnx")
    (packed / "model.onnx").unlink()
    weights = stored(packed, WEIGHTS, (packed / WEIGHTS).read_bytes())
    data = (packed / "parts" / "model.onnx").read_bytes()
    replace_artefact(packed, "onnx", data, file="parts/model.onnx", external=[asdict(weights)])
    return packed


def checks(path: Path) -> list[Callable[[], object]]:
    bundle = Bundle.read(path)
    return [bundle.check_files, lambda: bundle.open("ort-cpu"), lambda: runtimes.open(path)]


def test_weights_may_lie_in_a_file_beside_the_artefact(
    split: Path, samples: tuple[Golden, ...]
) -> None:
    bundle = Bundle.read(split)
    bundle.check_files()
    assert [stored.file for stored in bundle.manifest.files][1] == WEIGHTS
    with bundle.open("ort-cpu", Options(threads=1)) as session:
        answer = session.run(samples[2].inputs)
    np.testing.assert_allclose(answer["logits"], samples[2].eager["logits"], rtol=1e-5)
    assert runtimes.verify(bundle, ["ort-cpu"]).passed


@pytest.mark.parametrize("damage", [b"", None])
def test_weights_that_are_not_those_that_were_packed(split: Path, damage: bytes | None) -> None:
    data = (split / WEIGHTS).read_bytes()
    (split / WEIGHTS).write_bytes(bytes([data[0] ^ 1]) + data[1:] if damage is None else damage)
    for call in checks(split):
        with pytest.raises(
            IntegrityError, match=r"parts/model\.onnx\.data is not the file that was"
        ):
            call()


def test_weights_that_are_missing(split: Path) -> None:
    (split / WEIGHTS).unlink()
    for call in checks(split):
        with pytest.raises(MissingFileError, match=r"parts/model\.onnx\.data is missing"):
            call()


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_weights_are_not_read_through_a_link(
    split: Path, link: Callable[[Path, Path], None]
) -> None:
    (split / WEIGHTS).rename(split / "real.data")
    link(split / "real.data", split / WEIGHTS)
    for call in checks(split):
        with pytest.raises(
            FormatError,
            match=r"parts/model\.onnx\.data is a link, and an engine would read through it\n"
            r"  fix: put a copy in its place: cp model\.onnx\.data copy && mv copy model\.onnx\.d",
        ):
            call()
    remedy = "cp model.onnx.data copy && mv copy model.onnx.data"
    subprocess.run(remedy, shell=True, cwd=split / "parts", check=True)
    Bundle.read(split).check_files()


def test_weights_do_not_lie_outside_the_bundle(split: Path) -> None:
    (split / WEIGHTS).rename(split.parent / "outside.data")
    (split / WEIGHTS).symlink_to("../../outside.data")
    for call in checks(split):
        with pytest.raises(FormatError, match=r"model\.onnx\.data leads out of the bundle"):
            call()


@pytest.mark.parametrize("listed", [None, "parts/other.data", "model.onnx.data"])
def test_weights_that_no_hash_covers(split: Path, listed: str | None) -> None:
    def change(manifest: dict[str, Any]) -> None:
        (stored,) = manifest["artefacts"][0]["external"]
        manifest["artefacts"][0]["external"] = [{**stored, "file": listed}] if listed else []

    edit(split, change)
    if listed:
        (split / listed).write_bytes((split / WEIGHTS).read_bytes())
    for call in checks(split):
        with pytest.raises(
            FormatError,
            match=r"parts/model\.onnx reads 'model\.onnx\.data', which the manifest does not "
            r"list, so no hash covers it\n  fix: export the model again",
        ):
            call()


def overwrite(file: Path) -> None:
    """As a process does that does not wait."""
    handle = os.open(file, os.O_WRONLY | os.O_NONBLOCK)
    os.write(handle, bytes(file.stat().st_size))
    os.close(handle)


def replace_whole(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(bytes(file.stat().st_size))
    other.replace(file)


@pytest.mark.parametrize(
    ("fixture", "change"),
    [("packed", replace_whole), ("split", replace_whole), ("split", overwrite)],
)
def test_what_is_put_there_after_the_hash_is_not_opened(
    request: pytest.FixtureRequest,
    samples: tuple[Golden, ...],
    monkeypatch: pytest.MonkeyPatch,
    fixture: str,
    change: Callable[[Path], None],
) -> None:
    """Another process that writes between the check and the engine's own reading."""
    path: Path = request.getfixturevalue(fixture)

    def swapped(*args: Any) -> Any:
        for file in path.rglob("model.onnx*"):
            change(file)
        return open_artefact(*args)

    monkeypatch.setattr("edgeport.runtimes.bundles.bundle.open_artefact", swapped)
    with Bundle.read(path).open("ort-cpu", Options(threads=1)) as session:
        for file in path.rglob("model.onnx*"):
            file.unlink()
        answer = session.run(samples[2].inputs)
    np.testing.assert_allclose(answer["logits"], samples[2].eager["logits"], rtol=1e-5)


def test_a_file_is_not_written_to_while_it_is_opened(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(*args: Any) -> Any:
        with pytest.raises(BlockingIOError):
            overwrite(packed / "model.onnx")
        return open_artefact(*args)

    monkeypatch.setattr("edgeport.runtimes.bundles.bundle.open_artefact", swapped)
    with pytest.raises(IntegrityError, match=r"model\.onnx was about to be written to while it"):
        Bundle.read(packed).open("ort-cpu", Options(threads=1))


def test_a_manifest_that_is_too_large(packed: Path) -> None:
    os.truncate(packed / "manifest.json", 2**24 + 1)
    with pytest.raises(FormatError, match=r"manifest\.json has 16777217 bytes, at most 16777216"):
        Bundle.read(packed)
