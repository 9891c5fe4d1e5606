"""``pack``, ``sign``, ``inspect`` and ``diff``, as a person types them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import handmade
import hostile
import pytest

from edgeport.__main__ import main
from edgeport.runtimes import Bundle
from edgeport.runtimes.bundles.packing import keep_evidence

Out = pytest.CaptureFixture[str]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for name in ("ours", "theirs"):
        command = (
            f"openssl genpkey -algorithm ed25519 -out {name}.pem && "
            f"openssl pkey -in {name}.pem -pubout -out {name}.pub"
        )
        subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    return tmp_path


def test_pack_makes_one_file_with_some_artefacts(
    mlp_bundle: Path, tmp_path: Path, capsys: Out
) -> None:
    one = tmp_path / "one.edge"
    command = ["pack", str(mlp_bundle), "--artefacts", "onnx,torchscript", "--zip", "-o", str(one)]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "model.onnx" in out
    assert "model.pt2" not in out
    assert out.endswith(f"next: edgeport verify {one}\n")
    assert main(["verify", str(one), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(b["backend"], b["outcome"]) for b in report["backends"]] == [
        ("ort-cpu", "pass"),
        ("libtorch", "pass"),
    ]
    assert main(["pack", str(one), "-o", str(tmp_path / "again.edge"), "--json"]) == 0
    packed = json.loads(capsys.readouterr().out)
    assert packed["files"].keys() >= {"model.onnx", "model.ts", "reports/parity.json"}
    assert main(["pack", str(one), "--artefacts", "pt2", "-o", str(tmp_path / "x.edge")]) == 2
    assert "holds no pt2\n  fix: it holds onnx, torchscript" in capsys.readouterr().err


MODEL = """
import torch
def make_model():
    torch.manual_seed(0)
    return torch.nn.Linear(4, 2)
"""


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("pack", "more.edge"),
        ("embed", "infer.py"),
        ("build-runner", "run"),
        ("emit triton", "repo"),
        ("emit kserve --storage-uri s3://repo", "k.yaml"),
        ("emit ray", "app.py"),
    ],
)
def test_nothing_is_written_into_the_bundle_that_is_read(
    command: str, output: str, link: bool, mlp_bundle: Path, tmp_path: Path, capsys: Out
) -> None:
    bundle, held = mlp_bundle, sorted(mlp_bundle.iterdir())
    if link:
        bundle = tmp_path / "link.edge"
        bundle.symlink_to(mlp_bundle)
    assert main([*command.split(), str(bundle), "-o", str(mlp_bundle / output)]) == 2
    assert f"{output} would be in {bundle}, and -o adds nothing to that" in capsys.readouterr().err
    assert sorted(mlp_bundle.iterdir()) == held


@pytest.mark.parametrize("more", [["--input", "x=float32[1]"], ["--keep-training-mode"]])
def test_pack_takes_a_bundle_as_it_is(
    more: list[str], mlp_bundle: Path, tmp_path: Path, capsys: Out
) -> None:
    assert main(["pack", str(mlp_bundle), *more, "-o", str(tmp_path / "m.edge")]) == 2
    assert (
        "is a bundle, which knows how it is called\n  fix: leave --input" in capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []


def test_pack_exports_what_is_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    (tmp_path / "pack_model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    command = ["pack", "pack_model:make_model", "--input", "x=float32[batch,4]"]
    command += ["--artefacts", "onnx", "-o", "made/m.edge", "--zip"]
    assert main(command) == 0
    capsys.readouterr()
    assert [path.name for path in Path("made").iterdir()] == ["m.edge"]
    assert Path("made/m.edge").is_file()
    bundle = Bundle.read(Path("made/m.edge"))
    bundle.check_files()
    assert bundle.manifest.name == "m"
    assert len(bundle.manifest.source["weights_sha256"]) == 64


def test_sign_and_verify(own_bundle: Path, keys: Path, capsys: Out) -> None:
    path, ours, theirs = str(own_bundle), str(keys / "ours.pub"), str(keys / "theirs.pub")
    verify = ["verify", path, "--backend", "ort-cpu"]
    assert main([*verify, "--public-key", ours]) == 1
    assert "is not signed" in capsys.readouterr().err
    assert main(["sign", path, "--key", str(keys / "ours.pem")]) == 0
    signed, following = capsys.readouterr().out.splitlines()
    assert signed.startswith(f"signed {path} with the key ")
    assert following == f"next: edgeport verify {path} --public-key {ours}"
    assert main([*verify, "--public-key", theirs, "--public-key", ours]) == 0
    assert main([*verify, "--public-key", theirs]) == 1
    assert "which is not trusted here" in capsys.readouterr().err
    assert main([*verify, "--require-signature"]) == 2
    assert "a signature is demanded, and no key is trusted" in capsys.readouterr().err
    small = own_bundle.with_name("small.edge")
    assert main(["pack", path, "--artefacts", "onnx", "-o", str(small)]) == 0
    assert "not signed: the manifest is another one" in capsys.readouterr().err


def test_what_is_no_signature_is_told_and_not_packed(own_bundle: Path, capsys: Out) -> None:
    (own_bundle / "manifest.sig").write_bytes(bytes(10_000))
    assert main(["inspect", str(own_bundle)]) == 0
    assert "manifest.sig is no signature: it has 10000 bytes" in capsys.readouterr().out
    other = own_bundle.with_name("other.edge")
    assert main(["pack", str(own_bundle), "-o", str(other)]) == 2
    assert "manifest.sig is no signature: it has 10000 bytes" in capsys.readouterr().err
    assert not other.exists()


def test_one_file_behind_a_link_is_signed_in_its_place(
    own_bundle: Path, keys: Path, capsys: Out
) -> None:
    real, link = own_bundle.with_name("v3.edge"), own_bundle.with_name("current.edge")
    assert main(["pack", str(own_bundle), "--zip", "-o", str(real)]) == 0
    link.symlink_to(real.name)
    assert main(["sign", str(link), "--key", str(keys / "ours.pem")]) == 0
    assert link.is_symlink()
    assert Bundle.read(real, trusted=[keys / "ours.pub"]).vouched
    capsys.readouterr()


def test_a_key_without_its_public_one_is_told_how_to_make_it(
    own_bundle: Path, keys: Path, tmp_path: Path, capsys: Out
) -> None:
    alone = tmp_path / "my key.pub"  # as nobody should call it
    alone.write_bytes((keys / "ours.pem").read_bytes())
    assert main(["sign", str(own_bundle), "--key", str(alone)]) == 0
    command = capsys.readouterr().out.splitlines()[1].removeprefix("next: ")
    assert command == f"openssl pkey -in '{alone}' -pubout -out '{alone}.pub'"
    subprocess.run(command, shell=True, check=True)
    verify = ["verify", str(own_bundle), "--backend", "ort-cpu", "--public-key"]
    assert main([*verify, f"{alone}.pub"]) == 0


def test_sign_as_model_signing_does(own_bundle: Path, keys: Path, capsys: Out) -> None:
    pytest.importorskip("model_signing", reason="the extra 'model-signing' is not installed")
    for name in ("nist", "other"):
        command = (
            f"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.pem && "
            f"openssl pkey -in {name}.pem -pubout -out {name}.pub"
        )
        subprocess.run(command, shell=True, cwd=keys, check=True)
    path = str(own_bundle)
    assert main(["sign", path, "--key", str(keys / "nist.pem")]) == 0
    out = capsys.readouterr().out
    assert f"signed {path} with the key " in out
    assert ", in model.sig\n" in out
    assert f"or:   model_signing verify key {path} --signature {path}/model.sig --public_k" in out
    assert out.count(f"{keys / 'nist.pub'}\n") == 2
    assert main(["inspect", path]) == 0
    assert " in model.sig: not checked: EDGEPORT_TRUSTED_KEYS names no key" in (
        capsys.readouterr().out
    )
    verify = ["verify", path, "--backend", "ort-cpu", "--public-key"]
    assert main([*verify, str(keys / "nist.pub")]) == 0
    capsys.readouterr()
    assert main([*verify, str(keys / "other.pub")]) == 1
    assert "which is not trusted here" in capsys.readouterr().err
    (own_bundle / "more.txt").touch()
    assert main([*verify, str(keys / "nist.pub")]) == 1
    assert "nist.pub: added more.txt\n  fix: don't open this bundle" in capsys.readouterr().err
    one = own_bundle.with_name("one.edge")
    assert main(["pack", path, "--zip", "-o", str(one)]) == 0
    assert "model.sig stays behind: it is of the folder" in capsys.readouterr().err
    assert main(["sign", str(one), "--key", str(keys / "nist.pem")]) == 2
    assert "one.edge is one file, and " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "bench", "serve"])
def test_trusted_keys_are_demanded_everywhere(
    own_bundle: Path, keys: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    monkeypatch.setenv("EDGEPORT_TRUSTED_KEYS", str(keys / "ours.pub"))
    assert main([command, str(own_bundle)]) == 1
    assert "is not signed" in capsys.readouterr().err
    assert main([command, str(own_bundle), "--require-signature"]) == 1
    assert "is not signed" in capsys.readouterr().err


def test_inspect_shows_and_runs_nothing(
    own_bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    monkeypatch.setattr("edgeport.runtimes.session._load", lambda _: pytest.fail("an engine"))
    assert main(["inspect", str(own_bundle)]) == 0
    out = capsys.readouterr().out
    assert "x: float32[batch, 64] -> output: float32[batch, 10]" in out
    assert "signature: not signed" in out
    assert "proved where it was made: ort-cpu (onnxruntime " in out
    assert "torchscript is code: it runs what is in it" in out
    assert main(["sign", str(own_bundle), "--key", str(keys / "ours.pem")]) == 0
    capsys.readouterr()
    for trusted, reason in (
        ("", "not checked: EDGEPORT_TRUSTED_KEYS names no key"),
        (str(keys / "ours.pub"), "the signature holds"),
        (str(keys / "theirs.pub"), "which is not trusted here"),
        (str(keys / "gone.pub"), "not checked: EDGEPORT_TRUSTED_KEYS names"),
    ):
        monkeypatch.setenv("EDGEPORT_TRUSTED_KEYS", trusted)
        assert main(["inspect", str(own_bundle), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert reason in found["signed"]["reason"]
        assert found["signed"]["trusted"] is (reason == "the signature holds")
    assert [artefact["code"] for artefact in found["artefacts"]] == [False, True, True]
    assert main(["inspect", str(own_bundle), "--bom"]) == 0
    assert json.loads(capsys.readouterr().out)["bomFormat"] == "CycloneDX"


def test_inspect_shows_what_is_unknown_and_no_escapes(own_bundle: Path, capsys: Out) -> None:
    handmade.edit(own_bundle, lambda m: m.update({"later\x1b[2J": 1}))
    handmade.edit(own_bundle, lambda m: m["producer"].update(torch="\x1b]0;pwned\x07"))
    handmade.edit(own_bundle, lambda m: m["artefacts"][0]["details"].update({"\x1b[31m": "\x9b"}))
    assert main(["inspect", str(own_bundle)]) == 0
    out = capsys.readouterr().out
    assert "not known to this version: 'later\\x1b[2J'" in out
    assert not set(out) & {"\x1b", "\x07", "\x9b"}


def test_inspect_tells_what_a_person_asks(own_bundle: Path, capsys: Out) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["labels"] = {"output": [f"class {number}" for number in range(10)]}
        manifest["thresholds"]["outputs"] = {"output": 2.5}
        manifest["thresholds"]["constant_outputs"] = ["output"]
        manifest["notes"] = ["ort-cpu answers -1 in x\x1b, which the module refuses"]

    handmade.edit(own_bundle, change)
    assert main(["inspect", str(own_bundle)]) == 0
    out = capsys.readouterr().out
    assert "mlp  folder, manifest version 2\n  x: float32[batch, 64] -> output: floa" in out
    assert "\n5 files have the sizes and hashes of the manifest\n" in out
    assert "\nclasses of output: 10: class 0, class 1, class 2, " in out
    assert "\nnote: ort-cpu answers -1 in x\\x1b, which the module refuses\n" in f"{out}\n"
    assert (
        "\npasses with: error / noise floor at most 8, output at most 2.5, output may be constant\n"
    ) in out
    report = json.dumps({"variants": [VARIANT]}).encode()
    keep_evidence(own_bundle, "bench", report)
    assert main(["inspect", str(own_bundle)]) == 0
    assert (
        "\nmeasured where it was benchmarked: ort-cpu 12.3 µs in the median\n"
        in capsys.readouterr().out
    )


VARIANT = {
    "backend": "ort-cpu",
    "percentiles": [{"percent": 50, "latency_ns": {"value": 12_345.0}}],
}


def test_diff(mlp_bundle: Path, own_bundle: Path, capsys: Out) -> None:
    assert main(["diff", str(mlp_bundle), str(own_bundle)]) == 0
    assert capsys.readouterr().out == (
        "the manifests say the same\n\nweights of onnx: all 4 tensors are the same\n\n"
        "weights of pt2: all 4 tensors are the same\n\n"
        "weights of torchscript: all 4 tensors are the same\n"
    )
    handmade.edit(own_bundle, lambda m: m["producer"].update(torch="9"))
    handmade.replace_artefact(own_bundle, "onnx", hostile.node("Identity", hostile.sizes([1])))
    assert main(["diff", str(mlp_bundle), str(own_bundle)]) == 0
    out = capsys.readouterr().out
    assert "producer torch" in out
    assert "int64[1]" in out
    assert main(["diff", str(mlp_bundle), str(own_bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["diff_version"] == 2
    assert {change["what"] for change in found["changes"]} >= {"producer torch", "onnx bytes"}
    assert main(["diff", str(mlp_bundle), "absent.edge"]) == 2


@pytest.mark.parametrize("case", hostile.torch_cases(), ids=lambda case: case.name)
def test_hostile_torch_files(
    case: hostile.Case,
    mlp_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Out,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = hostile.build(case, mlp_bundle, tmp_path)
    command = ["verify", str(path), "--backend", case.backend, "--threads", "1"]
    assert main([*command, "--time-limit", "3"]) in (1, 2)
    out, err = capsys.readouterr()
    assert "  fix: " in out + err
    assert main(["diff", str(mlp_bundle), str(path)]) in (0, 1, 2)
    told, err = capsys.readouterr()
    assert "Traceback" not in out + told + err
    assert not list(tmp_path.rglob(hostile.PWNED))
