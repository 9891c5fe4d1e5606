"""Each decomposition against the operator that it stands for."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.deploy.compilers.operators import (
    bags,
    composites,
    empty,
    exact_resizing,
    free_numbers,
    free_parts,
    smoothed_resizing,
)
from edgeport.deploy.compilers.operators.decompositions import ONNX_TABLE
from edgeport.deploy.compilers.operators.distances import cdist
from edgeport.deploy.compilers.operators.free_sizes import interpolate, linspace
from edgeport.runtimes import ExportError, Range

aten: Any = torch.ops.aten


def floats(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def integers(*shape: int) -> Tensor:
    return torch.randint(-(2**55), 2**55, shape)


DIVISORS = torch.tensor([-7, -3, -2, -1, 1, 2, 3, 2**31 + 1])
TIES = torch.tensor([[1.0, 3.0, 3.0, -2.0, 3.0], [0.0, 0.0, -1.0, 0.0, 5.0]], dtype=torch.float64)
EDGES = torch.tensor([-1.0, -0.5, 0.0, 0.0, 1.5], dtype=torch.float64)
SQUARE = torch.randn(3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

GAPS = torch.tensor([[math.nan, 1.0, 3.0, -2.0], [math.nan, 4, math.nan, 5], [math.nan] * 4])
PLACES = torch.tensor([[0, 2, 1], [1, 1, 0]])

CASES: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (aten.clamp.default, ((floats(2, 3) / 0).float(), 0.5), {}),
    (aten.clamp.default, ((floats(2, 3) / 0).float(), None, 0), {}),
    (aten.clamp_min.default, ((floats(2, 3) / 0).float(), 1), {}),
    (aten.clamp_max.default, ((floats(2, 3) / 0).float(), 0.5), {}),
    *((op, (floats(5, 2),), {}) for op in (aten.amax.default, aten.amin.default)),
    *((op, (integers(3), [], True), {}) for op in (aten.amax.default, aten.amin.default)),
    *((aten.aminmax.default, (floats(5, 2),), {"keepdim": keep}) for keep in (False, True)),
    (aten.median.default, (floats(5, 2),), {}),
    *((aten.median.dim, (floats(4, 5, 3), dim, keep), {})
      for dim in (0, -2, 2) for keep in (False, True)),
    *((each.dim, (floats(4, 5) > 0, 1, keep), {})
      for each in (aten.max, aten.min) for keep in (False, True)),
    *((aten.kthvalue.default, (floats(4, 5), k, dim), {}) for k, dim in ((1, 0), (5, 1), (2, -1))),
    *((op, (x,), {"stable": True, "dim": 0, "descending": falling})
      for op in (aten.sort.stable, aten.argsort.stable)
      for x, falling in ((floats(4, 5), True), (floats(4, 5) > 0, False))),
    *((aten.cumprod.default, (floats(4, 5, 3), dim), {}) for dim in (0, 1, -1)),
    (aten.cumprod.default, (torch.randint(1, 4, (3, 6)), 1), {"dtype": torch.float64}),
    *((aten.logcumsumexp.default, (30 * floats(4, 7), dim), {}) for dim in (0, 1)),
    *((op, (x, dim), {}) for op in (aten.cummax.default, aten.cummin.default)
      for x, dim in ((floats(3, 6), 1), (floats(3, 6), 0), (TIES, -1))),
    *((aten.searchsorted.Tensor, (EDGES, torch.cat([EDGES, floats(4)]).reshape(3, 3)), options)
      for options in ({}, {"right": True}, {"side": "left"}, {"out_int32": True})),
    (aten.searchsorted.Tensor, (floats(2, 6).sort().values, floats(2, 3)), {}),
    *((aten.bucketize.Tensor, (TIES, EDGES), {"right": right}) for right in (False, True)),
    *((aten.div.Tensor_mode, (integers(40, 1), DIVISORS), {"rounding_mode": mode})
      for mode in ("floor", "trunc")),
    *((aten.div.Scalar_mode, (floats(40), number), {"rounding_mode": "floor"})
      for number in (0.1, -3)),
    *((op, (x, y), {}) for op in (aten.floor_divide.default, aten.remainder.Tensor)
      for x, y in ((floats(40, 1), floats(5)), (floats(9), DIVISORS[:1]))),
    (aten.remainder.Scalar_Tensor, (1.7e9, floats(40)), {}),
    *((op, (floats(40), -0.3), {}) for op in (aten.floor_divide.Scalar, aten.remainder.Scalar)),
    *((op, (floats(9, 1), floats(5)), {}) for op in (aten.atan2.default, aten.copysign.Tensor)),
    (aten.copysign.Scalar, (floats(9), -1.0), {}),
    (aten.signbit.default, (floats(9),), {}),
    (
        aten._convolution.default,  # as a trace writes it
        (floats(2, 3, 9), floats(4, 3, 3), floats(4), [1], [0], [1], False, [0], 1, *[False] * 4),
        {},
    ),
    (aten.diagonal_scatter.default, (floats(4, 5), floats(4), 1), {}),
    (aten.fmod.Tensor, (integers(40, 1), DIVISORS), {}),
    (aten.fmod.Scalar, (integers(40), -1_000_003), {}),
    *(
        (aten.div.Scalar_mode, (integers(40), 1_000_003), {"rounding_mode": mode})
        for mode in ("floor", "trunc")
    ),
    *((aten.scatter_reduce.two, (floats(5, 2), 0, torch.tensor([[0, 1], [0, 3], [4, 3]]),
                                 floats(3, 2), "mean"), {"include_self": keep})
      for keep in (False, True)),
    (aten.column_stack.default, ([floats(3), torch.tensor([[0, 1], [1, 0], [0, 0]])],), {}),
    (aten.as_strided.default, (floats(4, 6).t(), (3, 2), (2, 1), 1), {}),
    (aten.as_strided.default, (floats(2, 3, 4).permute(2, 0, 1), (4, 2, 2), (1, 12, 4)), {}),
    (aten.lgamma.default, (torch.cat([floats(50) * 10, torch.tensor([0.1, 1, 2, 3.5, 300.0])]),),
     {}),
    (aten.rrelu.default, (floats(9), 0.1, 0.3), {}),
    (aten.log_sigmoid.default, (torch.tensor([-800.0, -1, 0, 1, 800]),), {}),
    *((aten.adaptive_max_pool2d.default, (floats(2, 3, h, w), (2, 3)), {})
      for h, w in ((5, 7), (4, 6), (2, 3))),
    *((op, (x, (2, 1, 3)), {}) for x in (floats(2, 3, 4, 5, 7), floats(3, 2, 1, 3))
      for op in (aten.adaptive_max_pool3d.default, aten.adaptive_avg_pool3d.default)),
    (aten.add.Tensor, (floats(9) > 0, floats(9) > 0), {}),
    *((aten.pow.Tensor_Scalar, (torch.arange(-4, 9).to(dtype), exponent), {})
      for dtype in (torch.int8, torch.uint8, torch.int16) for exponent in (0, 1, 2, 7)),
    (aten.pow.Tensor_Tensor, (torch.arange(9, dtype=torch.int8), torch.arange(9).to(torch.int8)),
     {}),
    (aten.pow.Scalar, (3, torch.arange(9, dtype=torch.int16)), {}),
    (aten.put.default, (floats(3, 4), torch.tensor([[0, 5], [-1, 5]]), torch.ones(2, 2).double(),
                          True), {}),
    (aten.put.default, (floats(3, 4), torch.tensor([0, -1]), floats(2)), {}),
    (aten.copy.default, (floats(3, 4), torch.ones(4)), {}),
    (aten.copy.default, (floats(3, 4), floats(3, 1)), {}),
    (aten.copy.default, (floats(3, 4), torch.tensor(2)), {}),
    *((operator, (8 * floats(40),), {})
      for operator in (aten.special_i1.default, aten.special_i1e.default, aten.erf.default,
                       aten.special_log_ndtr.default)),
    (aten.special_erfcx.default, (3 * floats(40),), {}),
    *((operator, (order, floats(40)), {}) for order in (0, 1)
      for operator in (aten.polygamma.default, aten.special_polygamma.default)),
    *((operator, (floats(40).abs() + 1.1, 3), {})
      for operator in (aten.mvlgamma.default, aten.special_multigammaln.default)),
    (aten._cdist_forward.default, (floats(4, 3), floats(2, 3), 2.0, None), {}),
    (aten.linalg_cholesky.default, (SQUARE @ SQUARE.transpose(-1, -2) + torch.eye(4),), {}),
    (aten.linalg_det.default, (SQUARE,), {}),
    (aten.linalg_inv.default, (SQUARE,), {}),
    (aten.linalg_solve.default, (SQUARE, SQUARE[..., :2]), {}),
    (aten.linalg_slogdet.default, (SQUARE,), {}),
    (aten.slogdet.default, (SQUARE,), {}),
    (aten.linalg_solve_triangular.default, (SQUARE, SQUARE), {"upper": True}),
    (aten.cholesky_solve.default, (SQUARE[..., :2], SQUARE), {}),
    (aten.det.default, (SQUARE,), {}),
    (aten.inverse.default, (SQUARE,), {}),
    (aten.searchsorted.Scalar, (EDGES, 0.0), {}),
    *((op, (floats(3, 4), floats(4)), {})
      for op in (aten.logaddexp.default, aten.logaddexp2.default, aten.fmax.default,
                 aten.fmin.default, aten.hypot.default)),
    *((op, (floats(9),), {}) for op in (aten.log1p.default, aten.expm1.default)),
    (aten.im2col.default, (floats(3, 6, 7), (3, 2), (1, 1), (1, 0), (2, 1)), {}),
    *((aten.squeeze.dim, (floats(2, 4), dim), {}) for dim in (0, -1)),
    (aten.adaptive_max_pool1d.default, (floats(2, 3, 7), (3,)), {}),
    (aten.scaled_dot_product_attention.default, (floats(2, 5, 4),) * 3, {}),
    *((aten.cross_entropy_loss.default, (floats(*shape), target, weight, reduction, ignore),
       {"label_smoothing": 0.2})
      for shape, labels in (((4, 5), torch.tensor([0, 4, 2, 2])), ((5,), torch.tensor(3)),
                            ((2, 5, 3), torch.tensor([[0, 1, 2], [2, 4, 4]])))
      for weight in (None, torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64))
      for target, ignore in ((labels, 2), (floats(*shape).softmax(-1), -100))
      for reduction in range(3)),
    (aten.bincount.default, (torch.tensor([0, 4, 2, 2]), floats(4), 7), {}),
    *((aten.binary_cross_entropy_with_logits.default,
       (30 * floats(4, 5), floats(4, 5).sigmoid(), weight, positive, reduction), {})
      for weight in (None, floats(5).exp()) for positive in (None, floats(5).exp())
      for reduction in range(3)),
    *((operator, args, {"invert": invert}) for invert in (False, True)
      for operator, args in (
          (aten.isin.Tensor_Tensor, (integers(3, 4) % 5, torch.arange(4).reshape(2, 2))),
          (aten.isin.Tensor_Tensor, (integers(3) % 5, torch.tensor([1.5, 2.0]))),
          (aten.isin.Tensor_Tensor, (integers(0), torch.arange(300))),
          (aten.isin.Tensor_Tensor, (integers(40), torch.empty(0))),
          (aten.isin.Tensor_Scalar, (integers(3, 4) % 5, 2)),
          (aten.isin.Scalar_Tensor, (2, integers(3, 4) % 5)))),
    *((operator, (floats(4, 5).log_softmax(1), torch.tensor([0, 4, 2, 2]), weight, 0, ignore), {})
      for operator in (aten.cross_entropy_loss.default, aten.nll_loss_nd.default)
      for weight in (None, torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64))
      for ignore in (-100, 2)),
    *((aten.index_put.default, (floats(3, 4), [floats(*mask) > 0.5], value), {})
      for mask in ((3,), (3, 4)) for value in (torch.tensor(2.0), torch.tensor(3))),
    (aten.index_put.default, (floats(3, 4), [floats(3) > 0.5], floats(4)), {}),
    (aten.scatter.src, (floats(4, 3), 1, PLACES, floats(5, 4)), {}),
    (aten.scatter_add.default, (floats(4, 3), 1, PLACES, floats(5, 4)), {}),
    *((aten.scatter.reduce, (floats(4, 3), 1, PLACES, floats(5, 4)), {"reduce": how})
      for how in ("add", "multiply")),
    (aten.scatter.value_reduce, (floats(4, 3), 1, PLACES, 2.5), {"reduce": "multiply"}),
    *((aten.index_reduce.default, (x, dim, torch.tensor([0, 1, 1]), source, how),
       {"include_self": keep})
      for x, dim, source in ((floats(4, 3), 0, floats(3, 3)), (floats(2, 4), -1, floats(2, 3)))
      for how in ("prod", "mean", "amax", "amin") for keep in (False, True)),
    *((operator, (floats(rows, 3), p), {}) for rows in (0, 1, 2, 7) for p in (0.0, 1, 2, 3.5, 1e999)
      for operator in (aten.pdist.default, aten._pdist_forward.default)),
    *((operator, (integers(9) // 2**20, DIVISORS[:, None]), {})
      for operator in (aten.gcd.default, aten.lcm.default)),
    *((aten.histc.default, (floats(5, 40), 8, *ends), {}) for ends in ((), (-1, 1), (0.5, 0.5))),
    *((aten.mode.default, (x, dim, keep), {}) for dim in (0, -1) for keep in (False, True)
      for x in (integers(5, 6) % 3, (floats(5, 6) * 2).round(), floats(5, 6) > 0)),
    *((aten.nanmedian.default, (x,), {}) for x in (GAPS, floats(3, 4), integers(5))),
    *((aten.nanmedian.dim, (GAPS[:2, 1:], dim, keep), {})
      for dim in (0, 1) for keep in (False, True)),
    *((operator, (torch.linspace(-1.2, 1.2, 49, dtype=torch.float64),), {})
      for operator in (aten.erfinv.default, aten.special_erfinv.default,
                       aten.special_ndtri.default)),
    *((operator, (20 * floats(40),), {})
      for operator in (aten.digamma.default, aten.special_digamma.default,
                       aten.special_psi.default, aten.special_i0e.default)),
    *((operator, (5 * floats(40),), {}) for operator in (aten.i0.default, aten.special_i0.default)),
    *((op, (floats(9),), {})
      for op in (aten.hardtanh.default, aten.celu.default, aten.elu.default, aten.selu.default,
                 aten.leaky_relu.default, aten.softplus.default, aten.hardsigmoid.default,
                 aten.hardswish.default, aten.mish.default, aten.gelu.default)),
    *((op, (floats(4), floats(4), floats(4) + 9), {"value": 0.1})
      for op in (aten.addcmul.default, aten.addcdiv.default)),
    (aten.fill.Scalar, (floats(4), 0.1), {}),
    (aten.linalg_vector_norm.default, (floats(4, 3), 1.5, [1]), {}),
    *((aten.prelu.default, (floats(*shape), floats(3)), {}) for shape in ((2, 3), (2, 3, 4, 5))),
    *((aten.layer_norm.default, (floats(2, 3, 4), [3, 4], *scales, 0.1), {})
      for scales in ((None, None), (floats(3, 4), floats(3, 4)))),
    *((aten.group_norm.default, (floats(2, 4, *shape), 2, *scales, 0.1), {})
      for shape in ((), (3, 5)) for scales in ((None, None), (floats(4), floats(4)))),
    *((aten.batch_norm.default, (floats(2, 4, *shape), *scales, floats(4), floats(4).exp(), False,
                                 0.1, 0.1, False), {})
      for shape in ((), (3, 5)) for scales in ((None, None), (floats(4), floats(4)))),
    (aten._native_batch_norm_legit_no_training.default,
     (floats(2, 4, 3), *(floats(4),) * 3, floats(4).exp(), 0.1, 0.1), {}),
    *((operator, (floats(2, 4, 3), *(floats(4),) * 3, floats(4).exp(), False, 0.1, 0.1), {})
      for operator in (aten.native_batch_norm.default, aten._native_batch_norm_legit.default)),
    (aten.native_layer_norm.default, (floats(2, 4), [4], floats(4), floats(4), 0.1), {}),
    *((aten.instance_norm.default, (floats(2, 4, 3, 5), *scales, floats(4), floats(4).exp(),
                                    by_input, 0.1, 0.1, False), {})
      for by_input in (False, True) for scales in ((None, None), (floats(4), floats(4)))),
    *((aten.arange.start_step, ends, {"dtype": torch.float32})
      for ends in ((0, 7, 0.7), (-1, 3, 0.3), (5, 1, -0.9))),
    (aten.arange.start, (0.1, 9.1), {"dtype": torch.float64}),
    (aten.arange.default, (90 * 1.1,), {"dtype": torch.float64}),
    (aten.upsample_nearest1d.vec, (floats(1, 2, 14), [32], None), {}),
    (aten.upsample_nearest2d.vec, (floats(1, 2, 14, 9), [32, 9], None), {}),
    (aten.upsample_nearest2d.vec, (floats(1, 2, 90, 9), None, [0.7, 1.3]), {}),
    (aten.upsample_nearest3d.vec, (floats(1, 2, 3, 14, 5), [7, 32, 4], None), {}),
    (aten._is_all_true.default, (floats(3, 4) < 9,), {}),
    (aten.rsub.Scalar, (torch.arange(-3, 4), 1.5, 2), {}),
    (aten._is_any_true.default, (floats(3, 4) > 9,), {}),
    (aten.lstm.input, (floats(5, 2, 4), [floats(1, 2, 3), floats(1, 2, 6)],
                       [floats(24, 4), floats(24, 3), floats(3, 6)], False, 1, 0.0, False, False,
                       False), {}),
    (aten.einsum.default, ("ab->b", [torch.arange(6).reshape(2, 3)]), {}),
]  # fmt: skip  # a table


@pytest.mark.filterwarnings("ignore:index_reduce.. is in beta")
@pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter with Tensor src is depr")
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0]).removeprefix("aten."))
def test_it_computes_what_the_operator_computes(
    case: tuple[Any, tuple[Any, ...], dict[str, Any]],
) -> None:
    operator, args, kwargs = case
    expected = operator(*args, **kwargs)
    found = ONNX_TABLE[operator](*args, **kwargs)
    if isinstance(expected, Tensor):
        expected, found = (expected,), (found,)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11, equal_nan=True)


def test_every_decomposition_has_a_case() -> None:
    alone = (
        bags,
        composites,
        empty,
        free_numbers,
        free_parts,
        smoothed_resizing,
    )  # tests of their own
    elsewhere = {operator for module in alone for operator in module.TABLE}
    elsewhere |= {*exact_resizing.OF_A_FACTOR}
    untested = set(ONNX_TABLE) - {operator for operator, *_ in CASES} - elsewhere
    assert untested == {
        aten.rrelu_with_noise_functional.default,  # what rrelu becomes
        aten._grouped_mm.default,  # not in float64: see test_experts
        aten.adaptive_avg_pool1d.default,  # of free sizes alone
        aten.adaptive_avg_pool2d.default,
    }


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 3.5, math.inf])
def test_distances(p: float) -> None:
    x, y = floats(2, 5, 3), floats(2, 4, 3)
    torch.testing.assert_close(cdist(x, y, p), torch.cdist(x, y, p), rtol=1e-11, atol=1e-11)
    assert cdist(x, x, p).diagonal(dim1=1, dim2=2).abs().max() == 0


@pytest.mark.parametrize(
    ("operator", "args"),
    [
        (aten.div.Tensor_mode, (floats(2), floats(2))),
        (aten.fmod.Tensor, (floats(2), floats(2))),
        (aten.index_put.default, (floats(3), [floats(3) > 0.5], floats(1))),  # one place, it may be
        (aten.index_put.default, (floats(3), [floats(3) > 0.5], torch.tensor(1.0), True)),
        (aten.index_put.default, (floats(3), [torch.tensor([1])], torch.tensor(1.0))),
        (aten.im2col.default, (floats(1, 3, 6, 7), (3, 2), (1, 1), (1, 0), (2, 1))),
        (aten.squeeze.dim, (floats(2, 1), 1)),
        (aten.rsub.Scalar, (floats(2), 1.5)),
        (aten.rsub.Scalar, (torch.arange(2), 3)),
        (aten.linalg_det.default, (floats(9, 9),)),
        (
            aten.lstm.input,
            (floats(5, 2, 4), [floats(1, 2, 6)] * 2, [], True, 1, 0.0, False, False, True),
        ),
        (aten.rrelu.default, (floats(2), 0.1, 0.3, True)),
        (aten.elu.default, (floats(2).float(),)),
        (aten.batch_norm.default, (floats(3, 2), *(None,) * 4, True, 0.1, 0.1, False)),
        (aten.adaptive_avg_pool1d.default, (floats(2, 5), (2,))),
        (aten.adaptive_avg_pool2d.default, (floats(2, 5, 7), (2, 3))),
    ],
)
def test_what_it_does_not_cover_stays(operator: Any, args: tuple[Any, ...]) -> None:
    assert ONNX_TABLE[operator](*args) is NotImplemented


class Everything(nn.Module):
    def forward(self, x: Tensor, n: Tensor) -> tuple[Tensor, ...]:
        square = x[:, :3, None] * x[:, None, 3:6] + 3 * torch.eye(3)
        return (
            x.median(-1).values,
            x.cumprod(-1),
            x.cummax(-1).indices,
            torch.bucketize(x, torch.linspace(-1, 1, 5)),
            torch.div(n, 1_000_003, rounding_mode="trunc"),
            torch.cdist(x, x[:2]),
            x.lgamma(),
            torch.linalg.inv(square),
            nn.functional.logsigmoid(x * 40),
            torch.hstack((x, x)).squeeze(-1),
            nn.functional.unfold(x.unsqueeze(0), (1, 3)),
        )


@pytest.mark.slow
def test_all_of_it_in_onnx(tmp_path: Any) -> None:
    torch.manual_seed(0)
    example = {"x": torch.randn(4, 7), "n": torch.randint(-(2**50), 2**50, (4, 3))}
    made = deploy.export(
        Everything().eval(), example, tmp_path / "m.edge", formats="onnx",
        dimensions={"x": {0: "batch"}, "n": {0: "batch"}}, ranges={"batch": Range(2)},
    )  # fmt: skip  # one call
    assert made.report.passed


class Free(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def _sorted_stably(x: Tensor) -> list[Tensor]:
    few = (x * 2).round()
    return [
        *(
            places
            for each in (few, few.long(), few > 0)
            for places in each.sort(dim=-1, stable=True)
        ),
        few.argsort(dim=0, stable=True, descending=True),
    ]


def test_the_order_of_equal_values_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    free = {"x": {0: "batch", 1: "time"}}
    made = deploy.export(
        Free(_sorted_stably), {"x": torch.randn(20, 300)}, tmp_path / "m.edge", formats="onnx",
        dimensions=free, ranges={"time": Range(1, 300)},
    )  # fmt: skip  # one call
    assert made.report.passed


def test_the_middle_of_a_free_size(tmp_path: Path) -> None:
    made = deploy.export(
        Free(lambda n: [n.median(), n.median(0).values, *n.median(-2, keepdim=True), *n.aminmax()]),
        {"x": torch.randperm(20).reshape(5, 4)}, tmp_path / "m.edge", formats="onnx",
        samples=[{"x": torch.randperm(120).reshape(30, 4).numpy()}], dimensions={"x": {0: "rows"}},
    )  # fmt: skip  # one call
    assert made.report.passed


def _scans(x: Tensor) -> list[Tensor]:
    scanned = (x / 4, x.flip(0))
    return [
        *(each.cumprod(1) for each in scanned),
        *x.round().cummax(-1),
        *x.round().cummin(1),
        (x * 60).logcumsumexp(1),
    ]


@pytest.mark.slow
def test_scans_over_a_free_size_with_a_largest(tmp_path: Path) -> None:
    free = {"x": {0: "batch", 1: "time"}}
    made = deploy.export(
        Free(_scans), {"x": torch.randn(2, 5)}, tmp_path / "m.edge", formats="onnx",
        dimensions=free, ranges={"time": Range(1, 37)},
    )  # fmt: skip  # one call
    assert any(sample.name.endswith("time=37") for sample in made.source.samples)
    assert made.report.passed


def test_a_scan_over_a_free_size_without_a_largest_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="prod") as caught:
        deploy.export(
            Free(lambda x: x.cumprod(1)), {"x": torch.randn(2, 5)}, tmp_path / "m.edge",
            formats="onnx", dimensions={"x": {1: "time"}},
        )  # fmt: skip  # one call
    assert "how large the dimension that it runs along can be, as in time<=512" in str(caught.value)


def _pyramid(x: Tensor) -> list[Tensor]:
    pooled = functional.adaptive_avg_pool2d
    enlarged = functional.interpolate(x, scale_factor=2.0, mode="bicubic")
    return [
        *(pooled(x, size) for size in (1, 2, (3, 1), (3, 5))),
        enlarged + functional.pixel_shuffle(x.repeat(1, 4, 1, 1), 2),
        functional.interpolate(x, None, (3, 2), "area", recompute_scale_factor=True),
        functional.interpolate(x, None, 2.0, "bilinear", False, True),
        functional.adaptive_avg_pool1d(x[:, 0], 3),
    ]


@pytest.mark.slow
def test_pooling_and_enlarging_images_of_free_sizes(tmp_path: Path) -> None:
    free = {"x": {0: "batch", 2: "height", 3: "width"}}
    made = deploy.export(
        Free(_pyramid), {"x": torch.randn(2, 3, 6, 7)}, tmp_path / "m.edge",
        formats=["onnx", "pt2"], dimensions=free,
    )  # fmt: skip  # one call
    assert made.report.passed


def _turned(x: Tensor) -> list[Tensor]:
    flat = torch.eye(2, 3).roll(1, 1).expand(x.shape[0], 2, 3)
    deep = torch.eye(3, 4).roll(1, 0).expand(x.shape[0], 3, 4)
    grids = [
        functional.affine_grid(theta, [x.shape[0], 3, *sides], aligned)
        for aligned in (False, True)
        for theta, sides in ((flat, x.shape[2:]), (deep, (4, *x.shape[2:])))
    ]
    return [grid * x.mean() for grid in grids]


@pytest.mark.slow
def test_affine_grids_of_free_sizes(tmp_path: Path) -> None:
    made = deploy.export(
        Free(_turned), {"x": torch.randn(2, 3, 6, 7)}, tmp_path / "m.edge",
        formats=["onnx", "pt2"], dimensions={"x": {0: "batch", 2: "height", 3: "width"}},
        ranges={"height": Range(2, 40), "width": Range(2, 40)},
    )  # fmt: skip  # one call
    assert made.report.passed


class Restores(nn.Module):
    """Halved, and enlarged to what it was: one size of two is odd."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(1, 2, 3, 2, 1), nn.ConvTranspose1d(2, 1, 3, 2, 1)
        self.shrink, self.grow = nn.Conv2d(1, 2, 3, 2, 1), nn.ConvTranspose2d(2, 1, 3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        line = x[..., 0]
        return (
            self.up(self.down(line), output_size=line.shape[2:]) + line,
            self.grow(self.shrink(x), output_size=x.shape[2:]) + x,
        )


@pytest.mark.slow
def test_transposed_convolutions_to_a_free_size(tmp_path: Path) -> None:
    made = deploy.export(
        Restores(), {"x": torch.randn(2, 1, 6, 5)}, tmp_path / "m.edge",
        formats=["onnx", "pt2"], dimensions={"x": {0: "batch", 2: "height"}},
    )  # fmt: skip  # one call
    assert made.report.passed


def _sizes(x: Tensor) -> list[Tensor]:
    half, rest = divmod(x.shape[2], 2)
    best = x.argsort(1)
    return [
        functional.max_pool1d(x, 3, 2, padding=1) / math.sqrt(x.shape[2]),
        torch.take_along_dim(x, best, 1) * half + rest,
        torch.take_along_dim(x, best[:, :2, :1], dim=1),
        functional.one_hot(best, x.shape[1] * half + 1).sum(1) * x.mean(),
    ]


def _functions_of_sizes(x: Tensor) -> list[Tensor]:
    return [
        x * math.log(x.shape[2]) / math.log(x.shape[2] + 1, 2),
        x * torch.hann_window(x.shape[2]) + torch.blackman_window(x.shape[2], dtype=torch.float32),
        x + torch.hamming_window(x.shape[2] - 2, False)[:1],
        *torch.tensor_split(x, 3, 2),
        *x.tensor_split(2, dim=-1),
    ]


def _through_floats(x: Tensor) -> list[Tensor]:
    return [
        x.view(int(x.shape[0] * 6 / 6.0), -1),
        x[..., : int(x.shape[2] / 2)],
        x[..., : int((x.shape[2] + 1) * 0.25)],
    ]


@pytest.mark.usually("_through_floats-oblivious")
@pytest.mark.parametrize(
    ("function", "route"),
    [(_sizes, "export"), (_functions_of_sizes, "oblivious"), (_through_floats, "oblivious")],
)
def test_what_is_computed_of_a_free_size(
    function: Callable[[Tensor], list[Tensor]], route: str, tmp_path: Path
) -> None:
    proved: list[str] = []

    def keep(event: object) -> None:
        if isinstance(event, deploy.Attempt) and event.outcome == "proved":
            proved.append(event.route)

    deploy.export(
        Free(function), {"x": torch.randn(2, 4, 9)}, tmp_path / "m.edge",
        formats=["onnx", "pt2"], dimensions={"x": {0: "batch", 2: "time"}},
        ranges={"time": Range(3, 40)}, on_event=keep,
    )  # fmt: skip  # one call
    assert proved == ["dynamo", route]


def test_what_is_no_whole_factor_stays_one() -> None:
    x = torch.randn(1, 2, 7, 5)
    for factor in (0.5, 1.5, (2.0, 0.3)):
        expected = functional.interpolate(x, scale_factor=factor, mode="bicubic")
        assert torch.equal(interpolate(x, scale_factor=factor, mode="bicubic"), expected)


def test_hypot_of_the_large_the_small_and_what_is_not_finite() -> None:
    x = torch.tensor([0, 3e38, 1e-30, math.inf, math.nan, math.nan, -math.inf])
    y = torch.tensor([0, 1e30, 1e-30, math.nan, -math.inf, 1, 2])
    hypot = aten.hypot.default
    torch.testing.assert_close(
        ONNX_TABLE[hypot](x, y), hypot(x, y), atol=0, rtol=3e-7, equal_nan=True
    )


@pytest.mark.slow
def test_linspace_over_a_free_size(tmp_path: Path) -> None:
    def grids(x: Tensor) -> list[Tensor]:
        return [
            x + torch.linspace(start, end, x.shape[1], dtype=dtype)
            for start, end in ((-1, 1), (0.1, -7.3))
            for dtype in (None, torch.float64)
        ]

    made = deploy.export(
        Free(grids), {"x": torch.randn(2, 5)}, tmp_path / "m.edge",
        formats=["onnx", "pt2"], dimensions={"x": {0: "batch", 1: "n"}},
    )  # fmt: skip  # one call
    assert {each.backend for each in made.report.backends} == {"ort-cpu", "torch"}
    assert made.report.passed


def test_linspace_of_a_half_type_counts_beyond_its_mantissa() -> None:
    class Grid(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linspace(-1, 1, x.shape[0], dtype=torch.float16)

    free = {"x": {0: torch.export.Dim("n")}}
    with mock.patch.object(torch, "linspace", linspace):
        found = torch.export.export(Grid(), (torch.zeros(5),), dynamic_shapes=free)
    exact = torch.linspace(-1, 1, 3001, dtype=torch.float64)
    error = (found.module()(torch.zeros(3001)).double() - exact).abs().max()
    assert error < 0.00025  # half a unit in the last place
