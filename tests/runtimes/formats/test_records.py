import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from edgeport.runtimes.formats.records import Count, Size, from_json, to_json


@dataclass(frozen=True, slots=True)
class Inner:
    DERIVED: ClassVar = ("double",)
    size: Size

    @property
    def double(self) -> float:
        return 2 * self.size


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    kind: Literal["a", "b"]
    count: Count
    place: int
    weight: float
    good: bool
    note: str | None
    parts: tuple[Inner, ...]
    bars: Mapping[str, float]


GOOD = Outer("n", "a", 3, -1, 0.5, True, None, (Inner(1.0), Inner(math.inf)), {"y": 2.0})
JSON = {
    "name": "n",
    "kind": "a",
    "count": 3,
    "place": -1,
    "weight": 0.5,
    "good": True,
    "note": None,
    "parts": [{"double": 2.0, "size": 1.0}, {"double": None, "size": None}],
    "bars": {"y": 2.0},
}


def test_there_and_back() -> None:
    assert to_json(GOOD) == JSON
    assert from_json(Outer, JSON) == GOOD


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": 1}, "'more' is not a key that belongs there"),
        ({"name": 1}, "name is 1, expected a string"),
        ({"kind": "c"}, "kind is 'c', expected one of a, b"),
        ({"kind": []}, r"kind is \[\], expected one of a, b"),
        ({"count": -1}, "count is -1, expected none below 0"),
        ({"count": 1.0}, "count is 1.0, expected an integer"),
        ({"place": None}, "place is None, expected an integer"),
        ({"weight": True}, "weight is True, expected a number"),
        ({"weight": None}, "weight is None, expected a number"),
        ({"weight": 10**400}, r"weight is 10+\.\.\.0+, expected a number"),
        ({"good": 1}, "good is 1, expected true or false"),
        ({"note": 1}, "note is 1, expected a string"),
        ({"parts": {}}, "parts is {}, expected a list"),
        ({"parts": [1]}, "a value is 1, expected an object"),
        ({"parts": [{"size": 1}]}, "'double' is missing"),
        ({"parts": [{"size": -1, "double": 0}]}, "size is -1, expected none below 0"),
        ({"bars": []}, r"bars is \[\], expected an object"),
        ({"bars": {"y": "2"}}, "bars 'y' is '2', expected a number"),
    ],
)
def test_what_is_something_else(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        from_json(Outer, {**JSON, **changes})
