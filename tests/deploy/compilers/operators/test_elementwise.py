"""What ONNX has not for masks and narrow integers, through torch's ONNX exporter."""

from pathlib import Path

import torch
from torch import Tensor, nn

from edgeport import deploy


class Masks(nn.Module):
    """Sums of masks, and powers of narrow integers."""

    def forward(self, x: Tensor, n: Tensor) -> list[Tensor]:
        mask = x > 0
        mask |= x < -1
        mask &= x < 2
        mask ^= x > 1.5
        mask += x > 1.8
        put = x.put(n[0, :2].long(), x[0, :2]).put(n[0, :1].long(), x[0, :1], accumulate=True)
        return [x + mask, n**2, n**3, 2 ** n.short(), n.to(torch.uint8) ** n.to(torch.uint8), put]


def test_masks_and_narrow_integers_in_onnx(tmp_path: Path) -> None:
    made = deploy.export(
        Masks(),
        {"x": torch.randn(3, 4), "n": torch.randint(0, 6, (3, 4), dtype=torch.int8)},
        tmp_path / "m.edge", formats=["onnx"], dimensions={"x": {0: "batch"}, "n": {0: "batch"}},
    )  # fmt: skip  # one call
    assert made.report.passed
