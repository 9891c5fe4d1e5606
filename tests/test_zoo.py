"""The zoo itself: its modules run at every declared size, and their outputs tell right from wrong.

Modules that need more than torch are left out here; ``scripts/bench_export.py`` runs them all.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
import zoo
from zoo.nested import flat
from zoo.reference import Answer, answers, compare

from edgeport.runtimes.inputs import Array
from edgeport.runtimes.libtorch.threads import thread_count

OWN = [name for name, entry in zoo.ZOO.items() if not entry.needs]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are slower on more, and much slower where cores are shared."""
    with thread_count(1):
        yield


@pytest.fixture(scope="module", params=OWN)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(name: str) -> list[Answer]:
    return _answers(name)


def _answers(name: str, most_sizes: int | None = 2) -> list[Answer]:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: list[Answer] = answers(zoo.ZOO[name], lambda: zoo.make(name), most_sizes)
        return found


def test_every_output_discriminates(name: str, expected: list[Answer]) -> None:
    assert not undiscriminating(name, expected)


def undiscriminating(name: str, expected: Sequence[Answer]) -> list[int]:
    """Outputs for which the answer to another sample, or zeros, would pass on every sample."""
    zeros = [[array * 0 for array in answer.eager] for answer in expected]
    others = [_other(expected, index) for index in range(len(expected))]
    return [
        place
        for place in range(len(expected[0].eager))
        if _passes(place, expected, zeros) or _passes(place, expected, others)
    ]


def _other(expected: Sequence[Answer], index: int) -> Sequence[Array]:
    """Each output of another sample of the same shape; without one, with its rows moved."""
    later = [*expected[index + 1 :], *expected[:index]]
    return [
        next((a.eager[place] for a in later if a.eager[place].shape == own.shape), np.roll(own, 1))
        for place, own in enumerate(expected[index].eager)
    ]


def _passes(place: int, expected: Sequence[Answer], actual: Sequence[Sequence[Array]]) -> bool:
    verdicts = [v for v in compare(expected, actual) if v.output == f"output {place}"]
    return all(verdict.status == "pass" for verdict in verdicts)


def test_the_oracle_is_near(name: str, expected: list[Answer]) -> None:
    """Eager is judged as if it were a backend: an oracle of another branch would fail it."""
    assert all(v.status == "pass" for v in compare(expected, [a.eager for a in expected]))


def test_dimensions_are_axes_of_the_inputs(name: str) -> None:
    entry = zoo.ZOO[name]
    given = flat(zoo.inputs(name))
    for flat_name, axes in entry.dimensions.items():
        for axis, dimension in axes.items():
            assert given[flat_name].shape[axis] == entry.usual[dimension]


def test_training_mode_is_as_declared(name: str) -> None:
    assert zoo.make(name).training == zoo.ZOO[name].training


@pytest.mark.parametrize("control", ["branch", "branch of layers", "early exit", "hard routing"])
def test_both_branches_are_taken(control: str) -> None:
    module = zoo.make(control)
    taken = {_path(module, answer.inputs["x"]) for answer in _answers(control, None)}
    assert len(taken) > 1


def _path(module: torch.nn.Module, x: torch.Tensor) -> tuple[object, ...]:
    """The layers that were called, or the sign that decides where there is no layer."""
    called: list[object] = [bool(x.sum() > 0)] if isinstance(module, zoo.Branch) else []
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, layer in module.named_modules()
    ]
    module(x)
    for hook in hooks:
        hook.remove()
    return tuple(called)
