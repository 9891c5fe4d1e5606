"""What a file holds as float32, and what ONNX Runtime has not, in float64."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy


class Of(nn.Module):
    def __init__(self, function: Callable[[Tensor], list[Tensor]]) -> None:
        super().__init__()
        self.function = function
        self.norm = nn.BatchNorm1d(4, eps=0.1)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.function(self.norm(x))


def _filled(x: Tensor) -> list[Tensor]:
    """With numbers that float32 has not."""
    other = x.flip(1)
    written = x.clone()
    written[:, 1:].fill_(0.1)
    return [
        x + torch.full_like(x, 0.1) * torch.full((x.shape[0], 1), 0.3, dtype=x.dtype),
        x.new_full((4,), 0.1) * x,
        x.masked_fill(x > 0, 0.1),
        torch.where(x > 0, 0.1, x) * torch.where(x < 0, x, 0.3),
        written,
        x.clamp(-0.1, 0.3),
        functional.pad(x, (1, 1), value=0.1),
        functional.threshold(x, 0.1, 0.3),
        functional.hardshrink(x, 0.1),
        torch.lerp(x, other, 0.1),
        torch.add(x, other, alpha=0.1),
        torch.addcmul(x, x, other, value=0.1),
        torch.addcdiv(x, x, other.abs() + 1, value=0.1),
        x + torch.linspace(0.1, 0.7, 4, dtype=x.dtype),
        0.1**x,
        x.var(1, correction=0.3),
        torch.linalg.vector_norm(x, 1.5, dim=1),
    ]


def _layers(x: Tensor) -> list[Tensor]:
    """Of which ONNX Runtime has no kernel, or one with a number of float32."""
    image = x.reshape(-1, 2, 2) * torch.tensor([0.5, 2.0])  # equal values: torch leaves 1e-16
    scale = x.new_full((2,), 0.3)
    return [
        functional.leaky_relu(x, 0.1),
        functional.elu(x, 0.1),
        functional.celu(x, 0.1),
        functional.selu(x),
        functional.softplus(x, 0.1, 0.3),
        functional.hardtanh(x, -0.1, 0.3),
        functional.hardsigmoid(x),
        functional.hardswish(x),
        functional.mish(x),
        functional.prelu(image, scale),
        functional.layer_norm(x, (4,), eps=0.1),
        functional.group_norm(x, 2, scale.repeat(2), scale.repeat(2), eps=0.1),
        functional.instance_norm(image, weight=scale, eps=0.1),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("function", [_filled, _layers])
def test_float64_in_onnx(tmp_path: Path, function: Callable[[Tensor], list[Tensor]]) -> None:
    routes = []

    def keep(event: object) -> None:
        routes.extend([event.route] if isinstance(event, deploy.Attempt) else [])

    inputs = {"x": torch.randn(3, 4, dtype=torch.float64)}
    free = {"x": {0: "batch"}}
    deploy.export(
        Of(function).double(),
        inputs,
        tmp_path / "m.edge",
        dimensions=free,
        formats=["onnx"],
        on_event=keep,
    )
    assert routes == ["dynamo"]
