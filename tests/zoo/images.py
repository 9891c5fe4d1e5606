"""Convolutions and what stands around them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport.runtimes import Range

from .entry import Entry, calibrated, rows


def _block(wide: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(wide, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU())


class UNet(nn.Module):
    """Any height and width: what comes up is resized to what it is joined with."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.middle = _block(3, 8), _block(8, 12), _block(12, 16)
        self.up2, self.up1 = nn.ConvTranspose2d(16, 12, 2, 2), nn.ConvTranspose2d(12, 8, 2, 2)
        self.join2, self.join1 = _block(24, 12), _block(16, 8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        one = self.down1(image)
        two = self.down2(functional.max_pool2d(one, 2))
        deep = self.up2(self.middle(functional.max_pool2d(two, 2)))
        deep = functional.interpolate(
            deep, size=two.shape[-2:], mode="bilinear", align_corners=False
        )
        deep = self.up1(self.join2(torch.cat([two, deep], 1)))
        deep = functional.interpolate(deep, size=one.shape[-2:], mode="nearest")
        y: Tensor = self.head(self.join1(torch.cat([one, deep], 1)))
        return y


class AudioNet(nn.Module):
    """Dilated causal convolutions over a free time, gated."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 8, 1)
        self.layers = nn.ModuleList(nn.Conv1d(8, 16, 2, dilation=2**k) for k in range(4))
        self.head = nn.Conv1d(8, 4, 1)

    def forward(self, wave: Tensor) -> Tensor:
        x = self.first(wave.unsqueeze(1))  # (B, T) -> (B, 8, T)
        for k, layer in enumerate(self.layers):
            x = x + functional.glu(layer(functional.pad(x, (2**k, 0))), dim=1)
        y: Tensor = self.head(x)
        return y


class Autoencoder(nn.Module):
    """The decoder uses the encoder's weights, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encode1, self.encode2 = nn.Linear(20, 12), nn.Linear(12, 4)
        self.bias1, self.bias2 = nn.Parameter(torch.randn(12)), nn.Parameter(torch.randn(20))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encode2(self.encode1(x).tanh())
        hidden = functional.linear(code, self.encode2.weight.t(), self.bias1).tanh()
        return code, functional.linear(hidden, self.encode1.weight.t(), self.bias2)


class Upscaler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="reflect")
        self.first, self.last = nn.Conv2d(1, 4, 5, padding=2), nn.Conv2d(4, 9, 1)
        self.shuffle = nn.PixelShuffle(3)
        self.act = nn.PReLU(4)

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = self.shuffle(self.last(self.depthwise(self.act(self.first(image)))))
        return y


class Warp(nn.Module):
    """A spatial transformer: the image is sampled where a small network says."""

    def __init__(self) -> None:
        super().__init__()
        self.where = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh())

    def forward(self, image: Tensor) -> Tensor:
        theta = self.where(image).view(-1, 2, 3)
        grid = functional.affine_grid(theta, [image.size(0), 1, 8, 8], align_corners=False)
        return functional.grid_sample(image, grid, mode="bilinear", align_corners=False)


class ResizeLike(nn.Module):
    """The size of one input is that of another."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)

    def forward(self, image: Tensor, guide: Tensor) -> Tensor:
        small = self.mix(image)
        size = (guide.shape[2], guide.shape[3])
        return functional.interpolate(small, size=size, mode="bilinear", align_corners=True) * guide


class PatchTransformer(nn.Module):
    """A vision transformer with a class token and learned positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Parameter(torch.randn(1, 17, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)  # (B, 3, 16, 16) -> (B, 16, 16)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        y: Tensor = self.head(self.layers(x)[:, 0])
        return y


class Pools(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        largest = functional.max_pool2d(image, 3, 2, ceil_mode=True)
        mean = functional.avg_pool2d(image, 3, 2, padding=1, count_include_pad=False)
        return largest, mean, functional.lp_pool2d(image.abs(), 2.0, 2)


class Patches(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        columns = functional.unfold(image, 3, padding=1)  # (B, 2, 6, 6) -> (B, 18, 36)
        return functional.fold(columns * columns.mean(1, keepdim=True), (6, 6), 3, padding=1)


class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.group, self.instance = nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)
        self.local = nn.LocalResponseNorm(3)

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = self.local(self.group(image) + self.instance(image).relu())
        return y


class ByteImage(nn.Module):
    """Takes the camera's bytes, channels last, as most devices have them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = self.conv(image.permute(0, 3, 1, 2).float() / 255 - 0.5)
        return y.mean((2, 3))


_SIDE = {0: "batch", 2: "height", 3: "width"}

ENTRIES: Mapping[str, Entry] = {
    "u-net": Entry(
        lambda: calibrated(UNet(), lambda: (torch.randn(4, 3, 12, 16),)),
        lambda batch, height, width: {"image": torch.randn(batch, 3, height, width)},
        "image",
        {"image": _SIDE},
        {"height": 12, "width": 17},
        {"height": Range(4), "width": Range(4)},
    ),
    "dilated audio": Entry(
        AudioNet,
        lambda batch, time: {"wave": torch.randn(batch, time)},
        "image",
        {"wave": {0: "batch", 1: "time"}},
        {"time": 40},
    ),
    "video": Entry(
        lambda: nn.Sequential(
            nn.Conv3d(3, 6, 3, padding=1), nn.GELU(), nn.MaxPool3d(2), nn.Conv3d(6, 4, 2)
        ),
        lambda batch: {"input": torch.randn(batch, 3, 6, 8, 8)},
        "image",
        rows("input"),
    ),
    "transposed 1d": Entry(
        lambda: nn.Sequential(
            nn.ConvTranspose1d(4, 6, 4, 2, padding=1, output_padding=1),
            nn.ELU(),
            nn.Conv1d(6, 2, 3),
        ),
        lambda batch, time: {"input": torch.randn(batch, 4, time)},
        "image",
        {"input": {0: "batch", 2: "time"}},
    ),
    "autoencoder": Entry(
        Autoencoder, lambda batch: {"x": torch.randn(batch, 20)}, "wrapped", rows("x")
    ),
    "upscaler": Entry(
        Upscaler,
        lambda batch, height, width: {"image": torch.randn(batch, 1, height, width)},
        "image",
        {"image": _SIDE},
        {"height": 6, "width": 9},
        {"height": Range(2), "width": Range(2)},
    ),
    "spatial transformer": Entry(
        Warp, lambda batch: {"image": torch.randn(batch, 1, 8, 8)}, "image", rows("image")
    ),
    "resize like": Entry(
        ResizeLike,
        lambda batch, height, width: {
            "image": torch.randn(batch, 3, 5, 7),
            "guide": torch.randn(batch, 3, height, width),
        },
        "image",
        {"image": {0: "batch"}, "guide": _SIDE},
        {"height": 8, "width": 11},
    ),
    "patch transformer": Entry(
        PatchTransformer,
        lambda batch: {"image": torch.randn(batch, 3, 16, 16)},
        "image",
        rows("image"),
    ),
    "pools": Entry(
        Pools, lambda batch: {"image": torch.randn(batch, 2, 7, 8)}, "image", rows("image")
    ),
    "unfold and fold": Entry(
        Patches, lambda batch: {"image": torch.randn(batch, 2, 6, 6)}, "image", rows("image")
    ),
    "norms": Entry(
        Norms, lambda batch: {"image": torch.randn(batch, 4, 5, 5)}, "image", rows("image")
    ),
    "byte image": Entry(
        ByteImage,
        lambda batch: {"image": torch.randint(0, 256, (batch, 9, 11, 3), dtype=torch.uint8)},
        "image",
        rows("image"),
    ),
}
