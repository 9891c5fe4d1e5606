"""What is refused before anything is compiled; tests/runtimes/libtorch compiles."""

import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeport import deploy
from edgeport.deploy.compilers import aotinductor
from edgeport.runtimes import BackendMissingError, ContractError, StorageError
from edgeport.runtimes.safety.aoti_package import FOLDER, LIBRARY

X = {"x": torch.zeros(2, 4)}


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendMissingError, match="no-such-compiler is not installed") as caught:
        deploy.export(nn.Linear(4, 2), X, tmp_path / "m.edge", formats=["aotinductor"])
    assert caught.value.remedy.startswith("apt install g++, or name another in CXX")
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_on_another_kind_of_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(BackendMissingError, match="this machine is riscv64"):
        deploy.export(nn.Linear(4, 2), X, tmp_path / "m.edge", formats=["aotinductor"])


def test_it_is_no_default() -> None:
    assert "aotinductor" not in deploy.DEFAULT_FORMATS


@pytest.mark.parametrize(
    ("record", "kept"),
    [
        ("archive_format", "archive_format"),
        ("byteorder", None),
        (f"{FOLDER}/c1.wrapper.so", f"{FOLDER}/{LIBRARY}"),
        (f"{FOLDER}/c1.wrapper.cpp", None),
        (f"{FOLDER}/c2.kernel.cpp", None),
        (f"{FOLDER}/c2.kernel_metadata.json", None),
    ],
)
def test_what_is_kept_of_torchs_package(record: str, kept: str | None) -> None:
    assert aotinductor._kept_as(record) == kept


def test_what_a_package_cannot_hold_is_refused() -> None:
    with pytest.raises(ContractError, match="the program needs custom_obj_0, which no package"):
        aotinductor._kept_as(f"{FOLDER}/custom_obj_0")


def inductors(output: bytes) -> Exception:
    """What Inductor raises around what the C++ compiler said."""
    failure = RuntimeError("LoweringException: pages")
    failure.__cause__ = ValueError("more")
    failure.__cause__.__context__ = subprocess.CalledProcessError(1, ["g++", "..."], output)
    return failure


def test_the_compilers_own_words_are_told() -> None:
    found = aotinductor._readable(inductors(b"in x.cpp:\nx.cpp:3: error: no \xff\nand more"))
    assert str(found).startswith("the C++ compiler gives up: x.cpp:3: error: no \ufffd\nin x.cpp:")
    assert str(aotinductor._readable(inductors(b""))).startswith(
        "the C++ compiler gives up: no reason"
    )
    other = ValueError("not the compiler")
    assert aotinductor._readable(other) is other


def test_a_full_disk_is_told() -> None:
    full = inductors(b"fatal error: error writing to x.s: No space left on device")
    with pytest.raises(StorageError, match="cannot write: No space left on device") as caught:
        raise aotinductor._readable(full)
    assert caught.value.remedy.endswith("or set TMPDIR to a folder that has it")
