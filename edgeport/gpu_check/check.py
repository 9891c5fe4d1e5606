"""The stages of a check, one after the other; whatever a step meets becomes its row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from edgeport.runtimes import Bundle
from edgeport.runtimes.devices import cuda_index
from edgeport.runtimes.errors import BackendMissingError, EdgeportError, EngineError
from edgeport.runtimes.tensorrt.library import NAMES, Name

from .budget import GRACE_S, Budget
from .child import Child, LateError
from .commands import COMMANDS, Command, call, fits
from .journal import Journal
from .machine import Machine
from .models import Model, by_interest, spread
from .rows import Key, Row, Status
from .soak_processes import Soaks
from .tasks import Benchmark, BuildEngine, Place, Prove, Task

STEP_LIMIT_S: Final = 300.0
"""For what a step needs beyond the time that it was given; a first call may compile kernels."""

STEP_SHARE: Final = 0.2
"""Of the whole time, but not less than a minute: no step that hangs takes more."""

SHORTEST_SOAK_S: Final = 5.0

OVER: Final = "no time was left for it: give more --minutes"

Tell = Callable[[str], None]


class Check:
    """A check of a machine.

    Args:
        machine: What is checked.
        models: With what, smallest first.
        copies: Folder for bundles that get an engine for this GPU.
        journal: Where finished steps are kept; those that it holds are not done again.
        budget: How long it may take.
        tell: Told what is being done, for people.
        kept: Called when a step is finished.
    """

    def __init__(
        self,
        machine: Machine,
        models: Sequence[Model],
        copies: Path,
        journal: Journal,
        budget: Budget,
        tell: Tell,
        kept: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._models = list(models)
        self._copies = copies
        self._journal = journal
        self._budget = budget
        self._tell = tell
        self._kept = kept
        self._children: dict[str, Child] = {}
        self._missing: dict[str, BackendMissingError] = {}
        self._unreached: dict[Key, Row] = {}

    def rows(self, reason: str = OVER) -> list[Row]:
        """Of finished steps, and of those that have none: why not."""
        known = {**self._unreached, **self._journal.rows}
        left = [Row(*key, "unreached", reason) for key in self._planned() if key not in known]
        return [*known.values(), *left]

    def run(self) -> None:
        """Do every stage.

        Raises:
            StorageError: A row cannot be kept.
            KeyboardInterrupt: The user has had enough; the rows so far are there.
        """
        try:
            self._build()
            self._prove()
            self._end_children()  # what they hold on the GPU is for others now
            self._command()
            self._benchmark()
            self._end_children()
            self._soak()
        finally:
            self._end_children()

    def _end_children(self) -> None:
        while self._children:
            self._children.popitem()[1].end()

    def _planned(self) -> Iterator[Key]:
        for model, library in self._buildable():
            yield "engine", model.name, library
        for model, backend in self._pairs():
            yield "parity", model.name, backend
        for backend in self._with_artefact():
            for command in COMMANDS:
                yield "command", command, backend
        for model in spread(self._models):
            yield "benchmark", model.name, ""
        soaked = {backend for stage, _, backend in self._ended if stage == "soak"}
        for backend in self._machine.usable:
            if backend not in soaked:
                yield "soak", "", backend

    def _pairs(self) -> Iterator[tuple[Model, str]]:
        for model in by_interest(self._models):
            for backend in self._machine.usable:
                if backend in model.backends:
                    yield model, backend

    def _buildable(self) -> Iterator[tuple[Model, Name]]:
        for model in by_interest(self._models):
            for library in NAMES:
                lacks = "ort-cpu" in model.backends and library not in model.backends
                if lacks and library in self._machine.usable:
                    yield model, library

    def _build(self) -> None:
        for model, library in list(self._buildable()):
            key: Key = ("engine", model.name, library)
            if key not in self._journal.rows:
                if self._budget.left_s("engine") <= 0:
                    return
                self._tell(f"engine: {model.name} with {library}")
                copy, gpu = self._copies / f"{model.name}.edge", cuda_index(self._machine.device)
                task = BuildEngine(model.path, library, copy, gpu)
                self._add(_unless_refused(self._step(key, task, "engine", STEP_LIMIT_S)))
            row = self._journal.rows.get(key)
            if row is not None and row.status == "pass":
                self._use_copy(model.name, library)

    def _use_copy(self, name: str, library: Name) -> None:
        place = next(n for n, model in enumerate(self._models) if model.name == name)
        model = self._models[place]
        path, backends = self._copies / f"{name}.edge", (*model.backends, library)
        self._models[place] = replace(model, path=path, backends=backends)

    def _prove(self) -> None:
        for model, backend in self._pairs():
            key: Key = ("parity", model.name, backend)
            if key in self._journal.rows:
                continue
            if backend in self._missing:
                self._add(_failed(key, self._missing[backend], 0.0))
                continue
            if self._budget.left_s("parity") <= 0:
                return
            self._tell(f"parity: {model.name} on {backend}")
            task = Prove(Place(model.path, backend, self._machine.device))
            self._add(self._step(key, task, backend, STEP_LIMIT_S))

    def _command(self) -> None:
        places = {backend: self._commanded(backend) for backend in self._with_artefact()}
        for backend, model in places.items():
            for command in COMMANDS:
                key: Key = ("command", command, backend)
                if key in self._journal.rows:
                    continue
                if self._budget.left_s("command") <= 0:
                    return
                if model is not None:
                    self._tell(f"command: {command} of {model.name} on {backend}")
                    self._add(self._called(key, command, model))
                elif not self._any_unjudged(backend):
                    reason = "it is proved on no model that all commands take"
                    self._add(Row(*key, "open", reason))

    def _with_artefact(self) -> list[str]:
        has = {backend for model in self._models for backend in model.backends}
        return [backend for backend in self._machine.usable if backend in has]

    def _commanded(self, backend: str) -> Model | None:
        """The smallest model that a backend is proved on, and that all commands take."""
        passed = (model for model in self._models if self._passed(model.name, backend))
        return next((model for model in passed if fits(Bundle.read(model.path))), None)

    def _called(self, key: Key, command: Command, model: Model) -> Row:
        start = time.monotonic()
        place = Place(model.path, key[2], self._machine.device)
        try:
            figures = call(command, place, self._limit_s(STEP_LIMIT_S))
        except EdgeportError as e:
            return self._lost(key, e, time.monotonic() - start)
        seconds = round(time.monotonic() - start, 3)
        return Row(*key, "pass", seconds=seconds, figures={**figures, "model": model.name})

    def _benchmark(self) -> None:
        chosen = spread(self._models)
        for model in chosen:
            key: Key = ("benchmark", model.name, "")
            if key in self._journal.rows:
                continue
            if self._budget.left_s("benchmark") <= 0:
                return
            proved = tuple(b for b in self._machine.usable if self._passed(model.name, b))
            if not proved and self._unjudged(model.name):
                continue
            if not proved:
                self._add(Row(*key, "open", "no backend is proved on it"))
                continue
            seconds = self._budget.benchmark_s / len(chosen)
            self._tell(f"benchmark: {model.name} on {', '.join(proved)}, {seconds:.0f} s")
            timed_s = seconds / 2  # processes start for as long again, at most
            task = Benchmark(model.path, proved, self._machine.device, timed_s)
            limit_s = max(seconds, self._budget.left_s("benchmark")) + GRACE_S
            self._add(self._step(key, task, "", limit_s))

    def _soak(self) -> None:
        done = {row.backend for row in self._journal.rows.values() if row.stage == "soak"}
        places = {b: self._largest(b) for b in self._machine.usable if b not in done}
        for backend in [backend for backend, model in places.items() if model is None]:
            del places[backend]
            if self._any_unjudged(backend):
                continue
            has_one = backend in self._with_artefact()
            reason = "it is proved on no model" if has_one else "no model has an artefact for it"
            self._add(Row("soak", "", backend, "open", reason))
        seconds = min(self._budget.soak_s, self._budget.left_s("soak"))
        if not places or seconds < min(SHORTEST_SOAK_S, self._budget.soak_s):
            return
        self._tell(f"soak: {', '.join(places)}, {seconds:.0f} s")
        models = {backend: model for backend, model in places.items() if model is not None}
        limit_s = self._budget.limit_s(seconds + STEP_LIMIT_S)
        soaks = Soaks(models, self._machine.device, seconds, limit_s, self._children)
        try:
            for row in soaks.rows(self._tell):
                self._add(row)
        except KeyboardInterrupt:
            for row in soaks.cut_off():
                self._unreached[row.key] = row
            raise

    def _largest(self, backend: str) -> Model | None:
        return next((m for m in reversed(self._models) if self._passed(m.name, backend)), None)

    def _unjudged(self, model: str, backend: str | None = None) -> bool:
        """Whether a proof of a model is still to come: on one backend, or on any."""
        return any(
            pair.name == model
            and backend in (None, name)
            and ("parity", pair.name, name) not in self._journal.rows
            for pair, name in self._pairs()
        )

    def _any_unjudged(self, backend: str) -> bool:
        return any(self._unjudged(model.name, backend) for model in self._models)

    def _passed(self, model: str, backend: str) -> bool:
        row = self._journal.rows.get(("parity", model, backend))
        return row is not None and row.status == "pass"

    def _step(self, key: Key, task: Task, who: str, limit_s: float) -> Row:
        """Ask a child that is alive, and make a row of whatever comes of it."""
        start = time.monotonic()
        child = self._children.get(who)
        if child is None or not child.alive:
            if child is not None:
                child.end()
            child = self._children[who] = Child()
        try:
            figures = child.ask(task, self._limit_s(limit_s))
        except EdgeportError as e:
            if isinstance(e, BackendMissingError):
                self._missing[key[2]] = e
            if isinstance(e, EngineError):  # a kernel that crashed takes its process's CUDA along
                child.end()
            return self._lost(key, e, time.monotonic() - start)
        return Row(*key, "pass", seconds=round(time.monotonic() - start, 3), figures=figures)

    def _limit_s(self, most_s: float) -> float:
        return self._budget.limit_s(
            min(most_s, max(GRACE_S, STEP_SHARE * self._budget.minutes * 60))
        )

    def _lost(self, key: Key, error: EdgeportError, seconds: float) -> Row:
        """What is cut off because all the time is over has not failed."""
        if isinstance(error, LateError) and self._budget.left_s("soak") <= 0:
            return Row(*key, "unreached", OVER, seconds=round(seconds, 3))
        return _failed(key, error, seconds)

    def _add(self, row: Row) -> None:
        if row.status == "unreached":
            self._unreached[row.key] = row
        else:
            self._journal.add(row)
        self._kept()

    @property
    def _ended(self) -> set[Key]:
        return {*self._journal.rows, *self._unreached}


def _unless_refused(row: Row) -> Row:
    refused = row.figures.get("refused")
    return replace(row, status="open", reason=refused) if refused else row


def _failed(key: Key, error: EdgeportError, seconds: float) -> Row:
    status: Status = "open" if isinstance(error, BackendMissingError) else "fail"
    return Row(*key, status, error.problem, error.remedy, round(seconds, 3))
