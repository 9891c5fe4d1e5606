"""The queue of one model: what is counted, what is dropped, what a fault costs the others."""

import asyncio
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pytest

from edgeport.runtimes import InputError, Signature, TensorSpec
from edgeport.runtimes.errors import (
    DeadlineError,
    EngineError,
    LostGpuError,
    OverloadedError,
    UnavailableError,
)
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.null import NullSession
from edgeport.runtimes.serve import counters as c
from edgeport.runtimes.serve.counters import Board
from edgeport.runtimes.serve.model import Model
from edgeport.runtimes.serve.requests import InferRequest, InferResponse
from edgeport.runtimes.serve.scheduler import Scheduler
from edgeport.runtimes.serve.templates import Reader
from edgeport.runtimes.serve.work import Bounds, Result

SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("n", 2)),), (TensorSpec("y", "float32", ("n", 2)),)
)


class Gate(NullSession):
    """Doubles its input once it is let."""

    def __init__(self) -> None:
        super().__init__(SIGNATURE, 1)
        self.open = threading.Event()
        self.began = threading.Event()
        self.fault: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.began.set()
        assert self.open.wait(20)
        if self.fault is not None:
            raise self.fault
        return {"y": inputs["x"] * 2}


class Queue:
    """A scheduler with such a session, and what came of its requests."""

    def __init__(
        self, bounds: Bounds | None = None, labels: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        self.session, self.board, self.results = Gate(), Board(), list[Result]()
        runs = ((8, 0.002), (800, 0.002))  # too long for the loop, and the rows cost nothing
        model = Model(
            "m", "1", "null", self.session, labels or {}, 128, runs, ("x",), ("y",),
            InputCheck(SIGNATURE), frozenset(),
        )  # fmt: skip  # in the order of its fields
        self.scheduler = Scheduler(model, self.board.counters(0, 0), bounds or Bounds(deadline_s=9))

    def ask(self, rows: int = 1, done: Callable[[Result], None] | None = None, **more: Any) -> Any:
        x = np.ones((rows, 2), np.float32)
        request = InferRequest("m", {"x": x}, **more)
        return self.scheduler.submit(request, done or self.results.append)

    def count(self, cell: int) -> int:
        return self.board.total(0)[cell]


def run(trial: Callable[[], Coroutine[Any, Any, None]], faults: Sequence[str] = ()) -> None:
    async def guarded() -> None:
        found: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: found.append(str(context["exception"])))
        await trial()
        await asyncio.sleep(0)
        assert found == list(faults)

    asyncio.run(guarded())


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.001)


def test_a_client_that_leaves_while_its_batch_runs_is_counted_once() -> None:
    async def trial() -> None:
        queue = Queue(Bounds(rows=4, deadline_s=9))
        for _ in range(3):
            queue.session.open.clear()
            queue.session.began.clear()
            works = [queue.ask(2), queue.ask(2)]
            await until(queue.session.began.is_set)
            for work in works:
                work.cancel()
            queue.session.open.set()
            await until(lambda: queue.scheduler.idle)
        await asyncio.sleep(0.01)
        assert (queue.count(c.QUEUED_ROWS), queue.count(c.QUEUED_BYTES)) == (0, 0)
        queue.session.open.clear()
        queue.session.began.clear()
        queue.ask()
        await until(queue.session.began.is_set)
        queue.ask(4)
        with pytest.raises(
            OverloadedError, match=r"model 'm' has work for .* s, and 4 rows waiting"
        ):
            queue.ask()
        queue.session.open.set()
        await until(lambda: queue.scheduler.idle)

    run(trial)


def test_what_waits_is_dropped_when_its_client_leaves() -> None:
    async def trial() -> None:
        queue = Queue()
        queue.ask()
        await until(queue.session.began.is_set)
        left = queue.ask(3)
        queue.ask()
        left.cancel()
        left.cancel()
        queue.session.open.set()
        await until(lambda: len(queue.results) == 2)
        assert (queue.count(c.LEFT), queue.count(c.SUCCESS)) == (1, 2)
        await until(lambda: queue.count(c.QUEUED_ROWS) == 0)

    run(trial)


def test_one_run_that_was_interrupted_refuses_nobody() -> None:
    async def trial() -> None:
        queue = Queue()
        queue.ask()
        await until(queue.session.began.is_set)
        await asyncio.sleep(0.3)  # a thousand times as long as it should have taken
        queue.session.open.set()
        await until(lambda: queue.scheduler.idle)
        queue.session.open.clear()
        for _ in range(100):  # which came meanwhile: 15 s, if each took half of that
            queue.ask()
        queue.session.open.set()
        await until(lambda: queue.scheduler.idle)
        assert queue.count(c.SHED) == 0

    run(trial)


def test_whoever_is_answered_is_counted_already() -> None:
    async def trial() -> None:
        queue, counts = Queue(), list[int]()
        for _ in range(3):
            queue.ask(done=lambda _: counts.append(queue.count(c.SUCCESS)))
        queue.session.open.set()
        await until(lambda: len(counts) == 3)
        assert counts == [3, 3, 3]  # they ran together

    run(trial)


def test_an_answer_that_cannot_be_written_costs_its_neighbours_nothing() -> None:
    async def trial() -> None:
        queue = Queue()

        def refuses(result: Result) -> None:
            if isinstance(result, InferResponse):
                raise ValueError("not to be written")
            queue.results.append(result)

        queue.session.open.set()
        queue.ask(done=refuses)
        queue.ask()
        await until(lambda: len(queue.results) == 2)
        fault, good = queue.results
        assert isinstance(fault, EngineError)
        assert fault.problem == "the answer cannot be written"
        assert isinstance(good, InferResponse)

    run(trial, ["not to be written"])


def test_what_an_engine_raises_is_answered_and_logged() -> None:
    async def trial() -> None:
        queue = Queue()
        queue.session.fault = RuntimeError("a kernel")
        queue.session.open.set()
        queue.ask()
        await until(lambda: bool(queue.results))
        (result,) = queue.results
        assert isinstance(result, EngineError)
        assert result.problem == "the engine failed: RuntimeError: a kernel"

    run(trial, ["a kernel"])


def test_a_label_that_no_text_can_hold_costs_its_own_request_only() -> None:
    async def trial() -> None:
        queue = Queue(labels={"y": ("\ud800", "\ud800")})
        queue.session.open.set()
        queue.ask(outputs=(("y", 1),))
        queue.ask()
        await until(lambda: len(queue.results) == 2)
        error, response = queue.results
        assert isinstance(error, EngineError)
        assert str(error).startswith("the answer cannot be made")
        assert isinstance(response, InferResponse)
        assert queue.scheduler.idle

    run(
        trial,
        ["'utf-8' codec can't encode character '\\ud800' in position 11: surrogates not allowed"],
    )


def test_a_process_that_lost_its_gpu_answers_and_ends() -> None:
    """A worker takes SIGTERM for the wish to end, and the server starts another."""

    async def trial() -> None:
        queue, told = Queue(), asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        queue.session.fault = LostGpuError("a kernel crashed", remedy="start a new process")
        queue.session.open.set()
        queue.ask(2)
        queue.ask(3)
        await until(lambda: len(queue.results) == 2)
        assert queue.results == [queue.session.fault] * 2
        await asyncio.wait_for(told.wait(), 20)

    run(trial, ["a kernel crashed\n  fix: start a new process"])


def test_company_is_waited_for_if_that_was_asked() -> None:
    async def trial() -> None:
        queue = Queue(Bounds(deadline_s=9, delay_s=0.05))
        queue.session.open.set()
        queue.ask()
        await asyncio.sleep(0.005)
        queue.ask()
        await until(lambda: len(queue.results) == 2)
        assert queue.count(c.EXECUTIONS) == 1

    run(trial)


def test_who_waits_behind_a_long_run_is_told_in_time() -> None:
    async def trial() -> None:
        queue = Queue(Bounds(deadline_s=0.1))
        queue.ask()
        await until(queue.session.began.is_set)
        queue.ask()
        await until(lambda: bool(queue.results))
        (late,) = queue.results
        assert isinstance(late, DeadlineError)
        assert "the request waited 0.1" in late.problem
        queue.session.open.set()
        await until(lambda: len(queue.results) == 2)
        assert (queue.count(c.EXPIRED), queue.count(c.SUCCESS)) == (1, 1)
        assert queue.count(c.QUEUED_ROWS) == 0

    run(trial)


def test_a_model_that_hangs_takes_nothing_until_it_answers() -> None:
    async def trial() -> None:
        queue = Queue(Bounds(deadline_s=9, run_s=0.1))
        queue.ask()
        await until(queue.session.began.is_set)
        queue.ask()
        await until(lambda: queue.scheduler.hangs)
        ran, waited = queue.results
        assert isinstance(ran, DeadlineError)
        assert re.fullmatch(r"the model has run for 0\.\d+ s, and has no answer yet", ran.problem)
        assert isinstance(waited, UnavailableError)
        with pytest.raises(UnavailableError, match=r"'m' version 1 is not ready: a run has taken"):
            queue.ask()
        queue.session.open.set()
        await until(lambda: not queue.scheduler.hangs)
        queue.ask()
        await until(lambda: len(queue.results) == 3)
        assert [queue.count(each) for each in (c.EXPIRED, c.FAILED, c.SUCCESS)] == [1, 1, 1]

    run(trial)


def test_who_has_no_answer_at_the_end_is_told() -> None:
    async def trial() -> None:
        queue = Queue()
        queue.ask()
        await until(queue.session.began.is_set)
        queue.ask()
        assert queue.scheduler.give_up() == 2
        for result in queue.results:
            assert isinstance(result, UnavailableError)
            assert result.problem == "the server has ended before the model answered"
        queue.session.open.set()
        await until(lambda: queue.scheduler.idle)
        assert queue.scheduler.give_up() == 0
        assert (queue.count(c.FAILED), queue.count(c.SUCCESS)) == (2, 0)

    run(trial)


def test_a_model_that_was_unloaded_takes_nothing() -> None:
    async def trial() -> None:
        queue = Queue()
        queue.scheduler.close()
        with pytest.raises(UnavailableError, match=r"'m' version 1 was unloaded\n  fix: ask"):
            queue.ask()

    run(trial)


def test_bytes_are_bounded_too() -> None:
    async def trial() -> None:
        queue = Queue(Bounds(size_bytes=32, deadline_s=9))
        queue.ask()
        await until(queue.session.began.is_set)
        queue.ask(4)
        with pytest.raises(OverloadedError, match="and 4 rows waiting"):
            queue.ask()
        queue.session.open.set()
        await until(lambda: len(queue.results) == 2)

    run(trial)


def test_one_request_may_have_more_rows_than_the_queue_if_it_meets_no_other() -> None:
    async def trial() -> None:
        queue = Queue(Bounds(rows=4, deadline_s=9))
        queue.ask(9)
        await until(queue.session.began.is_set)
        with pytest.raises(OverloadedError, match="9 rows of one request are more than may wait"):
            queue.ask(9)
        queue.ask()
        queue.session.open.set()
        await until(lambda: len(queue.results) == 2)

    run(trial)


@pytest.mark.parametrize("given", ["abc", -1, 1.5, float("nan"), True])
def test_a_timeout_that_is_none(given: Any) -> None:
    async def trial() -> None:
        queue = Queue()
        with pytest.raises(InputError, match=r"the timeout of the request is .*microseconds"):
            queue.ask(parameters={"timeout": given})
        assert queue.count(c.REJECTED) == 1

    run(trial)


def test_what_requests_looked_like_is_remembered_without_their_data() -> None:
    reader = Reader("m", SIGNATURE, frozenset())
    for rows in range(1, 9):
        x = np.ones((rows, 2), np.float32)
        entry: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": x.shape}
        body = json.dumps({"inputs": [entry | {"data": x.ravel().tolist()}]}).encode()
        reader.read(body, "", None)
        head = json.dumps({"inputs": [entry | {"parameters": {"binary_data_size": x.nbytes}}]})
        reader.read(head.encode() + x.tobytes(), "", len(head))
        again = reader.read(head.encode() + (2 * x).tobytes(), "", len(head))
        assert np.array_equal(again.request.inputs["x"], 2 * x)
    known = [each.parsed.request.inputs for each in reader._json.values()]
    known += [each.parsed.request.inputs for each in reader._binary.values()]
    assert known == [{}] * 16
