"""The process that watches, where the system has no process left for another."""

import errno
import signal
from pathlib import Path

import pytest

from edgeport.runtimes.serve import supervisor as supervisor_module
from edgeport.runtimes.serve.offer import Offer
from edgeport.runtimes.serve.port import listen
from edgeport.runtimes.serve.repository import Catalogue
from edgeport.runtimes.serve.supervisor import Supervisor
from edgeport.runtimes.serve.worker import Settings


def test_a_worker_that_cannot_be_started_is_tried_again(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def fork() -> int:
        tries.append("fork")
        if len(tries) == 2:
            signal.raise_signal(signal.SIGTERM)
        raise OSError(errno.EAGAIN, "no process")

    monkeypatch.setattr(supervisor_module, "fork", fork)
    monkeypatch.setattr(supervisor_module, "_LONGEST_DELAY_S", 0.0)
    told: list[str] = []
    catalogue = Catalogue([packed])
    before = len(list(Path("/proc/self/fd").iterdir()))
    listeners = listen("127.0.0.1", 0, 1)
    offer = Offer(catalogue, (), told.append)
    Supervisor(Settings(), offer, catalogue, listeners, lambda _: None, told.append).run(
        lambda _: pytest.fail("nothing answers")
    )
    problem = "worker 0 cannot be started: [Errno 11] no process; it is tried again"
    assert told == [problem, problem, "SIGTERM: answering what was accepted, then ending"]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
