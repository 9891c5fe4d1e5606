"""What hangs on weights alone, through torch.export and ONNX Runtime."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.onnx_files.constant_folding import fold


class Process(nn.Module):
    """A Gaussian process: what is fitted hangs on its points alone."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self.points = nn.Buffer(torch.linspace(0, 9, points).unsqueeze(-1))
        self.values = nn.Buffer(torch.sin(self.points))
        self.scale = nn.Parameter(torch.tensor(0.5))

    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-self.scale * (a - b.T) ** 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        known = self.covariance(self.points, self.points) + 0.1 * torch.eye(len(self.points))
        lower = torch.linalg.cholesky(known)
        weights = torch.cholesky_solve(self.values, lower)
        near = self.covariance(x, self.points)
        spread = torch.linalg.solve_triangular(lower, near.T, upper=False).square().sum(0)
        size = torch.slogdet(known.double()).logabsdet.float()  # of a checked type
        return near @ weights + size, 1 - spread


class StateSpace(nn.Module):
    """A convolution whose kernel is a sum of complex powers."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = nn.Parameter(torch.rand(4, 2) - torch.tensor([1.2, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        rates = torch.view_as_complex(self.rates) + 1j * torch.arange(4)
        kernel = torch.exp(rates.unsqueeze(-1) * torch.arange(6)).sum(0).real
        found: Tensor = torch.fft.irfft(torch.fft.rfft(x, n=12) * torch.fft.rfft(kernel, n=12))
        return found[..., :6]


class Writes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Buffer(torch.eye(2) * 3)

    def forward(self, x: Tensor) -> Tensor:
        self.a.mul_(2)
        inverse: Tensor = torch.linalg.inv(self.a)
        return x @ inverse


class Inverts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        inverse: Tensor = torch.linalg.inv(x.T @ x + torch.eye(2))
        return inverse


def folded(module: nn.Module, x: Tensor) -> tuple[torch.export.ExportedProgram, set[str]]:
    program = torch.export.export(module.eval(), (x,))
    fold(program)
    return program, {str(node.target) for node in program.graph.nodes}


def test_a_constant_is_what_the_module_computes() -> None:
    module, x = Process(20), torch.randn(4, 1)
    program, operators = folded(module, x)
    assert [name for name in operators if "aten.cholesky" in name or "aten.linalg" in name] == [
        "aten.linalg_solve_triangular.default"
    ]
    assert "aten.exp.default" in operators  # of the input
    answers: Any = program.module()(x)
    for answer, expected in zip(answers, module(x), strict=True):
        torch.testing.assert_close(answer, expected)


@pytest.mark.parametrize("module", [Writes(), Inverts()])
def test_what_is_written_to_or_hangs_on_an_input_stays(module: nn.Module) -> None:
    _, operators = folded(module, torch.randn(3, 2))
    assert "aten.linalg_inv.default" in operators


@pytest.mark.slow
def test_dynamo_exports_it(tmp_path: Path) -> None:
    torch.manual_seed(1)  # ONNX Runtime's DFT of 12 may be beyond the bar
    orthogonal = nn.utils.parametrizations.orthogonal(nn.Linear(6, 6))
    made: list[deploy.Attempt] = []

    def keep(event: object) -> None:
        if isinstance(event, deploy.Attempt):
            made.append(event)

    after = (orthogonal, StateSpace())
    modules = (Process(20), *(nn.Sequential(nn.Linear(1, 6), each) for each in after))
    for number, module in enumerate(modules):
        deploy.export(
            module,
            torch.randn(4, 1),
            tmp_path / f"{number}.edge",
            dimensions={"input" if number else "x": {0: "batch"}},
            formats=["onnx"],
            on_event=keep,
        )
    assert [(attempt.route, attempt.outcome) for attempt in made] == [("dynamo", "proved")] * 3
