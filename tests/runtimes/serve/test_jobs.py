"""What clients ask of the repository, one after the other."""

import errno
import selectors
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeport.runtimes import EngineError, MissingFileError
from edgeport.runtimes.serve import channel
from edgeport.runtimes.serve.jobs import Jobs
from edgeport.runtimes.serve.offer import Offer
from edgeport.runtimes.serve.repository import Catalogue, Place


class Host:
    """Workers 0 and 1; a child does its work at once, in this process."""

    def __init__(self) -> None:
        self.broadcasts: list[Mapping[str, Any]] = []
        self.sent: list[tuple[int, Mapping[str, Any]]] = []
        self.workers = {0, 1}
        self.log: list[str] = []
        self.fault: OSError | None = None  # of fork

    def broadcast(self, message: Mapping[str, Any]) -> set[int]:
        self.broadcasts.append(message)
        return set(self.workers)

    def send(self, worker: int, message: Mapping[str, Any]) -> None:
        self.sent.append((worker, message))

    def fork(self, life: Callable[[socket.socket], None]) -> tuple[int, socket.socket]:
        if self.fault is not None:
            raise self.fault
        ours, theirs = channel.pair()
        with theirs:
            life(theirs)
        return 1, ours

    def told(self, text: str) -> None:
        self.log.append(text)


class Rig:
    def __init__(self, bundle: Path, rehearsal: Callable[[Place], None] = lambda _: None) -> None:
        self.host, self.selector = Host(), selectors.DefaultSelector()
        catalogue = Catalogue([bundle])
        self.offer = Offer(catalogue, (), self.host.told)
        self.jobs = Jobs(self.host, self.offer, catalogue, rehearsal, self.selector)

    def ask(self, number: int, action: str, name: str) -> None:
        self.jobs.ask(0, {"number": number, "action": action, "name": name})

    def turn(self) -> None:
        for key, _ in self.selector.select(5):
            key.data()

    @property
    def answers(self) -> list[tuple[int, str | None]]:
        return [
            (message["number"], message["error"] and message["error"]["problem"])
            for _, message in self.host.sent
        ]


def test_a_job_is_answered_when_every_worker_has_done_it(packed: Path) -> None:
    rig = Rig(packed)
    rig.ask(7, "load", "mlp")
    rig.turn()
    (message,) = rig.host.broadcasts
    assert (message["action"], message["name"]) == ("load", "mlp")
    for worker in (0, 1):
        assert rig.answers == []
        rig.jobs.done(worker, {"number": message["number"], "error": None})
    assert rig.answers == [(7, None)]
    assert rig.host.log == ["a client asks to load model 'mlp': done"]
    assert [place.name for place in rig.offer.places()] == ["mlp"]


def test_a_worker_that_dies_is_not_waited_for(packed: Path) -> None:
    rig = Rig(packed)
    rig.ask(1, "unload", "mlp")
    rig.jobs.died(0)
    rig.jobs.done(1, {"number": rig.host.broadcasts[0]["number"], "error": None})
    assert rig.answers == [(1, None)]


def test_a_model_that_fails_its_trial_reaches_no_worker(packed: Path) -> None:
    def fails(place: Place) -> None:
        raise EngineError(f"no {place.name}", remedy="none")

    rig = Rig(packed, fails)
    rig.ask(1, "load", "mlp")
    rig.turn()
    assert (rig.answers, rig.host.broadcasts) == ([(1, "no mlp")], [])
    assert rig.host.log == ["a client asks to load model 'mlp': no mlp"]


def test_without_a_process_to_try_it_a_model_is_refused_and_the_next_is_not(packed: Path) -> None:
    rig = Rig(packed)
    rig.host.fault = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    rig.ask(1, "load", "mlp")
    problem = f"no process can be started that tries the model: {rig.host.fault}"
    assert rig.answers == [(1, problem)]
    rig.host.fault = None
    rig.ask(2, "load", "mlp")
    rig.turn()
    assert len(rig.host.broadcasts) == 1


def test_a_thousand_unknown_models_behind_one_job_are_all_refused(packed: Path) -> None:
    rig = Rig(packed)
    rig.ask(0, "unload", "mlp")
    for number in range(1, 1001):
        rig.ask(number, "load", "nothing")
    for worker in (0, 1):
        rig.jobs.done(worker, {"number": rig.host.broadcasts[0]["number"], "error": None})
    assert [number for number, _ in rig.answers] == list(range(1001))
    assert {text for _, text in rig.answers[1:]} == {"the repository holds no model 'nothing'"}


def test_without_a_worker_a_job_ends_at_once(packed: Path) -> None:
    rig = Rig(packed)
    rig.host.workers = set()
    rig.ask(1, "unload", "mlp")
    rig.ask(2, "unload", "mlp")
    assert rig.answers == [(1, None), (2, None)]


def test_a_folder_that_is_gone_is_named(packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    catalogue = Catalogue([packed], folder)
    folder.rmdir()
    with pytest.raises(MissingFileError, match=r"cannot read .*models: No such file"):
        catalogue.names()


def test_an_error_goes_through_a_channel_and_comes_back() -> None:
    one, other = channel.pair()
    error = MissingFileError("no x", remedy="make x")
    channel.send(one, channel.error_to_json(error))
    found = channel.receive(other)
    assert found is not None
    back = channel.error_from_json(found)
    assert (type(back), back.problem, back.remedy) == (MissingFileError, "no x", "make x")
    assert isinstance(channel.error_from_json({**found, "kind": "os"}), EngineError)
    one.close()
    assert channel.receive(other) is None
    other.close()
