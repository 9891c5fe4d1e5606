"""What torch's interpreter computes otherwise than Python, of numbers."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.deploy.compilers import torchscript
from edgeport.deploy.compilers.upstream import quiet

NUMBERS = [torch.tensor([n, 1.5]) for n in (0.5, -2.0, math.nan, math.inf, 4.0)]
COUNTS = [torch.tensor([n, 1]) for n in (7, 5, -7, 2**33 + 1, 9, 3)]


class Bounds(nn.Module):
    """By maxima and minima of what may be NaN, on either side."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        v, n = float(x[0]), x[0].item()
        clipped = max(0, min(v, 1.0))
        return x * max(v, 1.0), x * max(1.0, v), x * min(n, 1.0), x * min(1.0, n), x * clipped


class Finds(nn.Module):
    """NaN, as people ask for it."""

    def forward(self, x: Tensor) -> Tensor:
        v = float(x[0])
        if v != v:
            return x * 0 + 7
        return x + 1 if v == v else x


class FindsWhatIsReadTwice(nn.Module):
    """torch.jit makes one value of both."""

    def forward(self, x: Tensor) -> Tensor:
        if float(x[0]) != float(x[0]):
            return x * 0 + 7
        return x + 1 if float(x.max()) == float(x.max()) else x * 2


class Truths(nn.Module):
    """A truth is a whole number too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flag = bool(x[0] > 0)
        both = isinstance(flag, (float, int))
        return x + 1 if isinstance(flag, int) else x, x + 1 if both else x


def results(found: Any) -> list[Any]:
    return [(each.dtype, repr(each.tolist())) for each in found]


def saved(module: nn.Module, example: Tensor) -> Any:
    source = deploy.source_of("m", module.eval(), {"x": example})
    with quiet():
        made = torchscript.scripted(source, source.flat)
        buffer = io.BytesIO()
        jit: Any = torch.jit  # it has no types
        jit.save(jit.freeze(made), buffer)
        buffer.seek(0)
        return jit.load(buffer)


@pytest.mark.parametrize(
    "module", [Bounds(), Finds(), FindsWhatIsReadTwice(), Truths()], ids=lambda m: type(m).__name__
)
def test_a_file_computes_it_so(module: nn.Module) -> None:
    saved(module, NUMBERS[0])  # modules of one class would share what is mended
    made = saved(module, NUMBERS[0])
    for x in NUMBERS:  # from the second call on, its interpreter runs another graph
        with quiet():
            wanted, found = module(x), made(x)
        assert results(found) == results(wanted if isinstance(wanted, tuple) else [wanted])


class Bounded(nn.Module):
    """A branch on what may be NaN behind a bound."""

    def forward(self, x: Tensor) -> Tensor:
        scale = max(float(x[0, 0]), 1.0)
        if scale > 3.0:
            return x / scale
        return x * min(scale, 2.0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_bounds_are_those_in_every_format(tmp_path: Path) -> None:
    example = {"x": torch.randn(3, 4)}
    deploy.export(Bounded(), example, tmp_path / "m.edge", dimensions={"x": {0: "rows"}})
    for backend in ("libtorch", "ort-cpu", "torch"):
        with runtimes.open(tmp_path / "m.edge", backend) as session:
            for first in (0.1, 2.0, 9.0, math.nan):
                x = torch.randn(5, 4)
                x[0, 0] = first
                (found,) = session.run({"x": x.numpy()}).values()
                np.testing.assert_allclose(found, Bounded()(x), rtol=1e-5, atol=1e-6)


class Takes(nn.Module):
    """By a number that may be 0, for which torch's interpreter ends the process."""

    def forward(self, x: Tensor) -> Tensor:
        count = int(x[0])
        return x * (60 % count)


class TakesItems(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x[1].item() * 60 % x[0].item())


@pytest.mark.parametrize("module", [Takes(), TakesItems()], ids=lambda m: type(m).__name__)
def test_no_rest_of_nothing(module: nn.Module) -> None:
    made = saved(module, COUNTS[0])
    assert [made(x)[0].tolist() for x in COUNTS] == [module(x).tolist() for x in COUNTS]
    with pytest.raises(RuntimeError, match=r"division by 0|ZeroDivisionError"):
        made(torch.tensor([0, 1]))
