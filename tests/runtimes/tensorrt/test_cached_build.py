"""Real engines, built ahead of time without a GPU, kept and used again."""

import os
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from edgeport.runtimes import BackendMissingError, Signature
from edgeport.runtimes.cuda import driver
from edgeport.runtimes.cuda.gpus import gpus
from edgeport.runtimes.tensorrt import building, cached_build
from edgeport.runtimes.tensorrt.building import build
from edgeport.runtimes.tensorrt.cache import EngineCache
from edgeport.runtimes.tensorrt.cached_build import build_or_reuse, engine_key
from edgeport.runtimes.tensorrt.library import Library
from edgeport.runtimes.tensorrt.order import Bounds, Built, EngineOptions, Order, Refused
from edgeport.runtimes.tensorrt.tensors import carry


@pytest.fixture
def order(tmp_path: Path, mlp_onnx: bytes, signature: Signature) -> Order:
    (tmp_path / "model.onnx").write_bytes(mlp_onnx)
    shapes = {"x": Bounds((1, 8), (4, 8), (64, 8))}
    options = EngineOptions(compute_capabilities=("8.6",))
    paths = (str(tmp_path / "model.onnx"), str(tmp_path / "model.rtx"))
    return Order("tensorrt-rtx", *paths, signature, shapes, options=options)


def not_needed() -> Built | Refused:
    raise AssertionError("the engine should have been there")


def test_an_engine_is_built_once_and_carries_its_signature(
    tmp_path: Path, order: Order, rtx: Library, signature: Signature
) -> None:
    cache = EngineCache(tmp_path / "engines")
    answer, note = build_or_reuse(order, rtx, cache, lambda: build(order, 120))
    assert isinstance(answer, Built)
    assert note is None
    engine = Path(order.engine).read_bytes()
    carried = carry(signature)
    assert carried is not None
    assert carried.encode() in engine
    Path(order.engine).unlink()
    assert build_or_reuse(order, rtx, cache, not_needed) == (answer, None)
    assert Path(order.engine).read_bytes() == engine
    (entry,) = cache.folder.iterdir()
    damaged = bytearray(entry.read_bytes())
    damaged[-1] ^= 1
    entry.write_bytes(damaged)
    again, note = build_or_reuse(order, rtx, cache, lambda: build(order, 120))
    assert isinstance(again, Built)
    assert note == "the entry was not used: it is damaged"


def test_it_is_in_the_users_cache(
    tmp_path: Path, order: Order, rtx: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    first = cached_build.build(order, 120)
    assert isinstance(first, Built)
    monkeypatch.setattr(building, "build", not_needed)
    assert cached_build.build(order, 120) == first
    (tmp_path / "caches" / "edgeport" / "engines" / engine_key(order, rtx).file).chmod(0o666)
    monkeypatch.setattr(building, "build", lambda *_: Built(rtx.version))
    again = cached_build.build(order, 120)
    assert isinstance(again, Built)
    assert again.warnings == (
        "the cache of engines: the entry was not used: it is no file that only this user can write",
    )


def test_without_a_place_to_keep_it(
    order: Order, rtx: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.setattr(building, "build", lambda *_: Built(rtx.version))
    answer = cached_build.build(order, 120)
    assert isinstance(answer, Built)
    (warning,) = answer.warnings
    assert warning.startswith("the cache of engines: there is no place to keep engines: Could not")


def test_a_refusal_is_not_kept(tmp_path: Path, order: Order, rtx: Library) -> None:
    cache = EngineCache(tmp_path / "engines")
    refused = Refused("parse", ())
    assert build_or_reuse(order, rtx, cache, lambda: refused) == (refused, None)
    assert not cache.folder.exists()


def test_whatever_changes_the_engine_changes_its_key(
    tmp_path: Path, order: Order, rtx: Library, mlp_onnx: bytes
) -> None:
    key = engine_key(order, rtx)
    assert (key.library, key.version) == ("tensorrt-rtx", rtx.version)
    assert (key.gpu, key.compute_capability) == ("", "8.6")
    same = replace(
        order,
        engine=str(tmp_path / "elsewhere.rtx"),
        options=replace(order.options, timing_cache="times"),
    )
    assert engine_key(same, rtx) == key
    others = [
        replace(order, shapes={"x": Bounds((1, 8), (4, 8), (65, 8))}),
        replace(order, signature=replace(order.signature, ranges={})),
        replace(order, options=replace(order.options, refit=True)),
        replace(order, options=replace(order.options, compute_capabilities=("8.6", "8.9"))),
        replace(order, options=replace(order.options, workspace_bytes=2**20)),
    ]
    files = {engine_key(each, rtx).file for each in others}
    assert len(files | {key.file}) == len(others) + 1
    Path(order.onnx).write_bytes(mlp_onnx + b"\x0a\x00")
    assert engine_key(order, rtx).onnx_sha256 != key.onnx_sha256


def test_weights_in_files_of_their_own_count(
    tmp_path: Path, order: Order, rtx: Library, mlp_onnx: bytes
) -> None:
    model = onnx.load_from_string(mlp_onnx)
    onnx.save(model, order.onnx, save_as_external_data=True, location="w", size_threshold=0)
    before = engine_key(order, rtx).onnx_sha256
    with (tmp_path / "w").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    assert engine_key(order, rtx).onnx_sha256 != before


def test_an_engine_for_this_gpu_needs_one(
    order: Order, rtx: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "LIBRARIES", ("libcuda-of-nobody.so.1",))
    gpus.cache_clear()
    with pytest.raises(BackendMissingError, match=r"^a GPU is needed, and no NVIDIA driver"):
        engine_key(order, replace(rtx, name="tensorrt"))
