import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeport.runtimes import MissingFileError, UsageError
from edgeport.runtimes.serve.counters import Board
from edgeport.runtimes.serve.model import Model
from edgeport.runtimes.serve.repository import Catalogue, Place, Repository
from edgeport.runtimes.serve.work import Bounds


def test_the_newest_version_is_opened_first_and_its_failure_is_told() -> None:
    """So that nobody who names no version gets an older one while a model is loaded."""
    opened = []

    def refuse(place: Place, opening: Callable[[bool], None]) -> Model:
        opened.append(place.version)
        raise UsageError(f"version {place.version} is odd", remedy="mend it")

    repository = Repository(refuse, Bounds(), Board(1))
    places = [Place("m", version, Path(version), slot) for slot, version in enumerate("123")]
    with pytest.raises(UsageError, match="version 3 is odd"):
        asyncio.run(repository.load(places))
    assert opened == ["3", "2", "1"]


def test_a_version_that_is_withheld_keeps_its_reason_beside_one_that_is_gone() -> None:
    def refuse(place: Place, opening: Callable[[bool], None]) -> Model:
        raise UsageError("it is odd", remedy="mend it")

    repository = Repository(refuse, Bounds(), Board(1))
    gone, withheld, last = (Place("m", v, Path(v), slot) for slot, v in enumerate("123"))
    repository.expect(gone)
    repository.withhold(withheld, "2.edge is not a bundle")
    with pytest.raises(UsageError, match="it is odd"):
        asyncio.run(repository.load([last], withheld=["2"]))
    assert {entry.version: entry.condition() for entry in repository.entries()} == {
        "1": ("UNAVAILABLE", "it is no longer in the repository"),
        "2": ("UNAVAILABLE", "2.edge is not a bundle"),
        "3": ("UNAVAILABLE", "it is odd"),
    }


def test_a_bundle_that_is_no_version_is_found(tmp_path: Path) -> None:
    for path in ("m/1.edge", "m/v2.edge", "m/03.edge", "m/notes.txt", "n/1.edge", "n.edge"):
        (tmp_path / path).mkdir(parents=True)
    catalogue = Catalogue([], tmp_path)
    assert [place.version for place in catalogue.places("m")] == ["1"]
    assert catalogue.unused("m") == [tmp_path / "m" / "03.edge", tmp_path / "m" / "v2.edge"]
    assert [place.path for place in catalogue.places("n")] == [tmp_path / "n.edge"]
    assert catalogue.unused("n") == [tmp_path / "n" / "1.edge"]
    assert Catalogue([]).unused("m") == []
    with pytest.raises(MissingFileError, match=r"no such folder: .*absent"):
        Catalogue([], tmp_path / "absent")
