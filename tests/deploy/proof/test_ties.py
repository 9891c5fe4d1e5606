from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport.deploy import Values, make_call, make_source
from edgeport.deploy.proof.oracle import Oracle
from edgeport.deploy.proof.reference import Reference, make_golden
from edgeport.deploy.proof.ties import hangs_on_ties, orders
from edgeport.deploy.sources.flat import Call, Flat
from edgeport.runtimes import TensorSpec
from edgeport.runtimes.inputs import Array


class Takes(nn.Module):
    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.takes = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.takes(x)


def flat(forward: Callable[[Tensor], Tensor]) -> Flat:
    return Flat(Takes(forward), Call.of({"x": torch.zeros(2, 6)}, by_position=1))


EQUAL: Mapping[str, Array] = {"x": np.array([[1, 3, 3, 0, 0, 2]] * 2, np.float32)}
ALL_DIFFER: Mapping[str, Array] = {"x": np.array([[1, 4, 3, -1, 0, 2]] * 2, np.float32)}
WEIGHTS = torch.arange(6.0)
MIXED = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "takes",
    [
        lambda x: x.topk(1).indices,
        lambda x: x.topk(4, largest=False).indices,
        lambda x: x.t().topk(1, dim=0).indices,
        lambda x: x.topk(2).indices.view(-1),
        lambda x: x.topk(6).indices.gather(1, x.topk(6).values.topk(2).indices),
        lambda x: x.sort(descending=True).indices,
        lambda x: x.argsort(dim=1),
        lambda x: WEIGHTS[x.topk(1).indices],  # floats, but by their places
    ],
)
def test_the_order_of_equal_values(takes: Callable[[Tensor], Tensor]) -> None:
    module = flat(takes)
    assert orders(module, EQUAL)
    assert hangs_on_ties(module, EQUAL)
    assert not hangs_on_ties(module, ALL_DIFFER)


@pytest.mark.parametrize(
    ("takes", "ordered"),
    [
        (lambda x: x.topk(4).values, True),
        (lambda x: x.sort().values, True),
        (lambda x: x.topk(2, largest=True).indices.sum(1), True),  # both of the equal ones
        (lambda x: x.sort(stable=True).indices, False),
        (lambda x: x.argmax(1), False),  # the first, as documented
        (lambda x: x[0, 0].topk(1).indices, False),
        (lambda x: x * 2, False),
        (lambda x: (x @ MIXED)[:, x[0].sort().indices].sum(1), True),  # but for rounding
    ],
)
def test_what_does_not_hang_on_it(takes: Callable[[Tensor], Tensor], ordered: bool) -> None:
    module = flat(takes)
    assert orders(module, EQUAL) == ordered
    assert not hangs_on_ties(module, EQUAL)


def saturated(x: Tensor) -> Tensor:
    return (x * 10).sigmoid().topk(2).indices


def reference(
    real: list[Array] | None = None, takes: Callable[[Tensor], Tensor] = saturated
) -> Reference:
    module = Takes(takes).eval()
    call = make_call(module, (), {"x": torch.zeros(2, 6)})
    values = Values([{"x": rows} for rows in real or ()])
    spec = TensorSpec("x", "float32", ("batch", 6))
    return Reference(make_source("m", module, call, [spec], {}, values=values))


def test_edge_cases_that_saturate_are_left_out() -> None:
    made = reference()
    kinds = {sample.name for sample in make_golden(made) if sample.kind == "edge"}
    assert "large" not in kinds


def test_real_samples_with_equal_values_are_left_out_while_there_are_others() -> None:
    equal = EQUAL["x"][:1]
    differ = ALL_DIFFER["x"][:1] / 10
    made = reference([equal, differ])
    golden = make_golden(made)
    assert {sample.kind for sample in golden} >= {"real"}
    assert not any(3 in sample.inputs["x"] for sample in golden if sample.kind == "real")
    assert made.notes[0].endswith(
        "), and engines need not agree on it: they were left out; sort with stable=True, or give "
        "samples without"
    )
    assert made.suspect is None
    made = reference([equal])
    assert any(sample.kind == "real" for sample in make_golden(made))
    assert "a right artefact may fail" in made.notes[0]
    assert made.suspect == made.notes[0]


def test_what_is_drawn_with_equal_values_is_drawn_anew() -> None:
    made = reference(takes=lambda x: (x * 3).round().topk(1).indices)
    sizes = [len(s.inputs["x"]) for s in make_golden(made) if s.kind == "random"]
    assert sizes == [1, 2, 7, 1, 1, 1]  # 32 rows always have some
    (note,) = made.notes
    assert note.startswith(
        "which of equal or nearly equal values topk or sort puts first decides 1 answer ("
    )
    assert "('random, batch=32')" in note


def test_what_hangs_on_it_in_half_precision_and_beside_large_values() -> None:
    half = {"x": EQUAL["x"].astype(np.float16)}
    boxes = torch.linspace(0.5, 1, 6, dtype=torch.float16)
    assert hangs_on_ties(flat(lambda x: boxes[x.topk(1).indices]), half)
    large = torch.tensor([1e4])
    assert hangs_on_ties(flat(lambda x: torch.cat([x.topk(1).indices[0].float(), large])), EQUAL)


def scored(x: Tensor) -> Tensor:
    """Queries in the order of scores that are rounded to steps of 6e-5, as of a detector."""
    boxes: Tensor = WEIGHTS[((x + 1000) - 1000).topk(3).indices]
    return boxes


@pytest.mark.parametrize(("apart", "hangs"), [(0, True), (4e-5, True), (1e-3, False)])
def test_values_that_differ_by_less_than_their_rounding(apart: float, hangs: bool) -> None:
    x: Array = np.array([[1.1, 0.2, 1.1 + apart, 0.3, 0.4, 0.1]] * 2, np.float32)
    module = flat(scored)
    assert hangs_on_ties(module, {"x": x}, Oracle(module)) == hangs
    assert hangs_on_ties(module, {"x": x}) == (apart == 0)


@torch.library.custom_op("edgeport_test::of_float32", mutates_args=())
def of_float32(x: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        raise TypeError(f"no kernel for {x.dtype}")
    return x.clone()


def routed(x: Tensor) -> Tensor:
    """The second of two orders is behind what does not run in float64."""
    far: Tensor = of_float32(x * x.topk(1).values)
    return far.topk(2).indices


def test_orders_of_an_oracle_that_fails_are_none() -> None:
    module = flat(routed)
    oracle = Oracle(module)
    assert oracle.answer(ALL_DIFFER, [np.zeros((2, 2), np.int64)]).gap is not None
    assert not hangs_on_ties(module, ALL_DIFFER, oracle)
    assert hangs_on_ties(module, EQUAL, oracle)


def test_infinities_and_nan_are_equal_to_themselves_alone() -> None:
    masked: Mapping[str, Array] = {"x": np.array([[1, -np.inf, 2, -np.inf, 3, 4]] * 2, np.float32)}
    odd: Mapping[str, Array] = {"x": np.array([[np.nan, 1, 2, np.inf, 3, 4]] * 2, np.float32)}
    module = flat(lambda x: (x * 1).topk(5).indices)
    oracle = Oracle(module)
    assert hangs_on_ties(module, masked, oracle)
    assert not hangs_on_ties(module, odd, oracle)


def test_what_is_nearly_equal_in_half_precision() -> None:
    """A group is longer than bfloat16 counts."""
    rows = torch.linspace(1, 9, 600).bfloat16().float().numpy().reshape(1, 600)
    module = Flat(
        Takes(lambda x: (x.bfloat16() * 1.01).sort().indices),
        Call.of({"x": torch.zeros(1, 600)}, by_position=1),
    )
    assert hangs_on_ties(module, {"x": rows}, Oracle(module))
