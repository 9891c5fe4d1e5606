"""The models of one process: which are there, which answer, and how one takes another's place."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.errors import (
    EdgeportError,
    MissingFileError,
    UnavailableError,
    UnknownModelError,
    UsageError,
)
from edgeport.runtimes.session import Options

from . import counters as c
from .counters import MOST_MODELS, Board
from .model import Model, open_model
from .scheduler import Scheduler
from .work import Bounds

ONLY_VERSION: Final = "1"
"""Of a bundle that lies nowhere where versions are numbered; the protocol wants it to have one."""

_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")


class Place(NamedTuple):
    """Where a version of a model lies.

    Attributes:
        name: As clients know it.
        version: A number, as text.
        path: The bundle.
        slot: Of its counters; no other model of the server ever has it.
    """

    name: str
    version: str
    path: Path
    slot: int


class Catalogue:
    """All places of a server. One process keeps it, so that slots mean the same in all of them.

    Args:
        bundles: Each is served under the name in its manifest.
        folder: ``NAME.edge``, or ``NAME/VERSION.edge``: the names of files and folders count.

    Raises:
        UsageError: Two models have one name.
        MissingFileError: The folder, or a bundle, is not there.
        FormatError: Something is not a bundle.
    """

    def __init__(self, bundles: Sequence[Path], folder: Path | None = None) -> None:
        self._bundles: dict[str, Path] = {}
        self._folder = folder
        self._slots: dict[tuple[str, str], int] = {}
        if folder is not None and not folder.is_dir():
            raise MissingFileError(
                f"no such folder: {folder}", remedy="make it, and put bundles into it: NAME.edge"
            )
        for path in bundles:
            name = Bundle.peek(path).manifest.name
            first = self._bundles.setdefault(name, path)
            if first is not path or name in self.names_in_folder():
                raise UsageError(
                    f"{first} and {path if first is not path else folder} are both named {name!r}",
                    remedy="serve them on two ports, or export one of them under another name",
                )

    def names(self) -> list[str]:
        """Of all models that are there now."""
        return [*self._bundles, *self.names_in_folder()]

    def names_in_folder(self) -> list[str]:
        """Of the models that the folder holds now.

        Raises:
            MissingFileError: It is gone, or cannot be read.
        """
        if self._folder is None:
            return []
        try:
            entries = list(self._folder.iterdir())
        except OSError as e:
            raise MissingFileError(
                f"cannot read {self._folder}: {e.strerror or e}", remedy="put the folder back"
            ) from e
        found = {
            entry.stem if entry.suffix == ".edge" else entry.name
            for entry in entries
            if not entry.name.startswith(".") and (entry.suffix == ".edge" or entry.is_dir())
        }
        return sorted(found)

    def places(self, name: str) -> list[Place]:
        """Every version of a model that is there now.

        Raises:
            UnknownModelError: There is none.
            UsageError: The server has had too many models.
        """
        found = dict(self._paths(name))
        if not found and name in self.names():
            raise UnknownModelError(
                f"the folder {name!r} of the repository holds no bundle named by its version",
                remedy=f"put it there as {name}/1.edge, or as {name}.edge beside the folder",
            )
        if not found:
            raise UnknownModelError(
                f"the repository holds no model {name!r}",
                remedy=f"it holds {', '.join(map(repr, self.names())) or 'nothing'}",
            )
        return [
            Place(name, version, path, self._slot(name, version))
            for version, path in sorted(found.items(), key=lambda item: int(item[0]))
        ]

    def unused(self, name: str) -> list[Path]:
        """Bundles in the folder of a model that are no version of it."""
        if self._folder is None:
            return []
        used = {path for _, path in self._paths(name)}
        return sorted({*(self._folder / name).glob("*.edge")} - used)

    def _paths(self, name: str) -> list[tuple[str, Path]]:
        if name in self._bundles:
            return [(ONLY_VERSION, self._bundles[name])]
        if self._folder is None or name not in self.names_in_folder():
            return []
        single = self._folder / f"{name}.edge"
        if single.exists():
            return [(ONLY_VERSION, single)]
        versions = (self._folder / name).glob("*.edge")
        return [(path.stem, path) for path in versions if _VERSION.fullmatch(path.stem)]

    def _slot(self, name: str, version: str) -> int:
        slot = self._slots.setdefault((name, version), len(self._slots))
        if slot >= MOST_MODELS:
            raise UsageError(
                f"this server has had {MOST_MODELS} versions of models, and can count no more",
                remedy="start it again",
            )
        return slot


State = Literal["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]


@dataclass(slots=True)
class Entry:
    """A version of a model in this process."""

    name: str
    version: str
    slot: int
    state: State = "UNAVAILABLE"
    reason: str = ""
    scheduler: Scheduler | None = None

    def condition(self) -> tuple[State, str]:
        """Whether it answers now, and why not."""
        why_not = self.scheduler.why_not_ready if self.scheduler is not None else ""
        return ("UNAVAILABLE", why_not) if why_not else (self.state, self.reason)


Opener = Callable[[Place, Callable[[bool], None]], Model]
"""Opens and proves a model, in a thread."""


class Repository:
    """The models of one process. Lives in the event loop.

    Args:
        opener: Opens a model.
        bounds: What may wait for each.
        board: Where everything is counted.
        process: Which one this is.
    """

    def __init__(self, opener: Opener, bounds: Bounds, board: Board, process: int = 0) -> None:
        self.board = board
        self._opener = opener
        self.bounds = bounds
        self._process = process
        self._entries: dict[tuple[str, str], Entry] = {}
        self._current: dict[tuple[str, str], Scheduler] = {}  # version "": the newest

    # ---- looking

    def serving(self, name: str, version: str = "") -> Scheduler:
        """What answers for a model.

        Raises:
            UnknownModelError: There is no such model or version.
            UnavailableError: It is not ready.
        """
        try:
            return self._current[name, version]
        except KeyError:
            if not name:
                raise self._unknown(name, version) from None
            entry = self.entries(name, version)[-1]
            raise UnavailableError(
                f"model {name!r} version {entry.version} is not ready: "
                f"{entry.reason or entry.state.lower()}",
                remedy="load it, or look at POST /v2/repository/index",
            ) from None

    def find(self, name: str, version: str = "") -> Scheduler | None:
        """The same; ``None`` if it is not ready, hangs or is not there."""
        found = self._current.get((name, version))
        return None if found is None or found.hangs else found

    def versions(self, name: str) -> list[str]:
        """Of a model that are ready, oldest first."""
        ready = [entry for entry in self._entries.values() if entry.scheduler is not None]
        return sorted((entry.version for entry in ready if entry.name == name), key=int)

    def names(self) -> list[str]:
        """Of the models that are ready."""
        return [name for name, version in self._current if not version and self.find(name)]

    def entries(self, name: str = "", version: str = "") -> list[Entry]:
        """All, or those of a model, or a version of it; oldest version first.

        Raises:
            UnknownModelError: A name is given, and there is no such model or version.
        """
        found = [
            entry
            for entry in self._entries.values()
            if (not name or entry.name == name) and (not version or entry.version == version)
        ]
        if (name or version) and not found:
            raise self._unknown(name, version)
        return sorted(found, key=lambda entry: (entry.name, int(entry.version)))

    def _unknown(self, name: str, version: str) -> UnknownModelError:
        versions = [entry.version for entry in self._entries.values() if entry.name == name]
        if versions:
            return UnknownModelError(
                f"model {name!r} has no version {version!r}; "
                f"it has {', '.join(map(repr, sorted(versions, key=int)))}",
                remedy="leave the version out for the newest one",
            )
        names = ", ".join(map(repr, dict.fromkeys(name for name, _ in self._entries)))
        return UnknownModelError(
            f"no model is named {name!r}; this server has {names or 'none'}",
            remedy="name one of these" if names else "start it with a bundle",
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is no model, ready or not."""
        return not self._entries

    # ---- changing

    async def load(self, places: Sequence[Place], withheld: Collection[str] = ()) -> None:
        """Open every version of a model and prove it; each takes its old one's place when it has.

        The newest comes first: where none answers yet, no client that names no version gets an
        older one meanwhile. Versions that are no longer there are unloaded.

        Args:
            places: All of one model, oldest version first.
            withheld: Versions of it that are there, and are not to be opened.

        Raises:
            EdgeportError: The first failure. What could not be opened again answers as before.
        """
        failures = []
        for place in reversed(places):
            try:
                await self._load(place)
            except EdgeportError as e:
                failures.append(e)
        known = {*withheld, *(place.version for place in places)}
        for entry in self.entries(places[0].name):
            if entry.version not in known:
                self._retire(entry, "it is no longer in the repository")
        if failures:
            raise failures[0]

    def adopt(self, place: Place, model: Model) -> None:
        """Let a model that is open and proved answer for its place."""
        entry = self._entry(place)
        counters = self.board.counters(self._process, place.slot)
        old, entry.scheduler = entry.scheduler, Scheduler(model, counters, self.bounds)
        entry.state, entry.reason = "READY", ""
        self._index()
        if old is not None:
            old.close()

    def unload(self, name: str) -> None:
        """Stop all versions of a model; what waits for them is still answered.

        Raises:
            UnknownModelError: There is no such model.
        """
        for entry in self.entries(name):
            self._retire(entry, "unloaded")

    def expect(self, place: Place) -> None:
        """List a version that is about to be loaded."""
        self._entry(place).state = "LOADING"

    def withhold(self, place: Place, reason: str) -> None:
        """List a version that is not to be opened, and say why."""
        entry = self._entry(place)
        self._retire(entry, reason)

    def give_up(self) -> int:
        """Tell all who wait for an answer that there will be none, and count them."""
        return sum(e.scheduler.give_up() for e in self.entries() if e.scheduler is not None)

    def close(self) -> None:
        """Close every engine."""
        for entry in self._entries.values():
            self._retire(entry, "the server has ended")

    async def _load(self, place: Place) -> None:
        entry = self._entry(place)
        counters = self.board.counters(self._process, place.slot)
        if entry.scheduler is None:
            entry.state, entry.reason = "LOADING", ""

        def opening(begins: bool) -> None:
            counters.set(c.OPENING, int(begins))

        try:
            model = await asyncio.to_thread(self._opener, place, opening)
        except EdgeportError as e:
            entry.reason = e.problem
            if entry.scheduler is None:
                entry.state = "UNAVAILABLE"
            raise
        self.adopt(place, model)

    def _entry(self, place: Place) -> Entry:
        key = (place.name, place.version)
        return self._entries.setdefault(key, Entry(place.name, place.version, place.slot))

    def _retire(self, entry: Entry, reason: str) -> None:
        scheduler, entry.scheduler = entry.scheduler, None
        entry.state, entry.reason = "UNAVAILABLE", reason
        self._index()
        if scheduler is not None:
            scheduler.close()

    def _index(self) -> None:
        current: dict[tuple[str, str], Scheduler] = {}
        for entry in self.entries():  # oldest first: the newest has the last word
            if entry.scheduler is not None:
                current[entry.name, entry.version] = entry.scheduler
                current[entry.name, ""] = entry.scheduler
        self._current = current


def opener(backend: str, options: Options, trusted: Sequence[Path] | None) -> Opener:
    """Open models with one backend.

    Args:
        backend: Which engine.
        options: As for any session.
        trusted: As in ``Bundle.read``.
    """

    def open_place(place: Place, opening: Callable[[bool], None]) -> Model:
        return open_model(place.path, place.name, place.version, backend, options, trusted, opening)

    return open_place
