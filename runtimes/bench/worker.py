"""The process that holds one session and times it; ``crew`` starts it.

It gets requests over a socket, one at a time, and answers each with its reply or with the error
that it met. Nothing is printed.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final, Protocol, cast

import numpy as np

from edgeport.runtimes import Bundle
from edgeport.runtimes.errors import EdgeportError, UsageError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.safety.forked import end_with_parent
from edgeport.runtimes.session import Session, backend

from . import loops
from .arrivals import schedule
from .disturbance import Reading, difference
from .energy import meter
from .gpu import Gauge, gpu_round, timed_parts
from .loops import Call, Durations
from .memory import peak_bytes
from .orders import ColdStart, Finish, Open, Opened, Request, Round, Seek, Timed, WarmUp
from .peak import find_peak
from .setting import Closed, OpenLoop, Paced
from .workload import feed

COLD_CALLS: Final = 5
"""The first can take thousands of times the steady one; TorchScript optimises in its second."""

_SET_TIMERSLACK: Final = 29


class _EngineCalls(Protocol):
    """A session that can show its engine's own call."""

    def engine_call(self, inputs: Mapping[str, Array]) -> AbstractContextManager[Call]: ...


class _Timekeeper:
    """The state of the process, and the answers to its requests."""

    def __init__(self, python_ns: int) -> None:
        self._python_ns = python_ns
        self._stack = contextlib.ExitStack()
        self._calls: list[Call] = []
        self._parts: list[Callable[[int], Durations | None]] = []

    def answer(self, request: Request) -> object:
        """Do what is asked.

        Raises:
            EdgeportError: The bundle cannot be opened or run.
        """
        match request:
            case Open():
                return self._open(request)
            case WarmUp(workload, fewest, time_ns, most):
                return loops.warm_up(self._calls[workload], fewest, time_ns, most)
            case Round():
                return self._round(request)
            case Seek(workload, mode, time_ns, seed):
                return find_peak(self._calls[workload], mode, time_ns, seed)
            case Finish():
                self._stack.close()
                return peak_bytes()

    def _open(self, request: Open) -> Opened:
        setting = request.setting
        start = time.perf_counter_ns()
        importlib.import_module(backend(setting.backend).module)
        imported = time.perf_counter_ns()
        bundle = Bundle.read(setting.bundle, trusted=request.trusted)
        session = self._stack.enter_context(bundle.open(setting.backend, setting.options))
        opened = time.perf_counter_ns()
        feeds = [feed(bundle, workload) for workload in request.workloads]
        for each in feeds:
            self._calls.append(self._call(session, each.inputs, setting.engine_only))
            self._parts.append(_parts(session, each.inputs, setting.engine_only))
        self._gauge = Gauge(session)
        first = loops.warm_up(self._calls[0], COLD_CALLS, 0, COLD_CALLS)
        cold = ColdStart(
            self._python_ns, imported - start, opened - imported, tuple(first.tolist())
        )
        return Opened(
            engine=session.engine,
            cold=cold,
            samples=tuple(each.sample for each in feeds),
            shapes=tuple({n: a.shape for n, a in each.inputs.items()} for each in feeds),
            rows=tuple(each.rows for each in feeds),
            card=self._gauge.card,
        )

    def _call(self, session: Session, inputs: Mapping[str, Array], engine_only: bool) -> Call:
        if not engine_only:
            return partial(session.run, inputs)
        if not hasattr(session, "engine_call"):
            raise UsageError(
                f"backend {session.engine.backend!r} has no call of an engine to time",
                remedy="leave --engine-only out",
            )
        return self._stack.enter_context(cast(_EngineCalls, session).engine_call(inputs))

    def _round(self, request: Round) -> Timed:
        call = self._calls[request.workload]
        durations = np.full(request.calls, -1, np.int64)  # written, so that its pages are there
        loop = _loop(request, call, durations)
        idle = self._gauge.read()
        loops.settle(call, request.settle_ns)
        drawn, energy_before, before = self._gauge.energy_mj(), meter(), Reading.now()
        loop()
        after, energy_after, drawn_after = Reading.now(), meter(), self._gauge.energy_mj()
        gpu = gpu_round(idle, self._gauge.read(), (drawn, drawn_after))
        parts = self._parts[request.workload](request.calls)
        energy = difference(energy_before, energy_after)
        return Timed(durations, before.until(after), energy, gpu, parts)


def _parts(
    session: Session, inputs: Mapping[str, Array], engine_only: bool
) -> Callable[[int], Durations | None]:
    """Where the time of the session's calls goes; an engine's own call has no copies in it."""
    if engine_only:
        return lambda calls: None
    return partial(timed_parts, session, inputs)


def _loop(request: Round, call: Call, durations: Durations) -> Callable[[], None]:
    """What fills the durations; all that it needs is made before the clock is read."""
    match request.mode:
        case Closed():
            return partial(loops.closed, call, durations)
        case Paced(think_ns):
            return partial(loops.paced, call, durations, think_ns)
        case OpenLoop(arrivals, rate_hz):
            moments = schedule(arrivals, rate_hz, request.calls, request.seed)
            return partial(loops.open_loop, call, durations, moments)


def serve(descriptor: int, started_ns: int) -> None:
    """Answer until the other end is closed.

    Args:
        descriptor: Of the socket.
        started_ns: When this process was started, on the clock of ``perf_counter_ns``.
    """
    keeper = _Timekeeper(time.perf_counter_ns() - started_ns)
    end_with_parent()
    ctypes.CDLL(None).prctl(_SET_TIMERSLACK, 1)  # sleeps end on time, not up to 50 us later
    connection: Connection[Any, Request] = Connection(descriptor)
    for request in _requests(connection):
        try:
            reply = keeper.answer(request)
        except EdgeportError as e:
            reply = e
        connection.send(reply)


def _requests(connection: Connection[Any, Request]) -> Iterator[Request]:
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            yield connection.recv()
