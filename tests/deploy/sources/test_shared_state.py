"""A module whose first call leaves something outside of it, in the process that exports."""

import functools
import importlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport.deploy import make_call, make_source
from edgeport.deploy.proof.reference import Reference, make_golden
from edgeport.deploy.sources.shared_state import SharedState
from edgeport.runtimes import SourceError, TensorSpec

FOUND: dict[str, Tensor] = {}
MASKS: dict[int, Tensor] = {}
CALLS = [0]
LARGEST: float | None = None


ARRAYS = {"largest": np.zeros(1)}
SEEN: set[str] = set()
FILLED = READ = dict[str, float]()


class Settings:
    largest: Tensor | None = None


SETTINGS = Settings()


class Scale:
    """Keeps what it divides by, as an object or as a class."""

    largest: Tensor | None = None
    of_class: ClassVar[Tensor | None] = None

    def __call__(self, x: Tensor) -> Tensor:
        self.largest = x.abs().max() if self.largest is None else self.largest
        return x / self.largest

    @classmethod
    def divide(cls, x: Tensor) -> Tensor:
        cls.of_class = x.abs().max() if cls.of_class is None else cls.of_class
        return x / cls.of_class


class Nest:
    def __init__(self) -> None:
        self.scale = Scale()

    def divide(self, x: Tensor) -> Tensor:
        return self.scale(x)


SCALE, NEST = Scale(), Nest()


class OfClass(nn.Module):
    largest: ClassVar[Tensor | None] = None

    def forward(self, x: Tensor) -> Tensor:
        if OfClass.largest is None:
            OfClass.largest = x.abs().max()
        return x / OfClass.largest


class OfItsOwnClass(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        kind: Any = type(self)
        if not hasattr(kind, "made"):
            kind.made = x.abs().max()
        return x / kind.made  # type: ignore[no-any-return]  # whatever was put there


class InGlobal(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - FOUND.setdefault("mean", x.mean())


class RebindsGlobal(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        global LARGEST
        LARGEST = LARGEST or float(x.abs().max())
        return x / LARGEST


def _centred(x: Tensor, known: list[Tensor] = []) -> Tensor:  # noqa: B006  # what is looked for
    if not known:
        known.append(x.mean())
    return x - known[0]


class InDefault(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _centred(x)


class InObject(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if SETTINGS.largest is None:
            SETTINGS.largest = x.abs().max()
        return x / SETTINGS.largest


class InMethod(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return SCALE(x)


class InPartOfObject(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return NEST.divide(x)


class InOtherClass(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Scale.divide(x)


class InArray(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not ARRAYS["largest"]:
            ARRAYS["largest"][0] = float(x.abs().max())
        return x / float(ARRAYS["largest"][0])


class InSet(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        is_first = not SEEN
        SEEN.add("call")
        return x * (1 + is_first)


def _as_it_is(function: Any) -> Any:
    @functools.wraps(function)
    def called(*args: Any) -> Any:
        return function(*args)

    return called


SHIFTS: list[float] = []


@_as_it_is
def _shifted(x: Tensor) -> Tensor:
    if not SHIFTS:
        SHIFTS.append(float(x.mean()))
    return x - SHIFTS[0]


class BehindDecorator(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _shifted(x)  # type: ignore[no-any-return]  # the decorator has no types


def _remembering() -> type[nn.Module]:
    mean: Tensor | None = None

    class InClosure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal mean
            mean = x.mean() if mean is None else mean
            return x - mean

    return InClosure


class Harmless(nn.Module):
    """Counts its calls, and keeps what every call would make alike."""

    def forward(self, x: Tensor) -> Tensor:
        CALLS[0] += 1
        if len(x) not in MASKS:
            MASKS[len(x)] = torch.arange(len(x)) % 2
        return x * MASKS[len(x)][:, None]


class OneInTwoPlaces(nn.Module):
    """What one name fills, another one reads."""

    def forward(self, x: Tensor) -> Tensor:
        FILLED.setdefault("by", 2.0)
        return x / READ.get("by", 1.0)


def prove(module: nn.Module) -> None:
    call = make_call(module, (), {"x": torch.rand(2, 5)})
    source = make_source("m", module, call, [TensorSpec("x", "float32", ("batch", 5))], {})
    make_golden(Reference(source))


@pytest.mark.parametrize(
    ("kind", "through"),
    [
        (OfClass, "OfClass.largest"),
        (OfItsOwnClass, "OfItsOwnClass.made"),
        (InGlobal, f"{__name__}.FOUND"),
        (RebindsGlobal, f"{__name__}.LARGEST"),
        (InDefault, "the default values of _centred"),
        (InObject, f"{__name__}.SETTINGS.largest"),
        (InMethod, f"{__name__}.SCALE.largest"),
        (InPartOfObject, f"{__name__}.NEST.scale.largest"),
        (InOtherClass, "Scale.of_class"),
        (InArray, f"{__name__}.ARRAYS"),
        (InSet, f"{__name__}.SEEN"),
        (BehindDecorator, f"{__name__}.SHIFTS"),
        (_remembering(), "mean in _remembering.<locals>.InClosure.forward"),
    ],
)
def test_what_the_first_call_leaves_outside_is_state(kind: type[nn.Module], through: str) -> None:
    with pytest.raises(SourceError) as caught:
        prove(kind())

    assert caught.value.problem == (
        f"{kind.__name__} keeps state: its answer depends on its calls before, through {through}"
    )


def test_what_a_function_of_another_file_keeps_is_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_another_file.py").write_text(
        "LARGEST = None\n"
        "def divide(x):\n"
        "    global LARGEST\n"
        "    LARGEST = LARGEST or float(x.abs().max())\n"
        "    return x / LARGEST\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    other = importlib.import_module("of_another_file")

    class InOtherFile(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return other.divide(x)  # type: ignore[no-any-return]  # it has no types

    with pytest.raises(SourceError, match=r"through of_another_file\.LARGEST"):
        prove(InOtherFile())


def test_what_is_one_in_two_places_is_one_in_a_copy() -> None:
    prove(OneInTwoPlaces())


def test_what_every_call_would_leave_alike_is_none() -> None:
    prove(Harmless())

    assert CALLS[0] > 0
    assert MASKS


class Lazy:
    """Asked for anything, it fails, as settings do that nobody has loaded."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"{name} is asked for too early")


UNREADABLE = [np.ma.masked, Lazy()]
LAZY = Lazy()
"""numpy.ma.masked is among the globals of whoever trains with Lightning."""


class Unbuilt:
    """As a validator of pydantic, before there is one: it has no attributes, and says so loudly."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"{name} is asked for before it is built")


class Options:
    """As a class that pydantic or a lazy loader made holds them."""

    validator, loader = Unbuilt(), Lazy()


class ReadsWhatBearsNoReading(nn.Module):
    options = Options
    unbuilt, lazy = Unbuilt(), Lazy()

    def __init__(self) -> None:
        super().__init__()
        self.masked = np.ma.masked

    def forward(self, x: Tensor) -> Tensor:
        return x * len(UNREADABLE) if LAZY is not UNREADABLE[1] else x


def test_what_bears_no_reading_is_left_alone() -> None:
    prove(ReadsWhatBearsNoReading())


def test_what_was_there_is_back_for_a_while() -> None:
    kind: Any = OfClass
    kept, kind.largest = kind.largest, None
    try:
        shared = SharedState.of(OfClass())
        OfClass()(torch.full((1, 5), 4.0))
        assert shared.changed() == ["OfClass.largest"]

        with shared.restored():
            OfClass()(torch.full((1, 5), 8.0))
            assert OfClass.largest == 8

        assert OfClass.largest == 4
    finally:
        kind.largest = kept
