"""The way back from a spectrum, at other lengths."""

from typing import Any

import pytest
import torch
from torch import Tensor

from edgeport import deploy
from edgeport.deploy.compilers.operators import spectra
from edgeport.runtimes import Range

_WINDOW = torch.hann_window(12)


@pytest.mark.filterwarnings("ignore:The length of signal", "ignore:A window was not provided")
@pytest.mark.parametrize(
    "options",
    [
        {"window": torch.hann_window(16)},
        {"window": torch.hann_window(16), "hop_length": 5, "length": 57},
        {"window": torch.hann_window(16), "length": 90},  # there is less
        {"window": _WINDOW, "win_length": 12, "normalized": True, "hop_length": 3},
        {"center": False},
    ],
)
def test_it_is_as_torch_has_it(options: dict[str, Any]) -> None:
    spectrum = torch.randn(2, 9, 14, dtype=torch.complex64)
    for each in (spectrum, spectrum[0]):
        expected = torch.istft(each, 16, **options)
        torch.testing.assert_close(spectra.istft(each, 16, **options), expected)


class Denoises(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        window = torch.hann_window(16)
        spectrum = torch.stft(x, 16, 4, window=window, return_complex=True)
        damped = spectrum * torch.sigmoid(spectrum.abs())
        return torch.istft(damped, 16, 4, window=window, length=x.shape[-1])


@pytest.mark.slow
def test_sound_of_any_length_in_every_format(tmp_path: Any) -> None:
    deploy.export(
        Denoises(), {"x": torch.randn(1, 64)}, tmp_path / "m.edge", formats=["onnx", "pt2"],
        dimensions={"x": {1: "samples"}}, ranges={"samples": Range(32, 200)},
    )  # fmt: skip  # one call
