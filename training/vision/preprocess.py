"""Resize, crop and normalise inside the artefact: uint8 pixels of any size go in.

The resize is torchvision's float path, ``v2.Resize(size, antialias=True)`` on float images: a
bilinear filter widened by the scale, applied along each side. (Its uint8 and PIL paths round in
between and are up to one grey level apart.) It is written as two matrix products whose weights are
computed from the size, because engines differ in, or lack, an antialiased resize.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION: Final = (0.229, 0.224, 0.225)


class Preprocess(nn.Module):
    """What torchvision's classification transforms do to a photo.

    Args:
        name: Of the input.
        resize: Length of the shorter side after resizing.
        crop: Side of the square that is cut from the middle.
        mean, deviation: Of the three colours, 0..1.
    """

    mean: Tensor
    deviation: Tensor
    middle: Tensor

    def __init__(
        self,
        name: str,
        resize: int,
        crop: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        deviation: Sequence[float] = IMAGENET_DEVIATION,
    ) -> None:
        super().__init__()
        if not 1 <= crop <= resize:
            raise ValueError(f"a crop of {crop} from images resized to {resize}")
        self.names, self.resize, self.crop = [name], resize, crop
        mean_, deviation_ = (torch.tensor(list(v), device="cpu") for v in (mean, deviation))
        self.register_buffer("mean", mean_.view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", deviation_.view(3, 1, 1), persistent=False)
        middle = torch.arange(crop, dtype=torch.float64, device="cpu") + 0.5
        self.register_buffer("middle", middle, persistent=False)

    @property
    def free_axes(self) -> dict[str, dict[int, str]]:
        """Images may have any size."""
        return {self.names[0]: {1: "height", 2: "width"}}

    def forward(self, **inputs: Tensor) -> Tensor:
        """Prepare.

        Args:
            inputs: One, (batch, height, width, 3) uint8, RGB.

        Returns:
            (batch, 3, crop, crop) float32.
        """
        image = inputs[self.names[0]]
        height = torch.ones_like(image[0, :, 0, 0], dtype=torch.float64)  # its sum is a size that
        width = torch.ones_like(image[0, 0, :, 0], dtype=torch.float64)  # no tracer can bake in
        rows = self._weights(height, width.sum())  # (crop, H)
        columns = self._weights(width, height.sum())  # (crop, W)
        pixels = image.permute(0, 3, 1, 2).contiguous().to(self.mean.dtype)  # (B, 3, H, W)
        # (B, 3, H, W) @ (W, crop) -> (B, 3, H, crop); (crop, H) @ ... -> (B, 3, crop, crop)
        resized = torch.matmul(rows, torch.matmul(pixels, columns.t()))
        return (resized / 255 - self.mean) / self.deviation

    def _weights(self, ones: Tensor, other: Tensor) -> Tensor:
        """Which share each pixel of a side has in each kept one: (crop, length)."""
        length = ones.sum()
        shorter = torch.minimum(length, other)
        # v2.Resize gives the longer side int(size * longer / shorter)
        resized = torch.floor(self.resize * length / shorter)
        first = torch.round((resized - self.crop) / 2)  # v2.CenterCrop rounds half to even
        scale = length / resized
        centre = scale * (self.middle + first)  # in pixels of the image
        reach = torch.clamp(scale, min=1.0)  # antialias: a filter as wide as a new pixel
        place = torch.cumsum(ones, 0) - 0.5
        distance = torch.abs(place[None] - centre[:, None]) / reach
        weights = torch.clamp(1 - distance, min=0)
        shares = weights / weights.sum(1, keepdim=True)
        return shares.to(self.mean.dtype)
