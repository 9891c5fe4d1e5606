"""A module whose first call leaves something outside of it, in the process that exports."""

from typing import Any, ClassVar

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


class Settings:
    largest: Tensor | None = None


SETTINGS = Settings()


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
        (InObject, "SETTINGS.largest"),
        (_remembering(), "mean in _remembering.<locals>.InClosure.forward"),
    ],
)
def test_what_the_first_call_leaves_outside_is_state(kind: type[nn.Module], through: str) -> None:
    with pytest.raises(SourceError) as caught:
        prove(kind())

    assert caught.value.problem == (
        f"{kind.__name__} keeps state: its answer depends on its calls before, through {through}"
    )


def test_what_every_call_would_leave_alike_is_none() -> None:
    prove(Harmless())

    assert CALLS[0] > 0
    assert MASKS


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
