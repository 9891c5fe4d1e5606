"""Requests that are read in threads."""

import asyncio
import threading

import pytest

from edgeport.runtimes import DeadlineError, OverloadedError
from edgeport.runtimes.serve.reading import Reading


def test_what_has_waited_too_long_is_not_read() -> None:
    reading = Reading(longest_s=-1.0)
    with pytest.raises(DeadlineError, match="s to be read, longer than it may"):
        asyncio.run(reading.read(1, lambda: pytest.fail("it was read")))
    reading.close()


def test_no_more_waits_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeport.runtimes.serve.reading.MOST_WAITING_BYTES", 10)

    async def crowd() -> None:
        reading, go = Reading(60.0), threading.Event()
        first = asyncio.create_task(reading.read(11, go.wait))  # one may be longer
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="11 bytes of other requests wait to be read"):
            await reading.read(1, go.wait)
        go.set()
        assert await first
        assert await reading.read(10, go.wait)  # there is room again
        reading.close()

    asyncio.run(crowd())


def test_what_nobody_waits_for_is_not_read() -> None:
    async def leave() -> None:
        reading, go, read = Reading(60.0), threading.Event(), list[int]()
        busy = [asyncio.create_task(reading.read(1, go.wait)) for _ in range(2)]
        left = asyncio.create_task(reading.read(1, lambda: read.append(1)))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*busy)
        await reading.read(1, lambda: read.append(2))
        assert read == [2]
        reading.close()

    asyncio.run(leave())
