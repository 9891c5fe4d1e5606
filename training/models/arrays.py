"""Raw arrays to features or pixels, inside the artefact."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from edgeport.training.data import Labelled

from .staged import batches


class Features(nn.Module):
    """Arrays of any shape, flattened, joined and standardised: what an MLP takes.

    Args:
        shapes: Input -> shape of one example.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.names = list(shapes)
        size = sum(math.prod(shape) for shape in shapes.values())
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(self, examples: Labelled) -> None:
        """Take means and deviations; what is constant, as the rim of an image, is only centred."""
        count, mean = 0, torch.zeros_like(self.mean.double())
        squares = torch.zeros_like(mean)
        for rows in batches(examples):  # Chan, Golub and LeVeque 1979: partial sums of squares
            joined = self._joined(rows).double()
            apart, share = joined.mean(0) - mean, len(joined) / (count + len(joined))
            squares += joined.var(0, correction=0) * len(joined) + apart.square() * count * share
            mean += apart * share
            count += len(joined)
        deviation = (squares / count).sqrt()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(deviation > 0, deviation, torch.ones_like(deviation)))

    def forward(self, **inputs: Tensor) -> Tensor:
        """Standardise: arrays (batch, ...) of any dtype -> (batch, features) float32."""
        return (self._joined(inputs) - self.mean) / self.scale

    def _joined(self, inputs: Mapping[str, Tensor]) -> Tensor:
        parts = [inputs[name].to(self.mean.dtype) for name in self.names]
        return torch.cat([part.reshape(part.shape[0], -1) for part in parts], 1)


class Pixels(nn.Module):
    """Images as a CNN takes them: (batch, channels, height, width) float32.

    Args:
        name: Of the input.
        shape: Of one example: (channels, height, width) of floats, which pass as they are;
            (height, width) or (height, width, channels) of uint8, which become 0..1.
        floats: Whether they are floats.
    """

    scale: Tensor

    def __init__(self, name: str, shape: Sequence[int], floats: bool) -> None:
        super().__init__()
        if len(shape) not in (2, 3):
            raise ValueError(f"images of shape {list(shape)}, expected 2 or 3 axes")
        self.names, self.shape, self.floats = [name], tuple(shape), floats
        self.register_buffer(
            "scale", torch.tensor(1.0 if floats else 255.0, device="cpu"), persistent=False
        )

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        if len(self.shape) == 2:
            return (1, self.shape[0], self.shape[1])
        first, second, third = self.shape
        return (first, second, third) if self.floats else (third, first, second)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Lay out: (batch, *shape) -> (batch, channels, height, width)."""
        image = inputs[self.names[0]]
        if len(self.shape) == 2:
            image = image[:, None]  # (B, H, W) -> (B, 1, H, W)
        elif not self.floats:
            image = image.permute(0, 3, 1, 2).contiguous()  # (B, H, W, C) -> (B, C, H, W)
        return image.to(self.scale.dtype) / self.scale
