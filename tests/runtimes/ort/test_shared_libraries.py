"""Which libraries a library needs, read from its file, and loaded."""

import contextlib
import importlib.machinery
import re
import subprocess
from pathlib import Path

import onnxruntime
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeport.runtimes.ort import shared_libraries
from edgeport.runtimes.ort.shared_libraries import load_all, needed_by

LIBRARY = next(Path(onnxruntime.__file__).parent.glob("capi/onnxruntime_pybind11_state*.so"))


def test_it_reads_what_readelf_reads() -> None:
    try:
        told = subprocess.run(
            ["readelf", "-d", LIBRARY], capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        pytest.skip("needs readelf, of binutils")
    expected = re.findall(r"\(NEEDED\).*\[(.*)\]", told.stdout)
    assert expected
    assert list(needed_by(LIBRARY)) == expected


@pytest.mark.parametrize(
    "data", [b"", b"\x7fELF", b"no ELF at all", b"\x7fELF\x01\x01" + bytes(99)]
)
def test_what_is_no_library(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.so"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.so is no ELF file of 64 bits, little-endian"):
        needed_by(path)


@given(st.integers(64, 3000), st.integers(0, 255))
@example(302, 1)  # an offset that no file system has
def test_a_damaged_library_ends_in_a_plain_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    data = bytearray(LIBRARY.read_bytes()[:4096])
    data[place] = value
    path = tmp_path_factory.mktemp("damaged") / "x.so"
    path.write_bytes(data)
    with contextlib.suppress(ValueError):  # anything else would be a traceback to a user
        assert isinstance(needed_by(path), tuple)


def test_those_that_fail_are_named() -> None:
    assert load_all(["libc.so.6", "libabsent.so.1", "libm.so.6", "libgone.so"]) == (
        "libabsent.so.1",
        "libgone.so",
    )


def test_nvidias_wheels_are_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "nvidia" / "cu99" / "lib"
    folder.mkdir(parents=True)
    maps = Path("/proc/self/maps").read_text()
    (own,) = {
        line.split()[-1] for line in maps.splitlines() if "/libm.so" in line or "/libm-" in line
    }
    (folder / "libfound.so.1").write_bytes(Path(own).read_bytes())
    spec = importlib.machinery.ModuleSpec("nvidia", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "nvidia")]
    monkeypatch.setattr("importlib.util.find_spec", {"nvidia": spec}.get)
    assert list(shared_libraries._in_wheels("libfound.so.1")) == [str(folder / "libfound.so.1")]
    assert load_all(["libfound.so.1", "libother.so.1"]) == ("libother.so.1",)
