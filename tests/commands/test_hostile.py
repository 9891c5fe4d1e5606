"""What an attacker or a broken disk makes of a bundle ends in one clear message, nothing else."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import hostile
import pytest

from edgeport.__main__ import main

CASES = hostile.cases()
TORCH_CASES = hostile.torch_cases()
COMMANDS = ("verify", "inspect", "bench", "serve")
TIME_LIMIT_S = "3"


def test_there_are_enough_of_them() -> None:
    names = [case.name for case in (*CASES, *TORCH_CASES)]
    assert len(names) == len(set(names)) >= 300


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outside")


@pytest.fixture
def never_for_ever() -> Iterator[None]:
    """A server that starts is ended."""
    timer = threading.Timer(30, lambda: signal.raise_signal(signal.SIGTERM))
    timer.start()
    yield
    timer.cancel()


def arguments(command: str, path: Path, backend: str) -> list[str]:
    found = [command, str(path)]
    if command != "inspect":
        found += ["--backend", backend, "--threads", "1", "--time-limit", TIME_LIMIT_S]
    more = {"bench": ["--seconds", "0.1"], "serve": ["--port", "0"]}
    return found + more.get(command, [])


def check(
    case: hostile.Case,
    good: Path,
    command: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    path = hostile.build(case, good, folder)
    before = hostile.moments(folder)
    capsys.readouterr()
    code = main(arguments(command, path, case.backend))
    out, err = capsys.readouterr()
    assert hostile.moments(folder) == before, "a file was written"
    assert "Traceback" not in out + err
    if code == 0 and command in case.blind:
        return
    assert code in (1, 2), out + err
    said = [line for line in (out + err).splitlines() if line.startswith(("edgeport: ", "  fix: "))]
    if command != "verify":
        assert len(said) == 2, out + err
    assert "  fix: " in out + err
    assert not set(err) & {"\x1b", "\0"}


MEETINGS = [
    (case, command)
    for number, case in enumerate(CASES)
    for command in (COMMANDS if os.environ.get("ATTACK") == "all" else [COMMANDS[number % 4]])
]
"""Each case meets one command; with ``ATTACK=all`` in the environment, all of them."""


@pytest.mark.usefixtures("never_for_ever")
@pytest.mark.parametrize(
    ("case", "command"), MEETINGS, ids=[f"{case.name}, {command}" for case, command in MEETINGS]
)
def test_a_bad_bundle(
    case: hostile.Case,
    command: str,
    packed: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check(case, packed, command, tmp_path_factory.mktemp("case"), monkeypatch, capsys)
