import contextlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeport.runtimes import FormatError, StorageError
from edgeport.runtimes.formats.numpy_files import read_npy, read_npz

X = np.arange(40, dtype=np.float32).reshape(10, 4)


def written(save: object) -> bytes:
    file = io.BytesIO()
    save(file)  # type: ignore[operator]  # a function of numpy's
    return file.getvalue()


WHOLE = [
    written(lambda file: np.savez(file, x=X)),
    written(lambda file: np.savez_compressed(file, x=X)),
    written(lambda file: np.save(file, X)),
]


def test_arrays_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for whole in WHOLE[:2]:
        path.write_bytes(whole)
        assert read_npz(path)["x"].tolist() == X.tolist()
    path.write_bytes(WHOLE[2])
    assert read_npy(path).tolist() == X.tolist()


@pytest.mark.parametrize("dtype", [">f4", ">i8", "<f2", ">u2"])
def test_arrays_of_another_byte_order_are_the_same_numbers_in_that_of_the_machine(
    tmp_path: Path, dtype: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(written(lambda file: np.savez(file, x=np.asfortranarray(X.astype(dtype)))))
    found = read_npz(path)["x"]
    assert found.dtype.isnative
    assert found.tolist() == X.tolist()
    path.write_bytes(written(lambda file: np.save(file, X.astype(dtype))))
    assert read_npy(path).dtype.isnative
    assert read_npy(path).tolist() == X.tolist()


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(written(lambda file: np.savez(file, x=np.array([[1.0], "a"], object))))
    with pytest.raises(FormatError) as caught:
        read_npz(path)
    assert caught.value.problem == (
        f"{path} holds an array of Python objects, a pickle, which is never read"
    )
    assert caught.value.remedy == (
        "save numbers of one type and rows of one length: array.astype('float32')"
    )


@given(st.sampled_from(WHOLE), st.integers(0, 10**4), st.binary(max_size=3), st.integers(0, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_told_or_harmless(
    tmp_path: Path, whole: bytes, place: int, new: bytes, removed: int
) -> None:
    place %= len(whole)
    path = tmp_path / "damaged"
    path.write_bytes(whole[:place] + new + whole[place + removed :])
    for read in (read_npz, read_npy):
        with contextlib.suppress(FormatError, MemoryError):  # of a size that no machine has
            read(path)


def test_what_is_wrong_with_a_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(WHOLE[1][:-30])
    with pytest.raises(FormatError, match=r"damaged is not an \.npz of plain arrays: ") as caught:
        read_npz(path)
    assert caught.value.remedy == "write it with np.savez(path, NAME=array)"


def test_what_is_no_file_of_numpys(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for text in (b"", b"a,b\n1,2\n"):
        path.write_bytes(text)
        for read in (read_npz, read_npy):
            with pytest.raises(FormatError, match=r"plain array.*: it is no file of numpy's"):
                read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(FormatError, match=r"readme\.txt in it is no array"):
        read_npz(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Is a directory"):
        read_npz(tmp_path)
