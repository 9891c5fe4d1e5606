"""Complex tensors through torch's ONNX exporter, which lacks operators for them."""

from pathlib import Path

import torch
from torch import Tensor, nn

from edgeport import deploy


class Spectral(nn.Module):
    """The layer of a Fourier neural operator: the lowest frequencies are mixed, others are 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, 4, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = torch.fft.rfft(x)
        mixed = torch.zeros(x.shape[0], 2, spectrum.shape[-1], dtype=torch.cfloat)
        mixed[:, :, :4] = torch.einsum("bix,iox->box", spectrum[:, :, :4], self.weight)
        mixed[:, 0, 5] = 1 + mixed[:, 1, 2]
        first = spectrum[:, 0].unsqueeze(1).expand(-1, 2, -1)
        return torch.fft.irfft(mixed, n=16), (first * mixed).abs()


def test_a_fourier_neural_operator(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = deploy.export(
        Spectral(), {"x": torch.randn(2, 3, 16)}, tmp_path / "m.edge",
        formats="onnx", dimensions={"x": {0: "batch"}},
    )  # fmt: skip  # one call
    assert made.report.passed
