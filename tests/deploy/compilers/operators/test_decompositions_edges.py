"""The edges of the decompositions: NaN and Inf, ties, every axis, other ranks and dtypes."""

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
from edgeport.deploy.compilers.operators import decompositions
from edgeport.deploy.compilers.operators.decompositions import ONNX_TABLE, TABLE
from edgeport.runtimes import Range

NAN, INF = math.nan, math.inf

aten: Any = torch.ops.aten


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def assert_same(operator: Any, *args: Any, **kwargs: Any) -> None:
    found = ONNX_TABLE[operator](*args, **kwargs)
    expected = operator(*args, **kwargs)
    torch.testing.assert_close(found, expected, equal_nan=True)


def values(*shape: int) -> Tensor:
    """Distinct ones, so that an index is defined."""
    return torch.randperm(math.prod(shape)).reshape(shape) / 4.0 - 2


SHAPES = [(7,), (3, 6), (2, 3, 5), (4, 1), (1,)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("shape", SHAPES)
def test_order_statistics(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = (values(*shape) * 4).to(dtype)
    assert_same(aten.median.default, x)
    for dim in range(-len(shape), len(shape)):
        for keepdim in (False, True):
            assert_same(aten.median.dim, x, dim, keepdim)
            assert_same(aten.kthvalue.default, x, x.shape[dim], dim, keepdim)


def test_a_median_with_nan_is_nan() -> None:
    x = torch.tensor([[1.0, NAN, 0.0, NAN], [1, 3, 2, 0]])
    assert_same(aten.median.default, x)
    for keepdim in (False, True):
        assert_same(aten.median.dim, x, 1, keepdim)


@pytest.mark.parametrize("shape", SHAPES)
def test_scans(shape: tuple[int, ...]) -> None:
    x = values(*shape)
    ties = (x * 4).to(torch.int32) // 3
    for dim in range(-len(shape), len(shape)):
        for operator in (aten.cumprod.default, aten.cummax.default, aten.cummin.default):
            assert_same(operator, x, dim)
            assert_same(operator, ties, dim)
        assert_same(aten.logcumsumexp.default, x * 50, dim)
    assert_same(aten.cumprod.default, ties, 0, dtype=torch.float64)


@pytest.mark.parametrize("row", [[1, NAN, 3, NAN, 0], [NAN, 1, 2], [-INF, -INF, 3, INF, INF]])
def test_scans_over_what_is_not_finite(row: list[float]) -> None:
    for name in ("cummax", "cummin", "cumprod", "logcumsumexp"):
        assert_same(getattr(aten, name).default, torch.tensor(row, dtype=torch.float32), 0)


def test_logarithms_and_exponentials() -> None:
    edge = [0.0, -1, -2, INF, -INF, NAN, 88, 100, -100, 1e-30, 0.5, -0.5]
    x = torch.cat([torch.tensor(edge), torch.randn(50) * 1e-6, torch.randn(50)])
    for name in ("log1p", "expm1"):
        operator = getattr(aten, name).default
        torch.testing.assert_close(
            TABLE[operator](x), operator(x), rtol=5e-7, atol=0, equal_nan=True
        )
    assert_same(aten.log_sigmoid.default, x)
    for other in (x, x.flip(0), torch.tensor(-INF), torch.tensor(INF)):
        assert_same(aten.logaddexp.default, x, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_signs_of_zeros_and_infinities(dtype: torch.dtype) -> None:
    edge = [0.0, -0.0, 1, -1, 2.5, -1e-39, 1e30, -1e30] + [INF, -INF] * dtype.is_floating_point
    x = torch.tensor(edge).to(dtype)
    assert_same(aten.signbit.default, x)
    for other in (x[:, None], x[:, None].half(), x[:, None].double()):
        for operator in (aten.atan2.default, aten.copysign.Tensor):
            assert_same(operator, x, other)
            assert torch.equal(ONNX_TABLE[operator](x, other) < 0, operator(x, other) < 0)
    assert_same(aten.copysign.Scalar, x, -0.0)
    assert torch.signbit(ONNX_TABLE[aten.copysign.Scalar](x, -0.0)).all()
    assert_same(aten.atan2.default, torch.tensor([NAN, 0.0]), torch.tensor([0.0, NAN]))


def test_lgamma() -> None:
    edge = [-1.0, -2, 0, -2.5, 1, 2, 1e-20, 1e30, INF, -INF, NAN, -100.3]
    x = torch.cat([torch.tensor(edge), torch.randn(100) * 5])
    assert_same(aten.lgamma.default, x)


def test_losses_of_what_is_far_out_or_no_number() -> None:
    x = torch.tensor([-INF, -1e30, -100, -0.0, 0, 3, 1e30, INF, NAN])
    loss = aten.binary_cross_entropy_with_logits.default
    for target in (0.0, 0.3, 1.0):
        for positive in (None, torch.tensor(2.5)):
            assert_same(loss, x, torch.full_like(x, target), None, positive, 0)
    assert_same(loss, x[1:3].half(), torch.ones(2), None, None, 0)
    assert_same(loss, x[2:5], torch.ones(3).half(), torch.ones(3), None, 0)


def test_nothing_is_nan_not_even_nan() -> None:
    edge = torch.tensor([NAN, INF, -INF, 0.0, -0.0, 1])
    for among in (edge, edge[:1], edge.repeat(20), edge[:0]):
        assert_same(aten.isin.Tensor_Tensor, edge, among)


def test_what_occurs_most_and_what_is_in_the_middle_beside_nan() -> None:
    rows = [[NAN, 2.0, 2, 1, 1, NAN, NAN], [NAN, INF, INF, -INF, 0, 0, NAN], [NAN] * 7]
    x = torch.tensor(rows)
    for each in (x, x.half(), x.double(), x[:, :1], x[:, :0].new_ones(3, 2, dtype=torch.uint8)):
        assert_same(aten.mode.default, each, 1)
        if each.is_floating_point():
            found, place = ONNX_TABLE[aten.nanmedian.dim](each, 1)
            expected = each.nanmedian(1).values
            torch.testing.assert_close(found, expected, equal_nan=True)
            held = each.gather(1, place.unsqueeze(1)).squeeze(1)
            torch.testing.assert_close(held, expected, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8, torch.uint8])
def test_divisors(dtype: torch.dtype) -> None:
    x = torch.tensor([0, 1, 2, 12, 18, 100, 127]).to(dtype)
    for other in (x[:, None], x[:, None] * 0, x[:0], x[:, None].to(torch.int16)):
        for operator in (aten.gcd.default, aten.lcm.default):
            assert_same(operator, x if len(other) else other, other)


def test_special_functions() -> None:
    edge = [0.0, -0.0, 1, -1, 2, -3, 0.5, 1 - 1e-7, 1e-30, -1e-30, 300, -300, 1e20, INF, -INF, NAN]
    x = torch.cat([torch.tensor(edge), torch.randn(200) * 4, torch.rand(200)])
    for dtype in (torch.float32, torch.float64, torch.float16):
        for name in ("erfinv", "digamma", "i0", "special_i0e"):
            assert_same(getattr(aten, name).default, x.to(dtype))
    for name in ("special_ndtri", "special_i1", "special_i1e", "special_erfcx", "special_log_ndtr"):
        assert_same(getattr(aten, name).default, x.double())  # float16 torch has not
    assert_same(aten.polygamma.default, 1, x[16:].double())  # at poles torch's is rounding
    assert ONNX_TABLE[aten.erfinv.default](torch.arange(2)) is NotImplemented


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 40), st.integers(1, 12), st.floats(-3, 1), st.floats(1.5, 3))
def test_histograms(count: int, bins: int, least: float, most: float) -> None:
    x = torch.cat([torch.randn(count), torch.linspace(least, most, bins + 1)])
    assert_same(aten.histc.default, x, bins, least, most)
    assert_same(aten.histc.default, x, bins)
    assert_same(aten.histc.default, torch.cat([x, torch.tensor([NAN, INF])]), bins, least, most)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_what_is_written_by_index(data: st.DataObject, shape: list[int]) -> None:
    rank = len(shape)
    dim = data.draw(st.integers(0, rank - 1))
    index_shape = [data.draw(st.integers(0, size)) for size in shape]
    source_shape = [size + data.draw(st.integers(0, 2)) for size in index_shape]
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.int64]))
    x, source = ((torch.randn(each) * 5).to(dtype) for each in (shape, source_shape))
    index = torch.randint(shape[dim], index_shape)
    for how in ("add", "multiply"):
        assert_same(aten.scatter.reduce, x, dim, index, source, reduce=how)
        assert_same(aten.scatter.value_reduce, x, dim, index, 3, reduce=how)
    if index_shape != source_shape:
        assert_same(aten.scatter_add.default, x, dim, index, source)
        for how in ("sum", "prod", "amax", "amin"):
            assert_same(aten.scatter_reduce.two, x, dim, index, source, how, include_self=False)


@pytest.mark.parametrize("right", [False, True])
def test_buckets(right: bool) -> None:
    edges = torch.tensor([[-1.0, 0, 0, 2], [0, 1, 2, 3]])
    x = torch.tensor([[0.0, NAN, INF, -INF, 2], [1, -5, 5, 3, 0.5]])
    for int32 in (False, True):
        assert_same(aten.searchsorted.Tensor, edges, x, right=right, out_int32=int32)
        assert_same(aten.bucketize.Tensor, x, edges[0], right=right, out_int32=int32)
    sorter = torch.tensor([[3, 2, 1, 0], [3, 2, 1, 0]])
    assert_same(aten.searchsorted.Tensor, edges.flip(1), x, right=right, sorter=sorter)
    assert_same(aten.searchsorted.Scalar, edges[0], 0.0, right=right)


@pytest.mark.parametrize("scale", [1, 2**25, 2**54])
def test_division_of_integers(scale: int) -> None:
    x = torch.tensor([[7, -7, 8, -8, 0, 5]]).T * scale + 1
    y = torch.tensor([3, -3, 1, -1, 1000])
    for mode in ("floor", "trunc"):
        assert_same(aten.div.Tensor_mode, x, y, rounding_mode=mode)
        assert_same(aten.div.Scalar_mode, x, -3, rounding_mode=mode)
    assert_same(aten.fmod.Tensor, x, y)
    assert_same(aten.fmod.Scalar, x, -3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_division_of_floats(dtype: torch.dtype) -> None:
    edge = [0.0, -0.0, 1, -1, 0.1, 0.3, -0.3, 1.5, 5, 86400, 1.7e9, -1.7e9, 3e38, INF, -INF, NAN]
    x = torch.tensor(edge, dtype=dtype)
    x = torch.cat([x, torch.arange(-20, 20).to(dtype) / 10])
    for y in (x[:, None], 0.1, -0.3, 3, 0.0):
        kind = "Tensor" if isinstance(y, Tensor) else "Scalar"
        quotient = getattr(aten.div, f"{kind}_mode")
        assert_same(quotient, x, y, rounding_mode="floor")
        assert_same(getattr(aten.remainder, kind), x, y)
        assert_same(getattr(aten.floor_divide, kind if kind == "Scalar" else "default"), x, y)
    assert_same(aten.remainder.Scalar, torch.arange(-5, 5), 0.3)
    assert_same(aten.div.Scalar_mode, torch.arange(-5, 5), 0.5, rounding_mode="floor")


def test_extremes_that_pass_over_nan() -> None:
    x, y = torch.tensor([1, NAN, NAN, -INF]), torch.tensor([[NAN, 2, NAN, 0], [0, NAN, 1, -1]])
    assert_same(aten.fmax.default, x, y)
    assert_same(aten.fmin.default, x, y)


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_the_mean_of_what_is_scattered(dtype: torch.dtype, include_self: bool) -> None:
    x, source = torch.full((4, 3), 5).to(dtype), torch.randint(-90, 90, (5, 3)).to(dtype)
    index = torch.randint(0, 3, (5, 3))
    for part in (index, index[:2, :2]):
        given = (x, 0, part, source, "mean")
        assert_same(aten.scatter_reduce.two, *given, include_self=include_self)


def test_strides_of_a_view_that_is_not_contiguous() -> None:
    x = values(2, 3, 4)
    for view in (x, x.transpose(0, 2), x.permute(1, 2, 0)):
        assert_same(aten.as_strided.default, view, (3, 2), (5, 1), 2)


def test_distances() -> None:
    x, y = torch.randn(2, 4, 3), torch.randn(2, 5, 3)
    y[:, 0] = x[:, 0]
    for p in (0.0, 0.5, 1.0, 2.0, 3.0, INF):
        for mode in (1, 2):
            found = TABLE[aten._cdist_forward.default](x, y, p, mode)
            expected = aten._cdist_forward.default(x, y, p, 2)  # 1 cancels where two are near
            torch.testing.assert_close(found, expected)


def test_adaptive_max_pools() -> None:
    image = values(2, 2, 7, 8)
    for size in ((2, 3), (7, 8), (1, 1), (3, 5)):
        assert_same(aten.adaptive_max_pool2d.default, image, size)
    assert_same(aten.adaptive_max_pool1d.default, image[0], (3,))


def test_linear_algebra() -> None:
    for n in (1, 2, 3, 5):
        a = torch.randn(4, n, n, dtype=torch.float64)
        assert_same(aten.linalg_det.default, a)
        assert_same(aten.linalg_inv.default, a)
        assert_same(aten.linalg_solve.default, a, a[..., :1])
        assert_same(aten.linalg_cholesky.default, a @ a.mT + torch.eye(n), upper=n == 3)
        assert_same(aten.linalg_slogdet.default, a)
        for upper in (False, True):
            assert_same(aten.linalg_solve_triangular.default, a, a, upper=upper)
            assert_same(aten.cholesky_solve.default, a, a, upper)
    for rows in ([[0.0, 1], [1, 0]], [[0.0, 1], [0, 2]], [[0.0, 0], [0, 0]]):
        assert_same(aten.linalg_det.default, torch.tensor(rows))
        assert_same(aten.linalg_slogdet.default, torch.tensor(rows))


@pytest.mark.parametrize("shape", [(5, 4), (2, 5, 4), (2, 2, 2, 5, 4)])
def test_attention_of_other_ranks(shape: tuple[int, ...]) -> None:
    q, k, v = (torch.randn(shape) for _ in range(3))
    mask = torch.rand(5, 5) > 0.5
    mask[1] = False  # nothing to attend to
    added = torch.where(mask, torch.randn(5, 5), -INF)
    attention = decompositions.TABLE[aten.scaled_dot_product_attention.default]
    every: tuple[dict[str, Any], ...] = (
        {},
        {"attn_mask": mask},
        {"attn_mask": added},
        {"is_causal": True, "scale": 0.3},
    )
    for options in every:
        expected = functional.scaled_dot_product_attention(q, k, v, **options)
        torch.testing.assert_close(attention(q, k, v, **options), expected)


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_with_a_mask_lies_as_the_queries_do(by_rows: bool, is_causal: bool) -> None:
    """``.transpose(1, 2).contiguous().view(...)`` is captured without a copy, if it has none."""
    q = torch.randn(2, 5, 3, 4).transpose(1, 2) if by_rows else torch.randn(2, 3, 5, 4)
    mask = torch.rand(5, 5) > 0.5
    mask[1] = False
    attention = ONNX_TABLE[aten.scaled_dot_product_attention.default]
    later = torch.ones(5, 5, dtype=torch.bool).triu(1) & is_causal
    for each, hidden in ((mask, False), (torch.where(mask, torch.randn(5, 5), -INF), -INF)):
        both = each.masked_fill(later, hidden)  # torch 2.14 itself takes one of them alone
        expected = functional.scaled_dot_product_attention(q, q, q, both)
        found = attention(q, q, q, each, is_causal=is_causal)
        torch.testing.assert_close(found, expected)
        assert found.stride() == expected.stride()


def test_what_is_not_covered_is_left_as_it_is() -> None:
    x = torch.randn(2, 2, 5, 4)
    assert TABLE[aten.scaled_dot_product_attention.default](x, x, x) is NotImplemented
    assert ONNX_TABLE[aten.div.Tensor_mode](x, x, rounding_mode="trunc") is NotImplemented
    assert TABLE[aten.linalg_det.default](torch.eye(9)) is NotImplemented
    assert ONNX_TABLE[aten.slogdet.default](torch.eye(9)) is NotImplemented
    assert ONNX_TABLE[aten.clamp.default](x.double(), 0.5) is NotImplemented
    assert TABLE[aten.scatter_reduce.two](x, 0, x.long(), x, "sum") is NotImplemented


# ---- to ONNX, several operators in one module


class Computes(nn.Module):
    def __init__(self, function: Callable[[Tensor], list[Tensor]]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.function(x)


def _along_rows(x: Tensor) -> list[Tensor]:
    edges = torch.linspace(-1, 1, 5)
    ordered = [x.median(1).values, x.kthvalue(2, -1).values, torch.bucketize(x, edges)]
    scanned = [x.cumprod(1), x.cummax(1).values, (x * 60).logcumsumexp(1)]
    return [
        *ordered,
        *scanned,
        (x * 1e-6).log1p(),
        x.lgamma(),
        torch.fmax(x, -x),
        torch.cdist(x, x),
    ]


def _integers(x: Tensor) -> list[Tensor]:
    n = (x * 2**20).long() * 2**15 + 1
    return [
        *(torch.div(n, -7, rounding_mode=mode) for mode in ("floor", "trunc")),
        torch.fmod(n, 7),
        torch.gcd(n, n.roll(1, 1)),
        torch.lcm((x * 50).int(), (x.roll(1, 1) * 9).int()),
    ]


def _matrices(x: Tensor) -> list[Tensor]:
    a = x[:, :4].reshape(-1, 2, 2)
    square = a @ a.mT + torch.eye(2)
    pooled = functional.adaptive_max_pool1d(x.unsqueeze(1), 4)
    return [torch.linalg.inv(square), torch.linalg.cholesky(square), torch.det(square), pooled]


def _solutions(x: Tensor) -> list[Tensor]:
    a = x[:, :4].reshape(-1, 2, 2)
    square = a @ a.mT + torch.eye(2)
    half = torch.linalg.cholesky(square)
    return [
        torch.linalg.solve_triangular(square, a, upper=True),
        torch.cholesky_solve(a, half) + torch.cholesky_solve(a, half.mT, upper=True),
        torch.stack(torch.slogdet(-square @ a)),
        torch.logdet(square),
    ]


def _attention(x: Tensor) -> list[Tensor]:
    three, four = x.reshape(-1, 3, 2), x.reshape(-1, 1, 3, 2)
    attend = functional.scaled_dot_product_attention
    return [attend(three, three, three), attend(four, four, four, is_causal=True)]


def _clamps(x: Tensor) -> list[Tensor]:
    in_place = x.clone().clamp_(-1, 0.5)
    return [x.clamp(1e-6, 1), in_place, (x * 9).long().clamp(0, 2.5), (x * 9).long().clamp(0, 3)]


def _ranges(x: Tensor) -> list[Tensor]:
    ends = torch.arange(-2, 3.0), torch.arange(0.5, 4), torch.arange(0, 4.0, dtype=torch.int64)
    return [x[:, :1] * each for each in ends]


def _rows(x: Tensor) -> list[Tensor]:
    label, mean = x.abs().argmin(1), x.mean()
    entropy = functional.cross_entropy(x, label, reduction="none")
    nll = functional.nll_loss(x - mean, label, reduction="none")
    return [entropy, entropy.unsqueeze(1) * x, nll.unsqueeze(1) + x]


def _counts(x: Tensor) -> list[Tensor]:
    rows = x.shape[0]
    place = x[:, 0].abs().long() % rows
    degrees = torch.bincount(place, minlength=rows)
    weighted = torch.bincount(place, x[:, 1], minlength=rows)
    fewer = torch.bincount(place.to(torch.uint8), minlength=rows - 1)  # none of one row
    return [degrees[:, None] * x, weighted[:, None] + x, fewer]


def _logits(x: Tensor) -> list[Tensor]:
    target, weight = (x.roll(1, 1) > 0).to(x.dtype), torch.tensor([1.0, 2, 0.5, 3, 1, 4])
    loss = functional.binary_cross_entropy_with_logits
    return [
        loss(x, target, reduction="none"),
        loss(x, target, pos_weight=weight),
        loss(x, target, weight, reduction="sum", pos_weight=weight),
    ]


def _members(x: Tensor) -> list[Tensor]:
    labels, rounded = (x * 4).long(), (x * 4).round()
    return [
        torch.isin(labels, torch.arange(-200, 200, 3)),
        torch.isin(labels, labels[:, 0], invert=True),
        torch.isin(rounded, torch.tensor([1.0, NAN, INF, 2, 0])),
        torch.isin(labels, 2) | torch.isin(2, labels),
    ]


@pytest.mark.usually("_logits", "_members", "_attention", "[_rows")
@pytest.mark.parametrize(
    "function",
    [
        _logits,
        _members,
        _along_rows,
        _integers,
        _matrices,
        _solutions,
        _attention,
        _clamps,
        _ranges,
        _rows,
        _counts,
    ],
)
def test_dynamo_exports_it(function: Callable[[Tensor], list[Tensor]], tmp_path: Path) -> None:
    made: list[deploy.Attempt] = []

    def keep(event: object) -> None:
        if isinstance(event, deploy.Attempt):
            made.append(event)

    deploy.export(
        Computes(function),
        {"x": torch.randn(4, 6)},
        tmp_path / "m.edge",
        dimensions={"x": {0: "batch"}},
        formats=["onnx"],
        on_event=keep,
    )
    assert [(attempt.route, attempt.outcome) for attempt in made] == [("dynamo", "proved")]


@pytest.mark.slow
def test_bessel_functions_in_float64_keep_all_terms(tmp_path: Path) -> None:
    """What is 0 as a float32 is not added by ONNX Runtime, which is 3e-9 of the sum at 18."""
    x = torch.linspace(-17.9, 17.9, 24, dtype=torch.float64)
    made = deploy.export(
        Computes(lambda x: [torch.i0(x), torch.special.i0e(x), torch.special.i1(x)]),
        {"x": x}, tmp_path / "m.edge", samples=[{"x": x.numpy()}], formats=["onnx"],
    )  # fmt: skip  # one call
    assert made.report.passed


def test_a_size_that_is_one_in_the_example_stays_free(tmp_path: Path) -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            return torch.hypot(y, y.relu())

    events: list[object] = []
    deploy.export(
        Beside().eval(), {"x": torch.randn(1, 1, 9, 8)}, tmp_path / "m.edge", formats="onnx",
        dimensions={"x": {2: "height"}}, ranges={"height": Range(3, 64)}, on_event=events.append,
    )  # fmt: skip  # one call
    (tried,) = (event for event in events if isinstance(event, deploy.Attempt))
    assert (tried.route, tried.outcome) == ("dynamo", "proved")


def test_what_is_written_on_a_diagonal() -> None:
    for shape, dims in (
        ((3, 5), (0, 1)),
        ((5, 3), (0, 1)),
        ((2, 3, 4), (-1, 0)),
        ((4, 2, 4), (0, 2)),
    ):
        x = values(*shape)
        for offset in (-4, -1, 0, 1, 2):
            if max(shape) >= abs(offset):
                source = torch.randn(x.diagonal(offset, *dims).shape)
                assert_same(aten.diagonal_scatter.default, x, source, offset, *dims)
