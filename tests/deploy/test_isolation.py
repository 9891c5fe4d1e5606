import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from edgeport.deploy.isolation import Killed, Limits, run_isolated
from edgeport.runtimes import ExportError

QUICK = Limits(time_s=30.0)


def fail() -> None:
    raise ExportError("no", remedy="yes")


def kill() -> None:
    sys.stdout.write("last words\n")
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> None:
    sys.stdout.write("gone\n")
    os._exit(7)


def test_an_answer_comes_back_and_nothing_else_does() -> None:
    state = torch.zeros(3)

    def work() -> float:
        state.fill_(1)
        return float(torch.ones(1000, 1000).sum())

    before = _children()
    assert run_isolated(work, QUICK) == 1e6
    assert state.sum() == 0
    assert _children() == before


def test_an_error_of_ours_is_raised_here() -> None:
    with pytest.raises(ExportError, match="no"):
        run_isolated(fail, QUICK)


def test_openmp_in_the_parent_does_not_hang_the_child() -> None:
    torch.ones(2000, 2000).exp()  # a parallel region: its threads are not in a fork
    assert run_isolated(lambda: float(torch.ones(2000, 2000).exp().mean()), QUICK) == pytest.approx(
        2.71828, rel=1e-4
    )


@pytest.mark.parametrize(
    ("work", "limits", "reason", "problem", "output"),
    [
        (kill, QUICK, "crash", "it was ended by SIGSEGV", "last words"),
        (kill, QUICK, "crash", "it was ended by SIGSEGV", "in kill"),
        (leave, QUICK, "crash", "it ended: gone", "gone"),
        (lambda: time.sleep(60), Limits(time_s=0.5), "time", "it took longer than 0.5 s", ""),
        (lambda: bytearray(2**30), Limits(30.0, 2**28), "memory", "it ran out of memory", ""),
        (lambda: lambda: 0, QUICK, "crash", "it ended: ", " local object"),
    ],
)
def test_however_it_ends_we_go_on(
    work: object, limits: Limits, reason: str, problem: str, output: str
) -> None:
    assert callable(work)
    before = _children()
    killed = run_isolated(work, limits)
    assert isinstance(killed, Killed)
    assert killed.reason == reason
    assert killed.problem.startswith(problem)
    assert output in killed.output
    assert _children() == before


def test_a_program_may_ignore_what_its_children_ended_with() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run_isolated(lambda: 7, QUICK) == 7
        killed = run_isolated(kill, QUICK)
        assert isinstance(killed, Killed)
        assert killed.reason == "crash"
        late = run_isolated(lambda: time.sleep(60), Limits(time_s=0.5))
        assert isinstance(late, Killed)
        assert late.reason == "time"
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_what_a_compiler_started_ends_with_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"

    def work() -> None:
        started = subprocess.Popen(["sleep", "60"])
        told.write_text(str(started.pid))
        time.sleep(60)

    assert isinstance(run_isolated(work, Limits(time_s=2)), Killed)
    state = Path(f"/proc/{told.read_text()}/stat")
    deadline = time.monotonic() + 10
    while state.exists() and " Z " not in state.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ctrl_c_ends_the_compiler_too(tmp_path: Path) -> None:
    script = """
        import os, sys, time
        from edgeport.deploy.isolation import Limits, run_isolated
        def work():
            with open(sys.argv[1], "w") as file:
                file.write(str(os.getpid()))
            time.sleep(60)
        try:
            run_isolated(work, Limits())
        except KeyboardInterrupt:
            sys.exit(130)
    """
    told = tmp_path / "pid"
    command = [sys.executable, "-c", textwrap.dedent(script), str(told)]
    process = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    assert not Path(f"/proc/{told.read_text()}").exists()


def _children() -> str:
    """Others may have begun before, such as that of multiprocessing, which ends with the tests."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()
