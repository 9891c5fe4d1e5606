from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeport.deploy import make_call, make_source
from edgeport.deploy.proof.moved_inputs import moved
from edgeport.deploy.proof.reference import (
    Reference,
    drawn_nonsense,
    limits_of_proof,
    make_golden,
)
from edgeport.runtimes import TensorSpec
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.thresholds import Thresholds


class Ranks(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values, places = x.topk(2)
        return values, places


class Counts(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, (x > 0.5).sum(-1)


def golden(module: nn.Module, columns: int = 5) -> dict[str, Any]:
    x = torch.randn(3, columns, generator=torch.Generator().manual_seed(0))
    spec = TensorSpec("x", "float32", ("batch", columns))
    source = make_source("m", module.eval(), make_call(module, (), {"x": x}), [spec], {})
    return {sample.name: sample for sample in make_golden(Reference(source))}


def test_an_edge_case_that_hangs_on_rounding_is_left_out() -> None:
    assert {"zeros", "ones"}.isdisjoint(golden(Ranks()))
    assert {"zeros", "ones", "large"} <= set(golden(Counts()))


def test_the_oracle_is_nearer_to_the_truth() -> None:
    torch.manual_seed(0)
    sample = golden(nn.Linear(5, 2))["random, batch=7"]
    eager, oracle = sample.eager["output"], sample.oracle["output"]
    assert (eager.dtype, oracle.dtype) == (np.float32, np.float64)
    assert 0 < np.abs(eager - oracle).max() < 1e-5


def test_a_saturated_edge_case_tells_how_far_rounding_may_get() -> None:
    torch.manual_seed(0)
    found = golden(nn.Sequential(nn.Linear(5, 40), nn.Tanh()))
    noisy = {name for name, sample in found.items() if sample.noise}
    assert noisy == {"ones", "large", "denormal", "some zeros"}
    large = found["large"]
    own = np.abs(large.eager["output"] - large.oracle["output"])
    rms, peak = large.noise["output"]
    assert own.max() < peak < 1e-3
    assert np.sqrt((own**2).mean()) < rms < peak
    assert large.measure("output", large.eager["output"]).ratio < 1


class Near(nn.Module):
    """The logarithm of how far each is from a number, which one value of a sample almost is."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.number).abs().log()


def test_a_drawn_sample_on_which_eager_is_right_by_luck_is_drawn_anew() -> None:
    usual = golden(Near(9.0), 100)
    largest = {n: each.inputs["x"].max() for n, each in usual.items() if each.kind == "random"}
    hit = max(largest, key=lambda name: float(largest[name]))
    found = golden(Near(float(largest[hit] * np.float32(1 + 1e-5))), 100)
    changed = [
        name
        for name, sample in found.items()
        if not np.array_equal(sample.inputs["x"], usual[name].inputs["x"])
    ]
    assert changed == [hit]


class Fraction(nn.Module):
    """Exact in float32, and another where an input moves by its last bit."""

    def forward(self, x: Tensor) -> Tensor:
        wide = x * 2**20
        return wide - wide.floor()


def test_where_rounding_gets_far_on_every_sample_the_first_is_kept() -> None:
    usual, found = golden(Near(9.0), 100), golden(Fraction(), 100)
    drawn = [name for name, sample in found.items() if sample.kind == "random"]
    assert len(drawn) > 3
    assert all(np.array_equal(usual[n].inputs["x"], found[n].inputs["x"]) for n in drawn)


class Never(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.log() + (-x).log()


def test_inputs_that_make_no_sense_to_a_module_are_told() -> None:
    samples = tuple(golden(Never()).values())
    told = drawn_nonsense(samples)
    assert told is not None
    assert told.startswith("the module itself answers NaN or Inf to 7 of 7 drawn samples")
    assert (
        "('random, batch=1'): if it answers real ones otherwise, give it some with --samples"
        in told
    )
    assert told in limits_of_proof(samples, Thresholds())
    assert drawn_nonsense(tuple(golden(nn.Linear(5, 2)).values())) is None


class Detects(nn.Module):
    """Boxes of 100 pixels, beside probabilities of 1e-8."""

    def forward(self, x: Tensor) -> Tensor:
        y = x @ torch.tensor([[0.1, 0.3, 0.7]] * 5)
        return torch.cat([100 * y, torch.sigmoid(y[:, :2] - 20)], -1)


class Shares(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * torch.tensor([1, 1, 1, 1, 0]) - torch.tensor([0, 0, 0, 0, 30])).softmax(-1)


def test_parts_that_the_bar_does_not_see_are_told() -> None:
    (told,) = limits_of_proof(tuple(golden(Detects()).values()), Thresholds())
    assert told == (
        "zeros would pass in 2 of the 5 parts of output along axis 1 (the first at 3), so small "
        "are they beside the others: return them as an output of their own, or give samples in "
        "which they are larger"
    )
    for module in (Shares(), nn.Linear(5, 4), nn.ReLU()):
        assert limits_of_proof(tuple(golden(module).values()), Thresholds()) == ()


def test_inputs_at_the_largest_float_stay_finite() -> None:
    least = np.finfo(np.float32).min
    ends = np.array([least, -least, np.inf, np.nan, 1, 0], np.float32)
    halves, whole = np.ones((2, 3), np.float16), np.arange(3)
    one = np.ones((), np.float32)
    inputs: dict[str, Array] = {"one": one, "whole": whole, "ends": ends, "halves": halves}
    together = moved(inputs, np.random.default_rng(0))
    assert [*together] == [*inputs]
    assert together["whole"] is whole
    for name, array in inputs.items():
        assert (together[name].shape, together[name].dtype) == (array.shape, array.dtype)
    assert (np.abs(together["halves"] - 1) > 0).all()
    found = together["ends"]
    assert found.dtype == np.float32
    assert np.isfinite(found).tolist() == [True, True, False, False, True, True]
    assert found[2] == np.inf
    assert found[5] == 0
    assert 0 < abs(found[4] - 1) < 1e-6


class Narrows(nn.Module):
    """Computes in bfloat16 and float16 in five ways, and answers in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.head(x)
        ones = torch.ones(3, dtype=torch.float16)
        return (y.to(torch.float16) * ones).bfloat16().to(dtype=torch.half).float()  # type: ignore[no-any-return]  # torch says Any


def test_the_oracle_of_a_module_that_narrows_does_not() -> None:
    torch.manual_seed(0)
    module = Narrows()
    sample = golden(module)["random, batch=7"]
    truth = sample.inputs["x"].astype(np.float64) @ module.head.weight.detach().double().numpy().T
    truth += module.head.bias.detach().double().numpy()
    np.testing.assert_allclose(sample.oracle["output"], truth, rtol=1e-12)
    assert 1e-4 < np.abs(sample.eager["output"] - truth).max() < 0.1
