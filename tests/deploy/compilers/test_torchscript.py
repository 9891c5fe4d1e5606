"""What becomes of a TorchScript file on its way to disk."""

import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.deploy.compilers.torchscript import without_debug_records


class Newer(nn.Module):
    """Operators that a file of an older version holds otherwise."""

    def forward(self, x: Tensor, n: Tensor) -> tuple[Tensor, ...]:
        return (
            functional.gelu(x, approximate="tanh"),
            torch.div(n, 2),
            x * torch.full((5,), 3),
            x + torch.linspace(0, 1, 5),
        )


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_operators_stay_those_of_today(tmp_path: Path) -> None:
    example = {"x": torch.randn(2, 5), "n": torch.tensor([-7, 7])}
    made = deploy.export(Newer(), example, tmp_path / "m.edge", formats="torchscript")
    assert made.report.passed
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(Newer(), (*example.values(),)), buffer)  # type: ignore[no-untyped-call]
    versions = [
        next(archive.read(name) for name in archive.namelist() if name.endswith("version"))
        for archive in map(
            zipfile.ZipFile,
            (io.BytesIO(buffer.getvalue()), io.BytesIO(without_debug_records(buffer.getvalue()))),
        )
    ]
    assert versions == [b"10\n"] * 2
