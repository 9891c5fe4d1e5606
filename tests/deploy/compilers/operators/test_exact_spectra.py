"""Fourier transforms as products: torch's own, and in the file that ONNX Runtime is exact for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.operators.exact_spectra import TABLE
from edgeport.runtimes import Range

aten: Any = torch.ops.aten


@pytest.mark.parametrize("normalization", [0, 1, 2])
@pytest.mark.parametrize(
    ("shape", "dim"), [((3, 12), [1]), ((3, 9, 16), [1, 2]), ((7, 6, 5), [2, 0])]
)
def test_it_is_as_torch_has_it(shape: tuple[int, ...], dim: list[int], normalization: int) -> None:
    x, z = torch.randn(shape), torch.randn(shape, dtype=torch.complex64)
    cases: list[tuple[Any, tuple[Any, ...]]] = [
        *((aten._fft_r2c.default, (x, dim, normalization, onesided)) for onesided in (True, False)),
        *((aten._fft_c2c.default, (z, dim, normalization, forward)) for forward in (True, False)),
    ]
    half = aten._fft_r2c.default(x, dim, 0, True)
    cases.append((aten._fft_c2r.default, (half, dim, normalization, shape[dim[-1]])))
    for operator, args in cases:
        torch.testing.assert_close(TABLE[operator](*args), operator(*args), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:A window was not provided")
@pytest.mark.parametrize(
    "options",
    [
        (12, 5, None, torch.hann_window(12), True, True, True),
        (12, None, None, torch.hann_window(9), False, None, True),
        (20, 4, 20, None, False, False, True),
    ],
)
def test_frames_are_those_of_torch(options: tuple[Any, ...]) -> None:
    x = torch.randn(2, 47)
    n_fft, hop, length, window, *rest = options
    length = len(window) if window is not None else length
    expected = aten.stft.default(x, n_fft, hop, length, window, *rest)
    found = TABLE[aten.stft.default](x, n_fft, hop, length, window, *rest)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 8])
def test_back_to_real_numbers_stays_of_no_length(length: int) -> None:
    """ONNX Runtime up to 1.26 does not open its operator."""
    half = torch.fft.rfft(torch.randn(3, length))
    found = TABLE[aten._fft_c2r.default](half, [1], 2, length)
    torch.testing.assert_close(found, torch.fft.irfft(half, length))


def test_what_the_engine_is_exact_for_stays_and_what_is_too_long() -> None:
    x = torch.randn(3, 16)
    assert TABLE[aten._fft_r2c.default](x, [1], 0, True) is NotImplemented
    assert TABLE[aten._fft_r2c.default](torch.ones(1, 4100), [1], 0, True) is NotImplemented
    assert TABLE[aten._fft_c2c.default](x + 0j, [1], 0, True) is NotImplemented
    assert TABLE[aten._fft_c2r.default](torch.ones(1, 9) + 0j, [1], 0, 8192) is NotImplemented
    assert TABLE[aten.stft.default](x, 16, return_complex=True) is NotImplemented
    assert TABLE[aten.stft.default](x, 12, return_complex=False) is NotImplemented
    assert TABLE[aten.stft.default](x, 12, win_length=8, return_complex=True) is NotImplemented


class Loudness(nn.Module):
    """As in front of speech recognition, whose windows have 400 samples."""

    def __init__(self) -> None:
        super().__init__()
        self.window = nn.Buffer(torch.hann_window(100))

    def forward(self, x: Tensor) -> Tensor:
        spectrum: Tensor = torch.stft(x, 100, 40, window=self.window, return_complex=True)
        return spectrum.abs()


class Filters(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x)
        kept = spectrum * (torch.arange(spectrum.shape[-1]) < 9)
        both = torch.fft.fft2(x, norm="ortho").imag
        found: Tensor = torch.fft.irfft(kept, n=x.shape[-1]) + both
        return found


@pytest.mark.usually("module0")
@pytest.mark.parametrize(("module", "range_"), [(Loudness(), (100, 400)), (Filters(), (40, 60))])
def test_spectra_of_other_lengths_go_into_onnx(
    module: nn.Module, range_: tuple[int, int], tmp_path: Path
) -> None:
    made: list[deploy.Attempt] = []

    def keep(event: object) -> None:
        if isinstance(event, deploy.Attempt):
            made.append(event)

    deploy.export(
        module, {"x": torch.randn(2, range_[1])}, tmp_path / "m.edge", formats=["onnx"],
        dimensions={"x": {0: "batch", 1: "samples"}}, ranges={"samples": Range(*range_)},
        on_event=keep,
    )  # fmt: skip  # one call
    assert [(attempt.route, attempt.outcome) for attempt in made] == [
        ("dynamo", "wrong"),
        ("written out", "proved"),
    ]
