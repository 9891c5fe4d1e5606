"""Parts and numbers that are free sizes: what a tracker, a siamese network and a detector use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.runtimes import Range


class Compares(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        both, follow = self.both(left, right), self.follow(left, right)
        return *both, *follow, *self.grow(left, right), *self.count(left, right)

    def both(self, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        """Two images through one network, as of stereo and flow."""
        one, other = self.layer(torch.cat([left, right])).chunk(2)
        first, rest = (one * other).split([1, one.shape[3] - 1], 3)
        return first[..., 0] * rest.sum(3), left.mean((1, 2, 3)) + one.mean((1, 2, 3))

    def follow(self, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        """Each image is compared with its own template: as many groups as channels and images."""
        batch, channels, height, width = left.shape
        kernel = right[:, :, :3, :4].reshape(batch * channels, 1, 3, 4)
        image = left.reshape(1, batch * channels, height, width)
        found = functional.conv2d(image, kernel, None, (2, 1), (1, 2), (1, 2), batch * channels)
        lines = left[:, :, 0].reshape(1, -1, width)
        rows, bias = right[:, :, :2, :3].transpose(1, 2), right[:, :2, 0, 0].flatten()
        both = functional.conv1d(lines, rows.reshape(-1, channels, 3), bias, groups=batch)
        return found.view(batch, channels, *found.shape[2:]), both.view(batch, 2, -1)

    def grow(self, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        """Each image is enlarged by weights of its own, as in StyleGAN 2."""
        batch, channels, _, width = left.shape
        kernel = right[:, :, :3, :4].reshape(batch * channels, 1, 3, 4).repeat(1, 2, 1, 1)
        image, groups = left.reshape(1, batch * channels, -1, width), batch * channels
        grown = functional.conv_transpose2d(
            image, kernel, None, (2, 3), (1, 0), (1, 2), groups, (1, 2)
        )
        lines, bias = left[:, :, 0].reshape(1, -1, width), right[:, :2, 0, 0].flatten()
        weights = right[:, :, :2, :3].reshape(-1, 2, 3)
        both = functional.conv_transpose1d(lines, weights, bias, 1, 3, groups=batch)
        return grown.view(batch, 2 * channels, *grown.shape[2:]), both.view(batch, 2, -1)

    def count(self, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        """The places of a heat map, and other numbers that are sizes."""
        width = left.shape[3]
        places = left.flatten(1).argsort(1)
        return (
            places % width + width % (places + 1) + places // width,
            left % width + left // width,
            left.tanh() ** width,
            torch.roll(left, (width // 2, 1), (3, 2)) + torch.roll(right, -width),
            left.scatter(3, places[:, None, None, :1] % 2, width / 3),
            left * torch.linspace(0, width - 1, width) + torch.as_tensor(width),
            left + left.new_tensor([width, 1]).sum(),
        )


_IMAGES: Mapping[str, Mapping[int, str]] = {
    name: {0: "batch", 3: "width"} for name in ("left", "right")
}


@pytest.mark.slow
@pytest.mark.parametrize(("format_", "route"), [("onnx", "dynamo"), ("pt2", "export")])
def test_parts_and_numbers_may_be_free_sizes(format_: str, route: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    events: list[Any] = []
    deploy.export(
        Compares().eval(), {name: torch.randn(2, 3, 6, 9) for name in _IMAGES}, tmp_path / "m.edge",
        formats=format_, dimensions=_IMAGES, ranges={"width": Range(6, 40)},
        on_event=events.append,
    )  # fmt: skip  # one call
    tried = [(e.route, e.outcome) for e in events if isinstance(e, deploy.Attempt)]
    assert tried == [(route, "proved")]
