"""What happens during an export, told to whoever watches it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from edgeport.deploy.proof.localiser import Localisation
from edgeport.deploy.proof.search import Searched
from edgeport.runtimes.tensorrt.order import Progress

from .attempts import Attempt


@dataclass(frozen=True, slots=True)
class Began:
    """A step began."""

    step: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A step ended."""

    step: str
    wall_s: float


Event: TypeAlias = Began | Ended | Attempt | Progress | Searched | Localisation
"""What happens during an export; an ``Attempt`` ends the step of its route; ``Progress`` is how far
the reference is, by its samples, or an engine that is being built; a ``Localisation`` comes before
the error of a format that is wrong."""

OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Watch nothing."""


def begin(on_event: OnEvent, name: str) -> None:
    """Tell that a step begins."""
    on_event(Began(name))


@contextlib.contextmanager
def step(name: str, on_event: OnEvent) -> Iterator[None]:
    """Tell when a step begins, and when it ends."""
    begin(on_event, name)
    start = time.perf_counter()
    yield
    on_event(Ended(name, time.perf_counter() - start))
