"""Is a bundle still the one that was opened? Its manifest has the hashes of all of it."""

import hashlib
from collections.abc import Iterable

from edgeport.runtimes.bundles.bundle import read_manifest
from edgeport.runtimes.bundles.container import container
from edgeport.runtimes.errors import EdgeportError

from .repository import Place


class Changes:
    """Remembers what lay at each place."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}

    def remember(self, places: Iterable[Place]) -> None:
        """That is what is opened now."""
        for place in places:
            self._known[place.slot] = _fingerprint(place)

    def since(self, places: Iterable[Place]) -> list[Place]:
        """Where something else lies than what was remembered, which is remembered from now on."""
        found = []
        for place in places:
            new = _fingerprint(place)
            if new and new != self._known.setdefault(place.slot, new):
                self._known[place.slot] = new
                found.append(place)
        return found


def _fingerprint(place: Place) -> bytes:
    """Of a manifest; empty if there is none: whoever opens the bundle tells."""
    try:
        return hashlib.sha256(read_manifest(container(place.path), place.path)).digest()
    except EdgeportError:
        return b""
