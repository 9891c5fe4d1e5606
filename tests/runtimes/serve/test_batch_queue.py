"""The queue of one model: how much it holds, how long that will take, what runs together."""

from typing import Any

import numpy as np
import pytest

from edgeport.runtimes.serve.batch_queue import BatchQueue
from edgeport.runtimes.serve.requests import InferRequest
from edgeport.runtimes.serve.run_times import RunTimes
from edgeport.runtimes.serve.work import NEVER_NS, Work

ROW = 8
S = 10**9


def times_of(row_s: float, rows_s: float) -> RunTimes:
    times = RunTimes([(ROW, row_s), (32 * ROW, rows_s)])
    times.known_bytes = 1000 * ROW
    return times


FLAT, BY_ROWS, BOTH = times_of(0.02, 0.02), times_of(0.02, 0.64), times_of(0.07, 0.69)


def work(rows: int = 1, width: int = 2, deadline_ns: int = S, batches: bool = True) -> Work:
    x = np.ones((rows, width), np.float32)
    owner: Any = None  # nobody is told
    request = InferRequest("m", {"x": x})
    return Work(owner, request, [x], batches, 0, deadline_ns, NEVER_NS, lambda _: None)


def filled(times: RunTimes, *works: Work, most_rows: int = 128) -> BatchQueue:
    waiting = BatchQueue(most_rows, times)
    for each in works:
        waiting.add(each)
    return waiting


@pytest.mark.parametrize(
    ("times", "rows", "time_s"),
    [
        *((FLAT, 0, 0), (FLAT, 1, 0.02), (FLAT, 128, 0.02), (FLAT, 129, 0.04)),
        *((BY_ROWS, 1, 0.02), (BY_ROWS, 50, 1)),
        *((BOTH, 1, 0.07), (BOTH, 5, 0.15), (BOTH, 50, 1.5)),  # no more than 5 together
    ],
)
def test_how_long_it_will_take(times: RunTimes, rows: int, time_s: float) -> None:
    waiting = filled(times, *[work() for _ in range(rows)])
    assert waiting.wait_s(0) == pytest.approx(time_s, rel=1e-6)


def test_what_runs_already_is_waited_for_and_no_longer_than_it_takes() -> None:
    waiting = filled(FLAT, work())
    waiting.until_ns = S // 10
    found = [waiting.wait_s(now_ns) for now_ns in (0, S // 20, S)]
    assert found == pytest.approx([0.12, 0.07, 0.02])


def test_what_cannot_run_together_takes_runs_of_its_own() -> None:
    waiting = filled(FLAT, *[work(width=2 + index % 2) for index in range(10)])
    assert waiting.wait_s(0) == pytest.approx(0.2, rel=0.01)
    alone = filled(FLAT, *[work(batches=False) for _ in range(10)], most_rows=1)
    assert alone.wait_s(0) == pytest.approx(0.2, rel=0.01)
    for left in range(9, -1, -1):
        assert len(waiting.take(0)[0].works) == len(alone.take(0)[0].works) == 1
        assert waiting.wait_s(0) == alone.wait_s(0) == pytest.approx(left * 0.02, abs=1e-9)


def test_what_is_left_behind_takes_a_run_too() -> None:
    waiting = filled(FLAT, work(100), work(28), work(1))
    waiting.take(0)
    assert waiting.wait_s(0) == pytest.approx(0.02)


def test_the_sums_follow_whatever_leaves() -> None:
    works = [work(rows) for rows in (1, 2, 3, 4)]
    waiting = filled(FLAT, *works)
    assert (waiting.rows, waiting.size_bytes) == (10, 10 * ROW)
    assert waiting.remove(works[1])
    assert not waiting.remove(works[1])
    waiting.remove_last()
    assert (waiting.rows, waiting.size_bytes) == (4, 4 * ROW)
    batch, late = waiting.take(0)
    assert (batch.works, batch.rows, batch.size_bytes, late) == (works[::2], 4, 4 * ROW, [])
    assert (waiting.rows, waiting.size_bytes, bool(waiting)) == (0, 0, False)


def test_who_has_waited_too_long_is_left_out() -> None:
    works = [work(deadline_ns=deadline_ns) for deadline_ns in (1, S, 2, S)]
    waiting = filled(FLAT, *works)
    batch, late = waiting.take(5)
    assert (batch.works, late) == (works[1::2], works[::2])
    assert (waiting.rows, bool(waiting)) == (0, False)


def test_no_more_rows_than_the_model_takes() -> None:
    waiting = filled(FLAT, work(100), work(20), work(20), work(200))
    assert [waiting.take(0)[0].rows for _ in range(3)] == [120, 20, 200]


def test_no_batch_of_rows_takes_long() -> None:
    waiting = filled(BY_ROWS, *[work(2) for _ in range(3)], work(9), work())
    assert [waiting.take(0)[0].rows for _ in range(4)] == [4, 2, 9, 1]


def test_those_who_join_do_not_make_the_first_late() -> None:
    waiting = filled(BY_ROWS, work(deadline_ns=S // 20), *[work() for _ in range(4)])
    assert [waiting.take(0)[0].rows for _ in range(2)] == [2, 3]
    waiting = filled(FLAT, work(deadline_ns=S // 20), *[work() for _ in range(4)])
    assert waiting.take(0)[0].rows == 5  # it takes no longer with them


@pytest.mark.parametrize(("times", "rows"), [(BY_ROWS, 1), (FLAT, 4), (BOTH, 3)])
def test_who_will_be_late_anyway_waits_for_no_others(times: RunTimes, rows: int) -> None:
    waiting = filled(times, work(deadline_ns=S // 100), *[work() for _ in range(3)])
    assert waiting.take(0)[0].rows == rows


def test_no_run_is_more_than_twice_as_large_as_any_before() -> None:
    times = RunTimes([(ROW, 0.7), (32 * ROW, 0.64)])  # the small one was interrupted
    assert times.byte_s == 0
    waiting = filled(times, *[work() for _ in range(100)])
    found = list[int]()
    while waiting:
        batch, _ = waiting.take(0)
        found.append(batch.rows)
        times.learn(batch.size_bytes, 0.02 * batch.rows)
    assert found == [2, 4, 8, 16, 32, 38]
    quick = RunTimes([(ROW, 0.02), (32 * ROW, 0.02)])
    assert filled(quick, *[work() for _ in range(100)]).take(0)[0].rows == 64
