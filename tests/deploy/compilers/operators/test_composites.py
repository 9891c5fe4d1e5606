"""What torch takes apart itself, fixing sizes or asking for values: each against torch's own."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.deploy.compilers.operators import composites
from edgeport.deploy.compilers.operators.composites import TABLE
from edgeport.runtimes import Range

aten: Any = torch.ops.aten

DTYPES = (torch.float32, torch.float64, torch.float16, torch.int64)


def drawn(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return (torch.randn(shape) * 4).to(dtype)


def assert_same(operator: Any, *args: Any, **options: Any) -> None:
    found, expected = TABLE[operator](*args, **options), operator(*args, **options)
    torch.testing.assert_close(found, expected, equal_nan=True)


@settings(deadline=None, max_examples=40)
@given(*[st.lists(st.integers(0, 3), max_size=4).map(tuple)] * 2, *[st.sampled_from(DTYPES)] * 2)
def test_products_of_kronecker(
    left: tuple[int, ...], right: tuple[int, ...], dtype: torch.dtype, other: torch.dtype
) -> None:
    assert_same(aten.kron.default, drawn(left, dtype), drawn(right, other))


@pytest.mark.filterwarnings("ignore:cov.*degrees of freedom")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (3, 5), (3, 1), (3, 2)])
def test_covariances(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = drawn(shape, dtype)
    count = shape[-1] if shape else 1
    often, weights = torch.arange(1, count + 1), torch.rand(count).to(torch.float64) + 0.1
    assert_same(aten.corrcoef.default, x)
    for correction in (0, 1, 2):
        assert_same(aten.cov.default, x, correction=correction)
        if x.is_floating_point() and count > 2:
            weights = weights.to(dtype)
            for given in ((often, None), (None, weights), (often, weights)):
                options = dict(zip(("fweights", "aweights"), given, strict=True))
                assert_same(aten.cov.default, x, correction=correction, **options)


def test_covariances_of_what_is_complex_or_no_number() -> None:
    z = torch.randn(3, 6, dtype=torch.complex128)
    assert_same(aten.cov.default, z)
    assert_same(aten.corrcoef.default, z)
    assert_same(aten.corrcoef.default, torch.tensor([[1.0, 1, 1], [0, math.nan, 2], [3, 1, 2]]))


@pytest.mark.parametrize("edge_order", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_slopes(dtype: torch.dtype, edge_order: int) -> None:
    x = drawn((3, 4, 5), dtype)
    places = [torch.tensor([0, 1, 3, 4, 4.5][:size], dtype=torch.float64) for size in x.shape]
    for name, options in (
        ("scalarint", {}),
        ("scalarint", {"spacing": 0.5, "dim": -1}),
        ("scalararray", {"spacing": 2, "dim": [2, 0]}),
        ("array", {"dim": [1]}),
        ("scalarrayint", {"spacing": [1, 2, 0.3]}),
        ("scalarrayarray", {"spacing": [1, 0.3], "dim": [0, -1]}),
        ("tensorarrayint", {"spacing": places}),
        ("tensorarray", {"spacing": places[1:], "dim": [1, 2]}),
    ):
        assert_same(getattr(aten.gradient, name), x, edge_order=edge_order, **options)


GAPS = torch.tensor(
    [[math.nan, 1.0, 3.0, -2.0], [5, 4, math.nan, 5], [math.nan] * 4, [1, 2, math.inf, 7]]
)


@pytest.mark.parametrize("interpolation", ["linear", "lower", "higher", "nearest", "midpoint"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quantiles(dtype: torch.dtype, interpolation: str) -> None:
    options = {"interpolation": interpolation}
    several = torch.tensor([0.0, 0.3, 0.5, 1.0], dtype=dtype)
    for x in (GAPS.to(dtype), torch.randn(2, 3, 5, dtype=dtype), torch.randn(4, 1, dtype=dtype)):
        for dim in (None, 0, -1):
            for keepdim in (False, True):
                assert_same(aten.nanquantile.scalar, x, 0.3, dim, keepdim, **options)
                assert_same(aten.nanquantile.default, x, several, dim, keepdim, **options)


@pytest.mark.filterwarnings("ignore:torch.chain_matmul is deprecated")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_products_and_powers(dtype: torch.dtype) -> None:
    x, y, z = drawn((3, 4), dtype), drawn((4, 2), dtype), drawn((2, 5), dtype)
    for matrices in ([x, y], [x, y, z], [x[0], y, z], [x, y, z[:, 0]]):
        assert_same(aten.linalg_multi_dot.default, matrices)
    assert_same(aten.chain_matmul.default, [x, y, z])
    for count in (None, 2, 3):
        assert_same(aten.vander.default, x[0], count)
        assert_same(aten.vander.default, x[0], count, True)
        assert_same(aten.linalg_vander.default, x, N=count)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_choices(size: int, count: int, again: bool) -> None:
    assert_same(aten.combinations.default, drawn((size,), torch.float32), count, again)


def test_torch_has_its_own_kernels_again() -> None:
    own = [dict(operator.py_kernels) for operator in TABLE]
    with composites.known():
        assert [dict(operator.py_kernels) for operator in TABLE] != own
    assert [dict(operator.py_kernels) for operator in TABLE] == own


class Computes(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def _taken_apart(x: Tensor) -> list[Tensor]:
    edges = torch.tensor([0.0, 1, 3, 4])
    return [
        torch.cov(x.T),
        torch.cov(x.T, correction=0, aweights=x[:, 0].sigmoid()),
        torch.corrcoef(x),
        torch.kron(x, torch.tensor([[1.0, 2]])),
        torch.kron(x[:, 0], x[0]),
        torch.where(x > 1, math.nan, x).nanquantile(0.3),
        torch.where(x > 1, math.nan, x).nanquantile(torch.tensor([0.2, 0.7]), 0, keepdim=True),
        *torch.gradient(x, spacing=0.5),
        *torch.gradient(x, spacing=(edges,), dim=1, edge_order=2),
        torch.linalg.multi_dot([x, x.T, x]),
        torch.vander(x[:, 0], 4),
        torch.linalg.vander(x, N=3),
        torch.combinations(x[0]),
    ]


def _variances(x: Tensor) -> list[Tensor]:
    mean, variance = x.roll(1, 1), x.square()
    likelihood = functional.gaussian_nll_loss
    return [
        likelihood(x, mean, variance, full=True),
        likelihood(x, mean, variance[:, 0], reduction="sum"),
        nn.GaussianNLLLoss(reduction="none")(x, mean, variance[:, :1]),
        likelihood(x, mean, 0.5),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "held"),
    [(_taken_apart, ("cov.default", "corrcoef.default", "kron.default")), (_variances, ())],
)
def test_free_sizes_stay_free_in_torchs_own_operators(
    function: Callable[[Tensor], Any], held: tuple[str, ...], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    events: list[object] = []
    deploy.export(
        Computes(function), {"x": torch.randn(5, 4)}, tmp_path / "m.edge",
        formats=["onnx", "pt2"], dimensions={"x": {0: "rows"}}, ranges={"rows": Range(3, 50)},
        on_event=events.append,
    )  # fmt: skip  # one call
    tried = [(e.route, e.outcome) for e in events if isinstance(e, deploy.Attempt)]
    assert tried[0] == ("dynamo", "proved")
    assert tried[-1][1] == "proved"
    program = torch.export.load(tmp_path / "m.edge" / "model.pt2")
    assert {str(node.target) for node in program.graph.nodes} >= {f"aten.{name}" for name in held}
