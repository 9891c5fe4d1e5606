"""Complex tensors through torch's ONNX exporter, which lacks operators for them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.deploy.compilers.operators.complex_parts import _square_root, _tanh
from edgeport.runtimes import Range


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
        return torch.fft.irfft(mixed, n=x.shape[-1]), (first * mixed).abs()


class Rotary(nn.Module):
    """Positions as turns, picked by index, and what else takes a complex tensor apart."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = nn.Buffer(torch.outer(torch.arange(32.0), torch.tensor([1.0, 0.1])))

    def forward(self, x: Tensor, start: Tensor) -> list[Tensor]:
        z = torch.view_as_complex(x.reshape(-1, 2, 2))
        turned = z * torch.exp(1j * self.turns)[start]
        first, second = turned.unbind(1)
        hidden = torch.where(x[:, :1] > 0, turned, torch.zeros_like(turned))
        found = [
            torch.stack([first, second**2, second**3]),
            torch.cat(hidden.repeat(1, 2).chunk(2, 1)).cumsum(1),
            functional.pad(turned.masked_fill(x[:, :2] < 0, 1.5), (1, 1)),
            torch.bmm(turned.unsqueeze(1), z.unsqueeze(2)) + torch.ones_like(z).unsqueeze(2),
            turned.gather(1, start.unsqueeze(1) % 2),
        ]
        real = [torch.view_as_real(each) for each in found]
        log = torch.log(turned)
        return [*real, log.real, torch.linalg.vector_norm(turned, dim=1), torch.angle(z)]


class Numbers(nn.Module):
    """Complex numbers beside real tensors, and what is asked of complex tensors."""

    def forward(self, x: Tensor) -> list[Tensor]:
        z = torch.view_as_complex(x.reshape(-1, 2, 2))
        real = x[:, :2]
        found = [
            torch.exp(1j * x) * torch.exp(2j * torch.arange(4)),
            (x + 1j) * (x / 2j) - (x - 3j) + (1j - x),
            torch.where(real > 0, z, 0.0) + torch.where(real > 0, 2j, z),
            torch.where(real > 0, real, z),
            z**4 + z**7 + z**1.5,
            torch.sqrt(z) + z.square(),
            torch.tanh(z) + torch.tanh(z * 30),
            (z.unsqueeze(1) * z.unsqueeze(2)).tril(),
        ]
        asked = [z == z.flip(1), z == real, z != 0, z.isnan()]
        return [torch.view_as_real(each) for each in found] + [real + each for each in asked]


class Layer(nn.Module):
    """A linear layer of complex numbers, and zeros that are real."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3, dtype=torch.cfloat)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.linear(torch.fft.rfft(x))
        return mixed.abs() + torch.zeros_like(mixed, dtype=torch.float32)


class FourierUnit(nn.Module):
    """As of LaMa: a convolution in the frequencies of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.mixes = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfftn(x, dim=(-2, -1), norm="ortho")
        parts = torch.stack([spectrum.real, spectrum.imag], 2)
        mixed = self.mixes(parts.view(x.shape[0], -1, *parts.shape[3:])).relu()
        real, imaginary = mixed.view(x.shape[0], -1, 2, *mixed.shape[2:]).unbind(2)
        found = torch.complex(real, imaginary)
        back: Tensor = torch.fft.irfftn(found, s=x.shape[-2:], dim=(-2, -1), norm="ortho")
        return back


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, "n"])
def test_a_fourier_neural_operator(size: int | str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = deploy.export(
        Spectral(), {"x": torch.randn(2, 3, 16)}, tmp_path / "m.edge",
        formats="onnx", dimensions={"x": {0: "batch"} if size == 16 else {0: "batch", 2: "n"}},
        ranges={} if size == 16 else {"n": Range(10, 40)},
    )  # fmt: skip  # one call
    assert made.report.passed


@pytest.mark.slow
def test_parts_by_index_and_powers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = {"x": torch.randn(3, 4), "start": torch.tensor([0, 31, 7])}
    made = deploy.export(
        Rotary(), example, tmp_path / "m.edge",
        formats="onnx", dimensions={"x": {0: "batch"}, "start": {0: "batch"}},
    )  # fmt: skip  # one call
    assert made.report.passed


@pytest.mark.slow
def test_numbers_beside_tensors_and_questions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = {"x": torch.randn(3, 4).round(decimals=1)}
    made = deploy.export(
        Numbers(), example, tmp_path / "m.edge", formats="onnx", dimensions={"x": {0: "batch"}}
    )
    assert made.report.passed


@pytest.mark.parametrize("z", [0j, -0.0j, -2 + 0j, complex(-2, -0.0), -1e-30j, 3e30 - 4e30j, 2j])
def test_square_roots(z: complex) -> None:
    given = torch.tensor(z)
    torch.testing.assert_close(_square_root(given), torch.sqrt(given), rtol=1e-6, atol=0)


@pytest.mark.parametrize("real", [0.0, 1e-6, -0.3, 2.0, -50.0, 200.0])
@pytest.mark.parametrize("imaginary", [0.0, 1e-3, -1.5707, 1.5708, 3.0, -40.0])
def test_hyperbolic_tangents(real: float, imaginary: float) -> None:
    given = torch.tensor(complex(real, imaginary))
    torch.testing.assert_close(_tanh(given), torch.tanh(given), rtol=1e-6, atol=0)


def test_a_layer_with_a_bias(tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = {"x": torch.randn(2, 8)}
    made = deploy.export(
        Layer(), example, tmp_path / "m.edge", formats="onnx", dimensions={"x": {0: "batch"}}
    )
    assert made.report.passed


@pytest.mark.slow
def test_sizes_with_a_step_of_what_is_complex(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = deploy.export(
        FourierUnit(), {"x": torch.randn(2, 2, 8, 12)}, tmp_path / "m.edge", formats="onnx",
        dimensions={"x": {0: "batch", 2: "height", 3: "width"}},
        ranges={name: Range(4, 40, step=4) for name in ("height", "width")},
    )  # fmt: skip  # one call
    assert made.report.passed
