import io
import zipfile

import pytest
from hostile import zipped
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes.safety import zip_directory
from edgeport.runtimes.safety.zip_directory import DEFLATED, STORED, read_directory


def read(data: bytes, most: int = 100) -> dict[str, zip_directory.Member]:
    return read_directory(io.BytesIO(data), len(data), most)


@given(st.dictionaries(st.text(min_size=1, alphabet="ab_é"), st.binary(max_size=50), max_size=5))
def test_it_finds_what_zipfile_wrote(files: dict[str, bytes]) -> None:
    data = zipped(files)
    found = read(data)
    assert list(found) == list(files)
    for name, member in found.items():
        assert member.method == STORED
        assert data[member.offset : member.offset + member.size_bytes] == files[name]


def test_what_is_compressed_is_told() -> None:
    (member,) = read(zipped({"a": bytes(1000)}, zipfile.ZIP_DEFLATED)).values()
    assert (member.method, member.size_bytes) == (DEFLATED, 1000)
    assert member.stored_bytes < 100


def test_sizes_that_need_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 3)  # of zipfile: what is larger is written so
    data = zipped({"first": b"0123456789", "second": b"a"})
    assert data.count(b"PK\6\6") == 1
    found = read(data)
    assert [member.size_bytes for member in found.values()] == [10, 1]
    place = found["first"].offset
    assert data[place : place + 10] == b"0123456789"
    with pytest.raises(ValueError, match="its end is not where it should be"):
        read(b"x" + data)


def test_more_members_than_are_expected() -> None:
    with pytest.raises(ValueError, match="it has 3 members, at most 2 are expected"):
        read(zipped({"a": b"", "b": b"", "c": b""}), 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too short"),
        (bytes(100), "it is no zip file, or was cut off, or something is behind its end"),
        (zipped({"a": b"x"}) + b"\n", "something is behind its end"),
        (b"x" + zipped({"a": b"x"}), "its directory does not end where it should"),
        (zipped({"a": b"x"})[:-30], "something is behind its end"),
    ],
    ids=["empty", "no zip", "more behind", "more before", "cut off"],
)
def test_what_is_no_zip(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(data)


GOOD = zipped({"first": b"0123456789", "second": b"abcdefghij"})
ENTRY = GOOD.index(b"PK\1\2")


@pytest.mark.parametrize(
    ("place", "new", "message"),
    [
        (ENTRY + 8, b"\1\0", "'first' is encrypted"),
        (ENTRY + 8, b"\0\x20", "'first' is encrypted"),
        (ENTRY + 10, b"\x63\0", "'first' is compressed by method 99"),
        (ENTRY + 20, b"\xf0\xff\0\0\xf0\xff\0\0", "'first' is longer than the file"),
        (ENTRY + 24, b"\5\0", "'first' has two sizes"),
        (ENTRY + 20, b"\xff\xff\xff\xff", "a size does not fit, and nothing says what it is"),
        (ENTRY + 28, b"\4\0", "'firs' has another name in its own header"),
        (ENTRY + 38, b"\0\0\xff\xa1", "'first' is no regular file, but a link or a folder"),
        (ENTRY + 42, b"\xff\xff\0\0", "'first' lies outside"),
        (ENTRY + 42, b"\1\0\0\0", "the header of 'first' is damaged"),
        (ENTRY + 46, b"fxrst", "'fxrst' has another name in its own header"),
        (ENTRY + 46, b"\xff", r"the name b'\\xffirst' is not UTF-8"),
        (0, b"X", "the header of 'first' is damaged"),
        (8, b"\x08", "the header of 'first' is damaged"),
        (26, b"\xff\0", "'first' has another name in its own header"),
        (28, b"\xff\xff", "'first' is longer than the file"),
    ],
)
def test_what_readers_could_read_differently(place: int, new: bytes, message: str) -> None:
    data = GOOD[:place] + new + GOOD[place + len(new) :]
    with pytest.raises(ValueError, match=message):
        read(data)


def test_one_name_twice_and_one_place_twice() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a", "x")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a", "y")
    with pytest.raises(ValueError, match="'a' is in it twice"):
        read(made.getvalue())
    data = bytearray(zipped({"aa": b"x", "ab": b"y"}))
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    data[second + 42 : second + 46] = bytes(4)
    data[second + 46 : second + 48] = b"aa"
    with pytest.raises(ValueError, match="'aa' is in it twice"):
        read(bytes(data))


def test_members_that_overlap() -> None:
    inner = zipped({"b": b"x"})[:32]  # a header and a byte, hidden in the data of another member
    data = bytearray(zipped({"a": inner, "b": b"x"}))
    entry = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    data[entry + 42 : entry + 46] = (31).to_bytes(4, "little")
    with pytest.raises(ValueError, match="'b' overlaps another member"):
        read(bytes(data))


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=4), st.integers(0, 4))
def test_damage_is_refused_or_harmless(place: int, new: bytes, removed: int) -> None:
    data = GOOD[:place] + new + GOOD[place + removed :]
    try:
        found = read(data)
    except ValueError:
        return
    for member in found.values():
        assert member.offset + member.stored_bytes <= len(data)
