"""What only a GPU can show: memory that is really there, copies that arrive, time that passes."""

import gc

import numpy as np
import pytest

from edgeport.runtimes import BackendMissingError, EngineError
from edgeport.runtimes.cuda.device import Context, devices
from edgeport.runtimes.cuda.driver import driver
from edgeport.runtimes.cuda.memory import DeviceMemory, PinnedMemory, Staging
from edgeport.runtimes.cuda.stream import Event, Stream

pytestmark = pytest.mark.gpu

_MIB = 2**20


@pytest.fixture
def context() -> Context:
    try:
        return Context(0)
    except BackendMissingError as e:
        pytest.skip(e.problem)


def test_a_gpu_says_what_it_is(context: Context) -> None:
    first = devices()[0]
    assert first == context.device
    assert first.name
    assert first.compute_capability >= (5, 0)
    assert context.free_bytes() > 0
    assert driver().cuda_version >= (11, 0)


def test_a_gpu_that_is_not_there(context: Context) -> None:
    with pytest.raises(BackendMissingError, match=r"^cannot use cuda:999: there is no GPU of that"):
        Context(999)


def test_what_is_copied_there_comes_back(context: Context) -> None:
    stream, memory = Stream(context), DeviceMemory(context, 1 << 20)
    there, back = PinnedMemory(context, 1 << 20), PinnedMemory(context, 1 << 20)
    there.bytes[:] = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)
    back.bytes[:] = 0
    with context.current():
        stream.copy_to_device(memory.address, there.address, 1 << 20)
        stream.copy_to_host(back.address, memory.address, 1 << 20)
        stream.wait()
    np.testing.assert_array_equal(back.bytes, there.bytes)


def test_staged_tensors_arrive_side_by_side(context: Context) -> None:
    stream, staging = Stream(context), Staging(context)
    for scale in (1, 1000, 3):  # grows, then is used again
        arrays = [np.arange(5 * scale, dtype="f4"), np.arange(7 * scale, dtype="i8")]
        offsets = staging.reserve([array.nbytes for array in arrays])
        views = [
            staging.host(offset, array.shape, array.dtype)
            for offset, array in zip(offsets, arrays, strict=True)
        ]
        for view, array in zip(views, arrays, strict=True):
            view[...] = array
        with context.current():
            staging.upload(stream)
            stream.wait()
            for view in views:
                view[...] = 0
            staging.download(stream)
            stream.wait()
        for view, array in zip(views, arrays, strict=True):
            np.testing.assert_array_equal(view, array)


def test_events_measure_what_the_gpu_does(context: Context) -> None:
    stream, size = Stream(context), 64 * _MIB
    memory, pinned = DeviceMemory(context, size), PinnedMemory(context, size)
    start, end = Event(context), Event(context)
    with context.current():
        start.record(stream)
        for _ in range(10):
            stream.copy_to_device(memory.address, pinned.address, size)
        end.record(stream)
        stream.wait()
        milliseconds = end.milliseconds_since(start)
    assert 0.5 < milliseconds < 10_000  # 640 MiB: no bus brings 1 TiB/s


def test_more_memory_than_there_is(context: Context) -> None:
    with pytest.raises(
        EngineError,
        match=r"^cannot allocate \S+ MiB on cuda:0: the GPU has not enough memory "
        r"\(CUDA_ERROR_OUT_OF_MEMORY\)\n  fix: close other sessions",
    ):
        DeviceMemory(context, 2**40)
    DeviceMemory(context, _MIB).close()  # and it goes on


def test_memory_comes_back_when_nobody_refers_to_it(context: Context) -> None:
    DeviceMemory(context, _MIB).close()
    before = context.free_bytes()
    for _ in range(20):
        DeviceMemory(context, 64 * _MIB)
    gc.collect()
    assert context.free_bytes() > before - 128 * _MIB
