"""The cache of engines: what was asked for or nothing, whoever else writes and whatever breaks."""

import dataclasses
import multiprocessing
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeport.runtimes import StorageError
from edgeport.runtimes.tensorrt.cache import EngineCache, EngineKey, default_folder

KEY = EngineKey(
    onnx_sha256="ab" * 32,
    library="tensorrt",
    version="10.13.3.9",
    gpu="NVIDIA GeForce RTX 4090",
    compute_capability="8.9",
    options={"profile": {"x": [[1, 8], [4, 8], [16, 8]]}, "refit": False},
)
ENGINE = bytes(range(256)) * 3


def not_needed() -> bytes:
    raise AssertionError("the entry should have been used")


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def entry(cache: EngineCache, key: EngineKey = KEY) -> Path:
    return cache.folder / key.file


def test_what_was_built_is_not_built_again(cache: EngineCache) -> None:
    first = cache.get(KEY, lambda: ENGINE)
    assert (first.data, first.built, first.note) == (ENGINE, True, None)
    again = cache.get(KEY, not_needed)
    assert (again.data, again.built, again.note) == (ENGINE, False, None)
    assert stat.S_IMODE(entry(cache).stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert [path.name for path in cache.folder.iterdir()] == [KEY.file]


OTHERS = [
    ("onnx_sha256", "cd" * 32),
    ("library", "tensorrt-rtx"),
    ("version", "10.13.3.10"),
    ("gpu", "NVIDIA GeForce RTX 4080"),
    ("compute_capability", "8.6"),
    ("options", {"profile": {"x": [[1, 8], [4, 8], [17, 8]]}, "refit": False}),
]


def test_every_field_of_a_key_has_another() -> None:
    assert [name for name, _ in OTHERS] == [field.name for field in dataclasses.fields(KEY)]


@pytest.mark.parametrize(("field", "value"), OTHERS)
def test_another_key_is_another_engine(cache: EngineCache, field: str, value: Any) -> None:
    cache.get(KEY, lambda: ENGINE)
    other = dataclasses.replace(KEY, **{field: value})
    assert cache.get(other, lambda: b"other").built
    assert cache.get(KEY, not_needed).data == ENGINE
    assert cache.get(other, not_needed).data == b"other"


def test_the_order_of_options_does_not_matter() -> None:
    reversed_options = dict(reversed(list(KEY.options.items())))
    assert dataclasses.replace(KEY, options=reversed_options).file == KEY.file


@pytest.mark.parametrize(("field", "value"), OTHERS)
def test_an_entry_under_the_name_of_another_is_not_used(
    cache: EngineCache, field: str, value: Any
) -> None:
    other = dataclasses.replace(KEY, **{field: value})
    cache.get(other, lambda: b"other")
    entry(cache, other).rename(entry(cache))
    found = cache.get(KEY, lambda: ENGINE)
    assert (found.data, found.built) == (ENGINE, True)
    assert found.note == "the entry was not used: it is of another key, or damaged"
    assert cache.get(KEY, not_needed).data == ENGINE


def whole() -> bytes:
    import hashlib

    from edgeport.runtimes.tensorrt import cache as module

    return module._head(KEY) + hashlib.sha256(ENGINE).digest() + ENGINE


damages = st.one_of(
    st.tuples(st.integers(0, len(whole()) - 1), st.integers(1, 255)).map(
        lambda each: (
            whole()[: each[0]] + bytes([whole()[each[0]] ^ each[1]]) + whole()[each[0] + 1 :]
        )
    ),
    st.integers(0, len(whole()) - 1).map(lambda size: whole()[:size]),
    st.binary(min_size=1, max_size=64).map(lambda more: whole() + more),
    st.tuples(st.integers(0, len(whole())), st.binary(min_size=1, max_size=64)).map(
        lambda each: whole()[: each[0]] + each[1] + whole()[each[0] :]
    ),
    st.binary(max_size=2000),
)


@given(damages)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_entry_is_built_again_wherever_it_is_damaged(
    cache: EngineCache, damaged: bytes
) -> None:
    cache.folder.mkdir(exist_ok=True)
    entry(cache).write_bytes(damaged)
    entry(cache).chmod(0o600)
    found = cache.get(KEY, lambda: ENGINE)
    assert (found.data, found.built) == (ENGINE, True)
    assert found.note is not None
    assert found.note.startswith("the entry was not used: it is ")
    assert entry(cache).read_bytes() == whole()


@pytest.mark.parametrize("region", ["magic", "length", "key", "digest", "engine", "end"])
def test_each_region_is_covered(cache: EngineCache, region: str) -> None:
    cache.get(KEY, lambda: ENGINE)
    data = bytearray(entry(cache).read_bytes())
    assert data == whole()
    head = len(data) - len(ENGINE) - 32
    place = {
        "magic": 0,
        "length": head - len(KEY.to_bytes()) - 8,
        "key": head - 1,
        "digest": head,
        "engine": head + 32,
        "end": len(data) - 1,
    }[region]
    data[place] ^= 1
    entry(cache).write_bytes(data)
    assert cache.get(KEY, lambda: ENGINE).built
    assert not cache.get(KEY, not_needed).built


def others_can_write(path: Path) -> None:
    path.chmod(0o622)


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def a_strangers(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, 12345)


NOT_OURS = "the entry was not used: it is no file that only this user can write"


@pytest.mark.parametrize(
    ("spoil", "note"),
    [
        (others_can_write, NOT_OURS),
        (a_strangers, NOT_OURS),
        (a_pipe, NOT_OURS),
        (a_link, "the entry cannot be read: Too many levels of symbolic links"),
    ],
)
def test_what_another_could_have_written_is_not_used(
    cache: EngineCache, spoil: Callable[[Path], None], note: str
) -> None:
    cache.get(KEY, lambda: ENGINE)
    spoil(entry(cache))
    assert cache.get(KEY, lambda: ENGINE).note == note
    assert cache.get(KEY, not_needed).data == ENGINE


def test_a_folder_in_the_place_of_an_entry(cache: EngineCache) -> None:
    entry(cache).mkdir(parents=True)
    found = cache.get(KEY, lambda: ENGINE)
    assert (found.data, found.built) == (ENGINE, True)
    assert found.note is not None
    assert found.note.startswith(f"{NOT_OURS}; not kept: ")
    assert found.note.endswith(" is a folder, and a file is to be written there")


def test_a_build_that_fails_leaves_nothing(cache: EngineCache) -> None:
    def fail() -> bytes:
        raise RuntimeError("refused")

    with pytest.raises(RuntimeError, match="refused"):
        cache.get(KEY, fail)
    assert not cache.folder.exists()


def test_a_full_disk_stops_nobody(full_disk: Path) -> None:
    cache = EngineCache(full_disk / "engines")
    large = bytes(200_000)
    found = cache.get(KEY, lambda: large)
    assert (found.data, found.built) == (large, True)
    assert found.note is not None
    assert found.note.startswith(f"not kept: cannot write {cache.folder / KEY.file}: No space left")
    assert list(cache.folder.iterdir()) == []


def test_what_was_not_used_for_longest_goes_first(cache: EngineCache) -> None:
    keys = [dataclasses.replace(KEY, version=str(number)) for number in range(4)]
    size = len(whole())
    cache = EngineCache(cache.folder, largest_bytes=3 * size)
    for number, key in enumerate(keys[:3]):
        cache.get(key, lambda: ENGINE)
        os.utime(entry(cache, key), (number, number))
    cache.get(keys[0], not_needed)  # used now
    cache.get(keys[3], lambda: ENGINE)
    assert not entry(cache, keys[1]).exists()
    for key in (keys[0], keys[2], keys[3]):
        assert not cache.get(key, not_needed).built


def test_what_is_larger_than_the_cache_is_not_kept(cache: EngineCache) -> None:
    cache = EngineCache(cache.folder, largest_bytes=100)
    found = cache.get(KEY, lambda: ENGINE)
    assert found.note == f"not kept: {len(whole())} bytes are more than the cache's 100"
    assert not cache.folder.exists()


_KILLED = """
import os, signal, sys
from pathlib import Path
from edgeport.runtimes import files
with files.new_file(Path(sys.argv[1])) as file:
    file.write(bytes(1000))
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed(cache: EngineCache) -> None:
    other = dataclasses.replace(KEY, version="1")
    cache.folder.mkdir()
    command = [sys.executable, "-c", _KILLED, str(entry(cache, other))]
    assert subprocess.run(command, check=False).returncode < 0
    assert len(list(cache.folder.iterdir())) == 1
    cache.get(KEY, lambda: ENGINE)
    assert [path.name for path in cache.folder.iterdir()] == [KEY.file]


ROUNDS, KEYS = 60, 5


def _work(folder: Path, seed: int, failures: "multiprocessing.Queue[str]") -> None:
    import random

    chosen = random.Random(seed)
    cache = EngineCache(folder, largest_bytes=3 * 20_000)
    for _ in range(ROUNDS):
        number = chosen.randrange(KEYS)
        key = dataclasses.replace(KEY, version=str(number))
        expected = bytes([number]) * (15_000 + 1000 * number)
        found = cache.get(key, lambda data=expected: data)  # type: ignore[misc]  # bound now
        if found.data != expected or found.note is not None:
            failures.put(f"{number}: {len(found.data)} bytes, {found.note}")
        if chosen.random() < 0.1:
            (folder / key.file).unlink(missing_ok=True)


@pytest.mark.slow
def test_processes_that_write_read_and_evict_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    failures = spawn.Queue()
    processes = [
        spawn.Process(target=_work, args=(tmp_path / "engines", seed, failures))
        for seed in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert failures.empty(), failures.get()
    left = list((tmp_path / "engines").iterdir())
    assert left
    assert all(path.suffix == ".engine" for path in left)
    assert sum(path.stat().st_size for path in left) <= 4 * 21_000  # each keeps its newest


def test_it_is_in_the_users_folder_of_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EngineCache().folder == tmp_path / "edgeport" / "engines"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert default_folder() == tmp_path / "home" / ".cache" / "edgeport" / "engines"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(StorageError, match=r"no place to keep engines: Could.*\n  fix: set XDG_"):
        default_folder()
