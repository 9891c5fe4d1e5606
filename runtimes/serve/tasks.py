"""Coroutines that nobody awaits: kept until they end, and never lost in silence."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Tasks:
    """Those of one owner."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()  # the loop alone would not keep them

    def start(
        self, coroutine: Coroutine[Any, Any, None], failed: Callable[[Exception], None]
    ) -> asyncio.Task[None]:
        """Run it in the loop.

        Args:
            coroutine: What to do.
            failed: Called with what it raises.

        Returns:
            What may be cancelled.
        """

        async def run() -> None:
            try:
                await coroutine
            except Exception as e:
                failed(e)

        task = asyncio.get_running_loop().create_task(run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task
