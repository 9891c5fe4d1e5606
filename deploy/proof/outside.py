"""What forward reads that is no input of it: an artefact holds what it was at export."""

import cProfile
import datetime
import io
import sys
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final

from edgeport.deploy.diagnosis.places import Line
from edgeport.deploy.origins import Origin, origin
from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.running import run_module
from edgeport.runtimes.inputs import Array

_CLOCKS: Final = frozenset(
    getattr(time, name)
    for read in ("time", "monotonic", "perf_counter", "process_time", "thread_time")
    for name in (read, f"{read}_ns")
) | {time.localtime, time.gmtime, time.strftime, time.ctime}

_CALENDAR: Final = ("now", "utcnow", "today")


def read_outside(flat: Flat, inputs: Mapping[str, Array]) -> list[str]:
    """Sentences for the user on lines of theirs that ask the clock or open a file."""
    found: dict[Line, str] = {}

    def see(frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call" or (what := _read_by(called)) is None:
            return
        if origin(frame.f_code.co_filename) is Origin.USER:
            found[Line(frame.f_code.co_filename, frame.f_lineno)] = what

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        run_module(flat, inputs)
    finally:
        _profile_again(before)
    return [
        f"forward {what} ({line}): if an answer hangs on it, artefacts hold what it was at export; "
        "take it as an input of forward, or read it in __init__"
        for line, what in found.items()
    ]


def _profile_again(before: Any) -> None:
    """``sys.setprofile`` takes no profiler in C, as ``cProfile`` is before Python 3.12."""
    if isinstance(before, cProfile.Profile):
        before.enable()
    else:
        sys.setprofile(before)


def _read_by(called: Any) -> str | None:
    """What a function in C reads."""
    if called is io.open:
        return "opens a file"
    owner = getattr(called, "__self__", None)
    is_date = isinstance(owner, type) and issubclass(owner, datetime.date)
    reads = called.__name__ in _CALENDAR if is_date else called in _CLOCKS
    return "asks the clock" if reads else None
