import subprocess
import sys
from pathlib import Path

import pytest

from edgeport.__main__ import main


def test_the_script_runs(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = packed.with_name("device.py")
    assert main(["embed", str(packed), "-o", str(script)]) == 0
    out = capsys.readouterr().out
    assert out == (
        f"{script} runs model.onnx with numpy and onnxruntime\nnext: python {script} --check\n"
    )
    done = subprocess.run([sys.executable, "-I", script, "--check"], check=False)
    assert done.returncode == 0


def test_a_script_in_another_place_needs_the_bundle_beside_it(
    packed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (packed.parent / "device").mkdir()
    monkeypatch.chdir(packed.parent / "device")
    assert main(["embed", str(packed)]) == 0
    assert f"next: copy {packed} beside it\n" in capsys.readouterr().out
    assert Path("infer.py").is_file()


def test_what_it_tells_can_be_pasted(
    packed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(packed.parent)
    Path("$(a).edge").symlink_to(packed)
    assert main(["embed", "$(a).edge", "-o", "a b/infer.py"]) == 0
    out = capsys.readouterr().out
    assert f"next: copy {packed} beside it\nnext: python 'a b/infer.py' --check\n" in out
    packed.rename("a b.edge")
    assert main(["embed", "a b.edge", "-o", "b/infer.py"]) == 0
    assert "next: copy 'a b.edge' beside it\n" in capsys.readouterr().out


def test_bad_input(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", str(packed.with_name("absent.edge"))]) == 2
    assert "no such bundle" in capsys.readouterr().err
    (packed.parent / "infer.py").write_text("")
    assert main(["embed", str(packed), "-o", str(packed.parent / "infer.py")]) == 2
    assert "infer.py exists already" in capsys.readouterr().err
