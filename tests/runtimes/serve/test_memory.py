"""Memory that large requests have left behind."""

import asyncio

import pytest

from edgeport.runtimes.heap import give_back
from edgeport.runtimes.serve import memory
from edgeport.runtimes.serve.memory import Thrift


def test_what_was_freed_goes_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LOOK_S", 0.01)

    async def large_request() -> tuple[int, int]:
        give_back()  # or tests before this one have left enough for all of it
        thrift = Thrift()
        body = [bytes([1]) * 2**14 for _ in range(8192)]  # 128 MiB, in parts as they arrive
        held = body[::512]  # so that the heap cannot simply end earlier
        del body
        kept = memory._pages()
        await asyncio.sleep(0.1)
        thrift.close()
        return kept - memory._pages(), len(held)

    freed_pages, _ = asyncio.run(large_request())
    assert freed_pages > 2**14
