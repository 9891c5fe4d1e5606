"""All backends soaked at a time, each in its own process; their rows as they end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import wait
from typing import Any

from edgeport.runtimes.errors import BackendMissingError, EdgeportError

from .child import Child, Figures
from .models import Model
from .rows import Row, Status
from .tasks import Place, Soak


class Soaks:
    """One process for each backend, all at a time.

    Args:
        models: Backend -> what it is soaked with.
        device: Of all.
        seconds: How long.
        limit_s: After which those are lost that have not ended.
        children: Gets the processes, for who ends them.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        device: str,
        seconds: float,
        limit_s: float,
        children: dict[str, Child],
    ) -> None:
        self._models = dict(models)
        self._seconds, self._limit_s = seconds, limit_s
        self._children = {}
        self._looks: dict[str, list[Figures]] = {backend: [] for backend in models}
        self._started = time.monotonic()
        for backend in models:
            children[backend] = self._children[backend] = Child()
            place = Place(models[backend].path, backend, device)
            self._children[backend].send(Soak(place, seconds))

    def rows(self, tell: Callable[[str], None]) -> Iterator[Row]:
        """A row for each as it ends."""
        deadline = self._started + self._limit_s
        while self._models:
            open_ = {self._children[backend].connection: backend for backend in self._models}
            ready = wait(list(open_), max(0.0, deadline - time.monotonic()))
            for connection in ready:
                backend = open_[connection]  # type: ignore[index]  # wait returns what it is given
                if (row := self._heard(backend)) is not None:
                    del self._models[backend]
                    tell(f"soak: {backend} {row.status}")
                    yield row
            if not ready:
                for backend in list(self._models):
                    yield self._row(backend, "fail", "it did not end", "edgeport verify", {})
                    del self._models[backend]

    def cut_off(self) -> list[Row]:
        """Rows of those that have not ended."""
        reason = (
            f"interrupted after {time.monotonic() - self._started:.0f} of {self._seconds:.0f} s"
        )
        return [self._row(backend, "unreached", reason, None, {}) for backend in self._models]

    def _heard(self, backend: str) -> Row | None:
        try:
            told: Any = self._children[backend].receive()
        except EdgeportError as e:
            told = e
        if isinstance(told, BackendMissingError):
            return self._row(backend, "open", told.problem, told.remedy, {})
        if isinstance(told, EdgeportError):
            return self._row(backend, "fail", told.problem, told.remedy, {})
        if "at_s" in told:
            self._looks[backend].append(told)
            return None
        problem, remedy = told.pop("problem"), told.pop("remedy")
        return self._row(backend, "fail" if problem else "pass", problem, remedy, told)

    def _row(
        self,
        backend: str,
        status: Status,
        reason: str | None,
        remedy: str | None,
        figures: Figures,
    ) -> Row:
        seconds = round(time.monotonic() - self._started, 3)
        figures = {**figures, "looks": self._looks[backend]}
        return Row("soak", self._models[backend].name, backend, status, reason, remedy, seconds,
                   figures)  # fmt: skip
