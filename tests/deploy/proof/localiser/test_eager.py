"""The eager module and the oracle beside it, value by value."""

import torch
from torch import Tensor, nn

from edgeport.deploy import Source, make_call, make_source
from edgeport.deploy.compilers.upstream import quiet
from edgeport.deploy.proof.localiser.eager import trace_eager
from edgeport.runtimes import TensorSpec


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x).relu().sum((2, 3))
        return y


def source_of(module: nn.Module, x: Tensor) -> Source:
    spec = TensorSpec("x", "float32", ("batch", *x.shape[1:]))
    return make_source("net", module, make_call(module, (), {"x": x}), [spec], {})


def test_what_is_kept_whole_is_whole_in_the_oracle_too() -> None:
    """Its run converts the input first, so that its values have other numbers."""
    x = torch.randn(2, 3, 6, 6)
    source = source_of(Pooled().eval(), x)
    with quiet():
        first = trace_eager(source, {"x": x.numpy()}, limit=1)
        (total,) = (value.number for value in first.values if value.operator == "sum")
        again = trace_eager(source, {"x": x.numpy()}, limit=1, whole=frozenset({total}))
    sizes = {v.number: (v.kept.size, v.oracle.size) for v in again.values if v.oracle is not None}
    assert sizes.pop(total) == (8, 8)
    assert set(sizes.values()) == {(1, 1)}
