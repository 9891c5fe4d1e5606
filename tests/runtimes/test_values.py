"""The classes that cost little to define do what those of the standard library do."""

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from edgeport.runtimes import values


@values.dataclass(frozen=True, slots=True)
class Ours:
    """Told."""

    name: str
    size: int = 3
    parts: list[int] = values.field(default_factory=list)
    KIND: ClassVar = "ours"

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size is {self.size}")

    @property
    def twice(self) -> int:
        return 2 * self.size


@dataclasses.dataclass(frozen=True, slots=True)
class Theirs:
    """Told."""

    name: str
    size: int = 3
    parts: list[int] = dataclasses.field(default_factory=list)
    KIND: ClassVar = "theirs"

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size is {self.size}")

    @property
    def twice(self) -> int:
        return 2 * self.size


@values.dataclass(frozen=True, slots=True)
class Plain:
    a: int
    b: str = "b"


def derived(kind: type) -> Any:
    """What a user may make of a public class."""
    return dataclasses.dataclass(frozen=True)(type("Derived", (kind,), {}))


each = pytest.mark.parametrize("kind", [Ours, Theirs])

LOOKS: list[Callable[[Any], object]] = [
    lambda kind: repr(kind("a")).replace(kind.__name__, ""),
    lambda kind: repr(kind("a", 4, [1])).replace(kind.__name__, ""),
    lambda kind: repr(kind(size=4, name="b")).replace(kind.__name__, ""),
    lambda kind: (kind("a") == kind("a"), kind("a") == kind("b"), kind("a") == "a"),
    lambda kind: (kind("a") != kind("a", 4), kind("a").parts is kind("a").parts),
    lambda kind: kind("a", 5).twice,
    lambda kind: [f.name for f in dataclasses.fields(kind)],
    lambda kind: [(f.type, f.default) for f in dataclasses.fields(kind("a"))],
    lambda kind: dataclasses.asdict(kind("a", parts=[1, 2])),
    lambda kind: dataclasses.is_dataclass(kind),
    lambda kind: dataclasses.replace(kind("a"), size=7) == kind("a", 7),
    lambda kind: values.replace(kind("a"), size=7) == kind("a", 7),
    lambda kind: (kind.__dataclass_params__.frozen, kind.__dataclass_params__.eq),
    lambda kind: [f.name for f in dataclasses.fields(derived(kind))],
    lambda kind: str(inspect.signature(kind)),
    lambda kind: (
        kind.__match_args__,
        kind.__slots__,
        kind.__doc__,
        hasattr(kind("a"), "__dict__"),
    ),
    lambda kind: [copy.deepcopy(kind("a", 2, [1])) == kind("a", 2, [1]), copy.copy(kind("a")).name],
    lambda kind: [
        pickle.loads(pickle.dumps(kind("a", 2, [1]), protocol)) == kind("a", 2, [1])
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ],
]


@pytest.mark.parametrize("look", LOOKS)
def test_both_look_the_same(look: Callable[[Any], object]) -> None:
    assert look(Ours) == look(Theirs)


def test_equal_values_have_one_hash() -> None:
    assert len({Plain(1), Plain(1, "b"), Plain(1, "c")}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Ours("a"))


@each
@pytest.mark.parametrize(
    "call",
    [
        lambda kind: kind(),
        lambda kind: kind("a", 1, [], 2),
        lambda kind: kind("a", name="b"),
        lambda kind: kind("a", colour="red"),
    ],
)
def test_wrong_arguments(kind: type, call: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match=kind.__name__):
        call(kind)


@each
def test_nothing_can_be_changed(kind: Any) -> None:
    value = kind("a")
    with pytest.raises(dataclasses.FrozenInstanceError, match="name"):
        value.name = "b"
    with pytest.raises(dataclasses.FrozenInstanceError, match="name"):
        del value.name
    assert value.name == "a"
    with pytest.raises(ValueError, match="size is -1"):
        kind("a", -1)


def test_opening_a_model_defines_no_dataclass_of_the_library() -> None:
    code = (
        "import sys, numpy, onnxruntime; before = set(sys.modules);"
        "import edgeport.runtimes.ort.cpu, edgeport.runtimes.safety.private_copy;"
        "print(sorted({'dataclasses', 'hashlib', 'inspect'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", done.stdout


def test_a_copy_with_changes() -> None:
    """Which ``copy.replace`` of Python 3.13 asks for by this name."""
    plain: Any = Plain(1)
    assert plain.__replace__(a=2) == Plain(2)


def test_what_it_is_not_for() -> None:
    kinds: list[tuple[dict[str, Any], tuple[type, ...], str]] = [
        ({"__annotations__": {"a": int}}, (Plain,), "Strange has ancestors: use the library's"),
        ({"__annotations__": {"a": int, "b": int}, "a": 1}, (), "Strange has a field without a"),
    ]
    light: Any = values.dataclass(frozen=True, slots=True)
    for body, bases, problem in kinds:
        with pytest.raises(TypeError, match=problem):
            light(type("Strange", bases, body))
