"""What a server offers: which versions of which models, and which are left out, and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from edgeport.runtimes.errors import EdgeportError, EngineError

from .changes import Changes
from .repository import Catalogue, Place

MOST_DEATHS: Final = 3
"""A model that was running at so many deaths within a minute is left out."""

MINUTE_S: Final = 60.0


Rehearsal: TypeAlias = Callable[[Place], None]
"""Opens and runs a model in a child process, which may crash; raises what went wrong."""


class Offer:
    """Kept by the process that watches; those that answer open what is in it.

    Args:
        catalogue: Where models come from.
        required: Names of the models without which there is nothing to serve.
        tell: Called with what an operator should know.
    """

    def __init__(
        self, catalogue: Catalogue, required: Iterable[str], tell: Callable[[str], None]
    ) -> None:
        self._catalogue = catalogue
        self._required = frozenset(required)
        self._tell = tell
        self._wanted: dict[str, list[Place]] = {}
        self._withheld: dict[tuple[str, str], tuple[Place, str]] = {}
        self._blamed: dict[int, list[float]] = {}
        self._changes = Changes()

    def choose(self, rehearsal: Rehearsal) -> None:
        """Try every model; what is not required may be left out.

        Raises:
            EdgeportError: One that is required cannot be served.
        """
        names = self._catalogue.names()
        if not names:
            self._tell("the folder holds no bundle: put NAME.edge into it, and start again")
        for name in names:
            try:
                places = self._catalogue.places(name)
            except EdgeportError as e:  # lost+found, say: no reason not to serve the others
                self.refuse(name, e)
                continue
            self._tell_unused(name)
            for place in places:
                try:
                    rehearsal(place)
                except EdgeportError as e:
                    if name in self._required:
                        raise
                    self._withhold(place, e.problem)
                else:
                    self._wanted.setdefault(name, []).append(place)

    def refuse(self, name: str, error: EdgeportError) -> None:
        """A model does not answer.

        Raises:
            EdgeportError: It has to: ``error``.
        """
        if name in self._required:
            raise error
        self._tell(f"model {name!r} is not served: {error.problem}")

    def open(self) -> None:
        """All that has to answer has answered once: from now on, anything may be left out."""
        self._required = frozenset()

    def places(self) -> list[Place]:
        """Of all models that are wanted."""
        return [place for places in self._wanted.values() for place in places]

    def for_worker(self, worker: int) -> tuple[list[Place], list[tuple[Place, str]]]:
        """What one that starts now opens, and what not, with the reason."""
        places = [each for each in self.places() if (each.name, each.version) not in self._withheld]
        for place in self._changes.since(places):
            self._tell(
                f"model {place.name!r} version {place.version}: {place.path} is not what was "
                f"opened before; worker {worker} serves what is there now: load it, or "
                "start again, and all workers do"
            )
        return places, list(self._withheld.values())

    def blame(self, slots: Sequence[int]) -> str:
        """Count a death, and leave a model out that has caused too many.

        Args:
            slots: Of the models that were running.

        Raises:
            EngineError: It is required.
        """
        now = time.monotonic()
        blamed = []
        for place in self.places():
            if place.slot not in slots:
                continue
            blamed.append(f"{place.name!r} version {place.version}")
            times = [at for at in self._blamed.get(place.slot, []) if now - at < MINUTE_S]
            self._blamed[place.slot] = [*times, now]
            if len(times) + 1 >= MOST_DEATHS:
                self._withhold(place, f"it ended {MOST_DEATHS} processes within a minute")
        return " and ".join(blamed)

    def loaded(self, name: str, places: Sequence[Place]) -> None:
        """A model is wanted, in these versions; what was held against it is forgotten."""
        self._tell_unused(name)
        self._wanted[name] = list(places)
        self._changes.remember(places)
        for place in places:
            self._withheld.pop((name, place.version), None)
            self._blamed.pop(place.slot, None)

    def unloaded(self, name: str) -> None:
        """A model is not wanted any more."""
        for place in self._wanted.pop(name, ()):
            self._withheld[name, place.version] = (place, "unloaded")

    def _tell_unused(self, name: str) -> None:
        for path in self._catalogue.unused(name):
            self._tell(
                f"{path} is not served: its name is no version, such as 1.edge, "
                f"or {name}.edge lies beside the folder"
            )

    def _withhold(self, place: Place, reason: str) -> None:
        self._withheld[place.name, place.version] = (place, reason)
        self._tell(f"model {place.name!r} version {place.version} is not served: {reason}")
        if place.name in self._required:
            raise EngineError(
                f"model {place.name!r}: {reason}",
                remedy="don't serve this bundle with this backend: edgeport verify tells more",
            )
