"""What waits for one model: bounded, put together, dropped when nobody wants it any more.

Everything that arrived in one turn of the event loop runs in the next one, together where the
model allows it: under load batches grow by themselves, and without load nothing is delayed. A
model that answers within a millisecond runs in the loop itself, because a thread would cost more
than that; any other has one thread, so that the loop goes on answering.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from edgeport.runtimes.errors import (
    DeadlineError,
    EdgeportError,
    EngineError,
    InputError,
    OverloadedError,
    UnavailableError,
)
from edgeport.runtimes.inputs import Array

from . import counters as c
from .classes import classify
from .counters import Counters
from .model import Model
from .requests import InferRequest, InferResponse
from .templates import Reader
from .values import shown
from .work import Bounds, Done, Result, Work

INLINE_S: Final = 0.001
"""A model that takes longer gets a thread: health is to be answered meanwhile."""

SURELY_S: Final = 0.02
"""A run that takes longer was slow itself, and not only interrupted."""

LONGEST_BATCH_S: Final = 0.1
"""No batch is made that would take longer: those who wait behind it would pay for it."""


class Scheduler:
    """The queue of one model.

    Attributes:
        busy: Whether a batch is running in the thread.
        model: Whose queue it is.
        reader: Reads requests for it.
    """

    def __init__(self, model: Model, counters: Counters, bounds: Bounds) -> None:
        self.busy = False
        self.model = model
        self.reader = Reader(model.name, model.session.signature, model.raw)
        self._deadline_ns = int(bounds.deadline_s * 1e9)
        self._counters = counters
        self._bounds = bounds
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Work] = deque()
        self._rows = 0
        self._running_rows = 0
        self._bytes = 0
        self._scheduled = False
        self._closed = False
        self._thread: ThreadPoolExecutor | None = None
        self._batches = model.most_rows > 1
        self._row_s = model.first_s
        self._usual_s = model.first_s
        self._quick_bytes = 4 * model.first_bytes  # what is much larger may take much longer

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not self._waiting and not self.busy

    def refuse_overload(self) -> None:
        """Cheap, and before anything is read: a full queue takes nobody.

        Raises:
            OverloadedError: It is full, or what waits would take too long.
        """
        wait_s = (self._rows + self._running_rows) * self._row_s
        if self._rows >= self._bounds.rows or wait_s > self._bounds.deadline_s:
            self._shed(wait_s)

    def submit(self, request: InferRequest, done: Done) -> Work:
        """Let a request wait for its turn.

        Args:
            request: For this model.
            done: Called in the event loop with the answer or the error, once.

        Raises:
            InputError: The inputs do not fit.
            OverloadedError: The queue is full, or what waits would take too long.
            UnavailableError: The model has been unloaded.
        """
        if self._closed:
            raise UnavailableError(
                f"model {self.model.name!r} version {self.model.version} was unloaded",
                remedy="ask for another version, or load it again",
            )
        try:
            timeout_us = _timeout_us(request)
            arrays = self.model.prepare(request)
        except InputError:
            self.count_rejected()
            raise
        now_ns = time.monotonic_ns()
        if self._batches:
            shape = arrays[0].shape
            work = Work(self, request, arrays, shape[0], now_ns, done)
            work.key = shape[1:] if len(arrays) == 1 else [array.shape[1:] for array in arrays]
        else:
            work = Work(self, request, arrays, 1, now_ns, done)
        deadline_ns = now_ns + self._deadline_ns
        if timeout_us:
            deadline_ns = min(deadline_ns, now_ns + timeout_us * 1000)
        if request.deadline is not None:
            deadline_ns = min(deadline_ns, int(request.deadline * 1e9))
        work.deadline_ns = deadline_ns
        if self._waiting or self.busy:
            wait_s = (self._rows + self._running_rows) * self._row_s
            if (
                self._rows + work.rows > self._bounds.rows
                or self._bytes + work.size > self._bounds.size_bytes
                or now_ns + (wait_s + work.rows * self._row_s) * 1e9 > deadline_ns
            ):
                self._shed(wait_s)
        self._waiting.append(work)
        self._rows += work.rows
        self._bytes += work.size
        if not self._scheduled and not self.busy:
            self._schedule()
        return work

    def count_rejected(self) -> None:
        """A request did not fit the model."""
        self._counters.add(c.REJECTED)

    def forget(self, work: Work) -> None:
        """Its client has left. What runs already is let run: the batch has others in it."""
        try:
            self._waiting.remove(work)
        except ValueError:
            return
        self._rows -= work.rows
        self._bytes -= work.size
        self._counters.add(c.LEFT)

    def close(self) -> None:
        """Take nothing any more. What waits is still answered; the engine closes after that."""
        self._closed = True
        if self.idle and not self._scheduled:  # else the turn that follows ends it
            self._end()

    # ---- turns

    def _schedule(self) -> None:
        self._scheduled = True
        delay_s = self._bounds.delay_s
        if delay_s and self._rows < self.model.most_rows:
            self._loop.call_later(delay_s, self._turn)
        else:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self.busy:
            return
        batch = self._take()
        if batch:
            if self._is_quick(batch):
                self._run_here(batch)
            else:
                self._run_in_thread(batch)
        self._counters.set(c.QUEUED_ROWS, self._rows)
        self._counters.set(c.QUEUED_BYTES, self._bytes)
        if self._waiting and not self.busy and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)  # the loop looks at its sockets in between
        elif self._closed and self.idle:
            self._end()

    def _take(self) -> list[Work]:
        """The next requests that may run together, in the order in which they came."""
        waiting = self._waiting
        batch: list[Work] = []
        rows, now_ns = 0, time.monotonic_ns()
        most = self.model.most_rows
        if most > 1 and self._row_s * most > LONGEST_BATCH_S:
            most = max(1, int(LONGEST_BATCH_S / self._row_s))
        while waiting:
            work = waiting[0]
            if work.deadline_ns < now_ns:
                self._expire(waiting.popleft(), now_ns)
                continue
            if batch and (rows + work.rows > most or work.key != batch[0].key):
                break
            waiting.popleft()
            self._rows -= work.rows
            self._bytes -= work.size
            rows += work.rows
            batch.append(work)
            if rows == work.rows:  # the first, which those who join must not make late
                most = min(most, int((work.deadline_ns - now_ns) / (self._row_s * 1e9)))
            if rows >= most:
                break
        return batch

    def _is_quick(self, batch: Sequence[Work]) -> bool:
        size = sum(work.size for work in batch) if len(batch) > 1 else batch[0].size
        return self._usual_s <= INLINE_S and size <= self._quick_bytes * len(batch)

    def _run_here(self, batch: list[Work]) -> None:
        self._answer(batch, *self._compute(batch))

    def _run_in_thread(self, batch: list[Work]) -> None:
        self.busy = True
        self._running_rows = sum(work.rows for work in batch)
        if self._thread is None:
            name = f"edgeport-{self.model.name}"
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._thread.submit(self._compute, batch).add_done_callback(
            lambda future: self._loop.call_soon_threadsafe(self._back, batch, future.result())
        )

    def _back(
        self, batch: list[Work], found: tuple[list[dict[str, Array] | EdgeportError], int, int]
    ) -> None:
        self.busy = False
        self._running_rows = 0
        self._answer(batch, *found)
        if not self._scheduled:
            self._turn()

    # ---- computing, here or in the thread

    def _compute(
        self, batch: list[Work]
    ) -> tuple[list[dict[str, Array] | EdgeportError], int, int]:
        """The outputs of each, and when that began and ended."""
        self._counters.set(c.RUNNING, 1)
        start_ns = time.monotonic_ns()
        try:
            found = self._outputs(batch)
        finally:
            self._counters.set(c.RUNNING, 0)
        return found, start_ns, time.monotonic_ns()

    def _outputs(self, batch: list[Work]) -> list[dict[str, Array] | EdgeportError]:
        run = self.model.run
        try:
            if len(batch) == 1:
                return [run(batch[0].arrays)]
            columns = zip(*[work.arrays for work in batch], strict=True)
            outputs = run([np.concatenate(column) for column in columns])
            return _split(outputs, [work.rows for work in batch])
        except EdgeportError as e:
            if len(batch) == 1:
                return [e]
            return [self._outputs([work])[0] for work in batch]  # whose fault was it?
        except Exception as e:  # whatever an engine raises must not end the loop
            self._defect(e)
            text = f"the engine failed: {type(e).__name__}: {e}"
            return [EngineError(text, remedy="read the server's log")] * len(batch)

    # ---- answers

    def _answer(
        self,
        batch: list[Work],
        found: list[dict[str, Array] | EdgeportError],
        start_ns: int,
        end_ns: int,
    ) -> None:
        self._learn(batch, (end_ns - start_ns) / 1e9)
        answers = [
            outputs if isinstance(outputs, EdgeportError) else self._result(work, outputs)
            for work, outputs in zip(batch, found, strict=True)
        ]
        # First, because whoever has an answer may ask another process for the count.
        self._count(batch, answers, start_ns, end_ns)
        for work, result in zip(batch, answers, strict=True):
            done, work.done = work.done, None
            if done is not None:
                self._tell(done, result)

    def _count(self, batch: list[Work], answers: list[Result], start_ns: int, end_ns: int) -> None:
        counters = self._counters
        counters.batch(
            sum([work.rows for work in batch]) if self._batches else 1, end_ns - start_ns
        )
        good = rejected = queued_ns = total_ns = failed_ns = 0
        for work, result in zip(batch, answers, strict=True):
            latency_ns = end_ns - work.arrived_ns
            if isinstance(result, InputError):
                rejected += 1
            elif isinstance(result, EdgeportError):
                failed_ns += latency_ns
            else:
                good += 1
                total_ns += latency_ns
                queued_ns += start_ns - work.arrived_ns
                counters.observe(latency_ns)
        counters.add(c.SUCCESS, good)
        counters.add(c.SUCCESS_NS, total_ns)
        counters.add(c.QUEUE_NS, queued_ns)
        counters.set(c.LAST_MS, time.time_ns() // 1_000_000)
        if good < len(batch):
            counters.add(c.REJECTED, rejected)
            counters.add(c.FAILED, len(batch) - good - rejected)
            counters.add(c.FAILED_NS, failed_ns)

    def _tell(self, done: Done, result: Result) -> None:
        """What one answer cannot be written for must not cost the others of its batch theirs."""
        try:
            done(result)
        except Exception as e:
            self._defect(e)
            done(EngineError("the answer cannot be written", remedy="read the server's log"))

    def _defect(self, error: Exception) -> None:
        """Let the log have the trace; from any thread."""
        context = {"message": f"model {self.model.name!r} failed", "exception": error}
        self._loop.call_soon_threadsafe(self._loop.call_exception_handler, context)

    def _result(self, work: Work, outputs: dict[str, Array]) -> Result:
        request, model = work.request, self.model
        if request.outputs:
            try:
                outputs = {
                    name: classify(name, outputs[name], classes, model.labels.get(name, ()))
                    if classes
                    else outputs[name]
                    for name, classes in request.outputs
                }
            except EdgeportError as e:
                return e
        return InferResponse(model.name, model.version, outputs, request.id)

    def _learn(self, batch: list[Work], duration_s: float) -> None:
        # Up by steps: the operating system may have taken the CPU away meanwhile.
        per_row_s = duration_s / max(sum([work.rows for work in batch]), 1)
        if per_row_s > self._row_s:
            self._row_s = min((self._row_s + per_row_s) / 2, 2 * self._row_s)
        else:
            self._row_s += (per_row_s - self._row_s) * 0.1  # a queue that is too long is worse
        if duration_s > self._usual_s:
            most_s = duration_s if duration_s > SURELY_S else 2 * self._usual_s
            self._usual_s = min(duration_s, most_s)
        else:
            self._usual_s = max(duration_s, 0.8 * self._usual_s)
        if duration_s <= INLINE_S:
            self._quick_bytes = max(self._quick_bytes, 4 * max(work.size for work in batch))

    def _expire(self, work: Work, now_ns: int) -> None:
        self._rows -= work.rows
        self._bytes -= work.size
        self._counters.add(c.EXPIRED)
        waited_s = (now_ns - work.arrived_ns) / 1e9
        done, work.done = work.done, None
        if done is not None:
            done(
                DeadlineError(
                    f"the request waited {waited_s:.3f} s, longer than it may",
                    remedy="send less at a time, or allow more: --deadline, or 'timeout'",
                )
            )

    def _shed(self, wait_s: float) -> None:
        self._counters.add(c.SHED)
        raise OverloadedError(
            f"model {self.model.name!r} has {self._rows} rows waiting, for about {wait_s:.2f} s",
            remedy="try again later, or send less at a time",
        )

    def _end(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False)
        self.model.session.close()


def _timeout_us(request: InferRequest) -> int | None:
    """How long the client lets it wait; 0 is for ever, as for Triton's."""
    given = request.parameters.get("timeout") if request.parameters else None
    if given is not None and (type(given) is not int or given < 0):
        raise InputError(
            f"the timeout of the request is {shown(given)}, expected microseconds",
            remedy='send {"timeout": 500000}, for example',
        )
    return given


def _split(
    outputs: dict[str, Array], rows: Sequence[int]
) -> list[dict[str, Array] | EdgeportError]:
    found: list[dict[str, Array] | EdgeportError] = []
    items, start = list(outputs.items()), 0
    for count in rows:
        stop = start + count
        found.append({name: array[start:stop] for name, array in items})
        start = stop
    return found
