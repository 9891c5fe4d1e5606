from pathlib import Path

import pytest

from edgeport.__main__ import main


def test_triton(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for version in ("1", "2"):
        assert main(["emit", "triton", str(packed), "-o", str(tmp_path / "repo")]) == 0
        first, second, third = capsys.readouterr().out.splitlines()
        assert first == str(tmp_path / "repo" / "mlp" / version)
        assert second == f"next: tritonserver --model-repository={tmp_path / 'repo'}"
        assert third == f"next: edgeport verify {packed} --url http://HOST:PORT"
    assert main(["emit", "triton", str(packed), "--format", "torchscript"]) == 2
    assert "Triton is to get torchscript" in capsys.readouterr().err


def test_kserve(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my mlp.yaml"
    options = ["-o", str(file), "--storage-uri", "pvc://models/repo"]
    assert main(["emit", "kserve", str(packed), *options]) == 0
    assert f"next: kubectl apply -f '{file}'" in capsys.readouterr().out
    assert 'storageUri: "pvc://models/repo"' in file.read_text()
    with pytest.raises(SystemExit, match="2"):
        main(["emit", "kserve", str(packed)])
    assert "--storage-uri" in capsys.readouterr().err


def test_ray(
    packed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(packed.parent)
    assert main(["emit", "ray", "mlp.edge", "--replicas", "4"]) == 0
    assert "next: serve run app:app" in capsys.readouterr().out
    assert "num_replicas=4" in Path("app.py").read_text()
    packed.rename("$(a).edge")
    assert main(["emit", "ray", "$(a).edge", "-o", "made here/app.py"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "next: copy '$(a).edge' beside it",
        "next: serve run --app-dir 'made here' app:app",
        "next: edgeport verify '$(a).edge' --url http://HOST:PORT",
    ]


def test_no_engine(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["emit"])
    assert "ENGINE" in capsys.readouterr().err
