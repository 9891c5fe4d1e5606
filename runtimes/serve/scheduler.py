"""What waits for one model: bounded, put together, dropped when nobody wants it any more.

Everything that arrived in one turn of the event loop runs in the next one, together where the
model allows it: under load batches grow by themselves, and without load nothing is delayed. A
model that answers within a millisecond runs in the loop itself, because a thread would cost more
than that; any other has one thread, so that the loop goes on answering. So has one that may not
come back, because it loops or runs on a GPU: those who wait are told when their time is over, and
nothing more is taken until it answers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

from edgeport.runtimes.errors import (
    DeadlineError,
    EdgeportError,
    EngineError,
    InputError,
    LostGpuError,
    OverloadedError,
    UnavailableError,
)

from . import answers
from . import counters as c
from .batch_queue import Batch, BatchQueue
from .counters import Counters
from .model import Model
from .requests import InferRequest
from .run_times import RunTimes
from .templates import Reader
from .work import NEVER_NS, Bounds, Done, Result, Work, client_deadline

PROMISED: Final = 0.8
"""Part of its time within which a request must be expected to be done: estimates are not exact."""

LOOK_S: Final = 0.05
"""How often it is looked, while a model runs in its thread, whose time is over."""

_PROMISE: Final = 1e9 / PROMISED

_Ran: TypeAlias = tuple[list[Result], int, int]
"""What each is answered, and when that began and ended."""


class Scheduler:
    """The queue of one model.

    Attributes:
        hangs: Whether a run has taken longer than any may: the model is as good as none.
        model: Whose queue it is.
        reader: Reads requests for it.
    """

    def __init__(self, model: Model, counters: Counters, bounds: Bounds) -> None:
        self.hangs = False
        self.model = model
        self.reader = Reader(model.name, model.session.signature, model.raw)
        self._bounds = bounds
        self._longest_ns = int(bounds.deadline_s * 1e9)
        self._longest_run_ns = int(bounds.run_s * 1e9)
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._times = RunTimes(model.first_runs)
        self._waiting = BatchQueue(model.most_rows, self._times)
        self._running: Batch | None = None  # in the thread
        self._began_ns = 0
        self._looking = False
        self._scheduled = False
        self._shedding = False
        self._closed = False
        self._thread: ThreadPoolExecutor | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not self._waiting and self._running is None

    @property
    def why_not_ready(self) -> str:
        """What is wrong with it; empty if it answers."""
        if not self.hangs:
            return ""
        return f"a run has taken more than {self._bounds.run_s:g} s, and goes on"

    def refuse_overload(self) -> None:
        """Cheap, and before anything is read: whoever comes after one that was refused.

        Raises:
            OverloadedError: The queue is full still, or what waits would take too long.
        """
        if self._shedding and (
            self._waiting.rows >= self._bounds.rows
            or self._waiting.wait_s(time.monotonic_ns()) * _PROMISE > self._longest_ns
        ):
            self._shed()

    def submit(self, request: InferRequest, done: Done) -> Work:
        """Let a request wait for its turn.

        Args:
            request: For this model.
            done: Called in the event loop with the answer or the error, once.

        Raises:
            InputError: The inputs do not fit.
            OverloadedError: The queue is full, or what waits would take too long.
            UnavailableError: The model has been unloaded, or hangs.
        """
        if self._closed:
            raise UnavailableError(
                f"model {self.model.name!r} version {self.model.version} was unloaded",
                remedy="ask for another version, or load it again",
            )
        if self.hangs:
            raise self._hanging()
        work = self._work(request, done)
        waiting = self._waiting
        alone = self._running is None and not waiting
        waiting.add(work)
        if not alone and not self._is_kept(work):
            waiting.remove_last()
            self._shed(work)
        self._shedding = False
        if not self._scheduled and self._running is None:
            self._schedule()
        return work

    def count_refused(self, error: EdgeportError) -> None:
        """A request for this model was refused before it could wait here."""
        kinds = {InputError: c.REJECTED, OverloadedError: c.SHED, DeadlineError: c.EXPIRED}
        for kind, counter in kinds.items():
            if isinstance(error, kind):
                self._counters.add(counter)

    def forget(self, work: Work) -> None:
        """Its client has left. What runs already is let run: the batch has others in it."""
        if self._waiting.remove(work):
            self._counters.add(c.LEFT)

    def close(self) -> None:
        """Take nothing any more. What waits is still answered; the engine closes after that."""
        self._closed = True
        if self.idle and not self._scheduled:  # else the turn that follows ends it
            self._end()

    def give_up(self) -> int:
        """The server ends, and waits no longer: tell those who have no answer, and count them."""
        error = UnavailableError(
            "the server has ended before the model answered", remedy="ask another server"
        )
        left = self._waiting.take_late(NEVER_NS)
        left += [work for work in self._running_works if work.done is not None]
        for work in left:
            self._lose(work, error)
        return len(left)

    # ---- what is taken

    def _work(self, request: InferRequest, done: Done) -> Work:
        now_ns = time.monotonic_ns()
        try:
            client_ns = client_deadline(request, now_ns)
            arrays = self.model.prepare(request)
        except InputError as e:
            self.count_refused(e)
            raise
        batches = self.model.most_rows > 1
        return Work(self, request, arrays, batches, now_ns, self._longest_ns, client_ns, done)

    def _is_kept(self, work: Work) -> bool:
        """Whether there is room for it, and time, now that it waits with the others."""
        waiting, bounds = self._waiting, self._bounds
        return (
            waiting.rows <= bounds.rows
            and waiting.size_bytes <= bounds.size_bytes
            and waiting.wait_s(work.arrived_ns) * _PROMISE <= work.deadline_ns - work.arrived_ns
        )

    def _shed(self, work: Work | None = None) -> None:
        self._counters.add(c.SHED)
        if work is not None and work.rows > self._bounds.rows:
            raise OverloadedError(
                f"model {self.model.name!r} is at work, and {work.rows} rows of one request are "
                f"more than may wait, {self._bounds.rows}",
                remedy="send fewer at a time, try again later, or allow more: --max-queue-rows",
            )
        self._shedding = True
        rows, wait_s = self._waiting.rows, self._waiting.wait_s(time.monotonic_ns())
        raise OverloadedError(
            f"model {self.model.name!r} has work for about {wait_s:.2f} s, and {rows} rows waiting",
            remedy="try again later, or send less at a time",
        )

    # ---- turns

    def _schedule(self) -> None:
        self._scheduled = True
        delay_s = self._bounds.delay_s
        if delay_s and self._waiting.rows < self.model.most_rows:
            self._loop.call_later(delay_s, self._turn)
        else:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._running is not None:
            return
        batch, late = self._waiting.take(time.monotonic_ns())
        for work in late:
            self._expire(work)
        if batch.works:
            if not self.model.may_hang and self._times.is_quick(batch.size_bytes):
                self._answer(batch, self._compute(batch))
            else:
                self._start(batch)
        self._gauge()
        if self._waiting and self._running is None and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)  # the loop looks at its sockets in between
        elif self._closed and self.idle:
            self._end()

    def _gauge(self) -> None:
        self._counters.set(c.QUEUED_ROWS, self._waiting.rows)
        self._counters.set(c.QUEUED_BYTES, self._waiting.size_bytes)

    def _start(self, batch: Batch) -> None:
        self._running, self._began_ns = batch, time.monotonic_ns()
        run_s = self._times.expect(batch.size_bytes)
        self._waiting.until_ns = self._began_ns + int(run_s * 1e9)
        self._run_in_thread(batch)
        if not self._looking:
            self._look_later()

    def _run_in_thread(self, batch: Batch) -> None:
        if self._thread is None:
            name = f"edgeport-{self.model.name}"
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._thread.submit(self._compute, batch).add_done_callback(
            lambda future: self._loop.call_soon_threadsafe(self._back, batch, future.result())
        )

    def _back(self, batch: Batch, ran: _Ran) -> None:
        self._running, self.hangs = None, False
        self._waiting.until_ns = 0
        self._answer(batch, ran)
        if not self._scheduled:
            self._turn()

    def _compute(self, batch: Batch) -> _Ran:
        """Here or in the thread."""
        start_ns = time.monotonic_ns()
        self._counters.set(c.RUNNING, start_ns)
        try:
            found = self._results(batch)
        finally:
            self._counters.set(c.RUNNING, 0)
        return found, start_ns, time.monotonic_ns()

    def _results(self, batch: Batch) -> list[Result]:
        outputs = answers.compute(self.model, batch.works, self._defect, self._lost)
        pairs = zip(batch.works, outputs, strict=True)
        return [answers.result_of(self.model, work, each, self._defect) for work, each in pairs]

    # ---- runs that take long

    def _look_later(self) -> None:
        self._looking = True
        self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """Whose time is over is told, for no turn comes while a model runs."""
        self._looking = False
        if self._running is None:
            return
        now_ns = time.monotonic_ns()
        for work in self._waiting.take_late(now_ns):
            self._expire(work)
        ran_ns = now_ns - self._began_ns
        hangs = ran_ns > self._longest_run_ns
        for work in self._running_works:
            if work.done is not None and (hangs or work.client_ns < now_ns):
                text = f"the model has run for {ran_ns / 1e9:.3f} s, and has no answer yet"
                remedy = "ask for less at a time, or allow more: --run-limit, or 'timeout'"
                self._lose(work, DeadlineError(text, remedy=remedy))
        if hangs:
            self.hangs = True
            for work in self._waiting.take_late(NEVER_NS):
                self._lose(work, self._hanging())
        self._gauge()
        self._look_later()

    @property
    def _running_works(self) -> Sequence[Work]:
        return self._running.works if self._running is not None else ()

    def _lose(self, work: Work, error: EdgeportError) -> None:
        """It gets no answer of the model; if it runs, what comes of that is nobody's."""
        work.is_lost = True
        self._counters.add(c.EXPIRED if isinstance(error, DeadlineError) else c.FAILED)
        self._tell(work, error)

    def _hanging(self) -> UnavailableError:
        return UnavailableError(
            f"model {self.model.name!r} version {self.model.version} is not ready: "
            f"{self.why_not_ready}",
            remedy=f"try again when GET /v2/models/{self.model.name}/ready says that it is",
        )

    # ---- answers

    def _answer(self, batch: Batch, ran: _Ran) -> None:
        results, start_ns, end_ns = ran
        self._times.learn(batch.size_bytes, (end_ns - start_ns) / 1e9)
        # First, because whoever has an answer may ask another process for the count.
        answers.count(self._counters, batch, results, start_ns, end_ns)
        for work, result in zip(batch.works, results, strict=True):
            self._tell(work, result)

    def _tell(self, work: Work, result: Result) -> None:
        """What one answer cannot be written for must not cost the others of its batch theirs."""
        done, work.done = work.done, None
        if done is not None:
            try:
                done(result)
            except Exception as e:
                self._defect(e)
                done(EngineError("the answer cannot be written", remedy="read the server's log"))

    def _defect(self, error: Exception) -> None:
        """Let the log have the trace; from any thread."""
        context = {"message": f"model {self.model.name!r} failed", "exception": error}
        self._loop.call_soon_threadsafe(self._loop.call_exception_handler, context)

    def _lost(self, error: LostGpuError) -> None:
        """Let the process end, as if it was told to: another follows, with a GPU that answers."""
        self._defect(error)
        os.kill(os.getpid(), signal.SIGTERM)

    def _expire(self, work: Work) -> None:
        waited_s = (time.monotonic_ns() - work.arrived_ns) / 1e9
        text = f"the request waited {waited_s:.3f} s, longer than it may"
        remedy = "send less at a time, or allow more: --deadline, or 'timeout'"
        self._lose(work, DeadlineError(text, remedy=remedy))

    def _end(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False)
        self.model.session.close()
