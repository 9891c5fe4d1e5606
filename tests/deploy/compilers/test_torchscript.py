"""What becomes of a TorchScript file on its way to disk."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.torchscript import without_debug_records
from edgeport.runtimes import Range


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


class Ranks(nn.Module):
    """Its dictionary is no TorchScript, so that what torch.export captured is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.options = {"dim": 1, "stable": True}

    def forward(self, x: Tensor) -> Tensor:
        return torch.argsort(x, **self.options)  # type: ignore[no-any-return, call-overload]


def test_a_stable_sort_stays_one(tmp_path: Path) -> None:
    deploy.export(
        Ranks(), {"x": torch.randn(2, 5)}, tmp_path / "m.edge", formats="torchscript",
        dimensions={"x": {0: "batch", 1: "time"}},
    )  # fmt: skip  # one call
    x = np.random.default_rng(0).integers(0, 3, (4, 100)).astype(np.float32)
    with runtimes.open(tmp_path / "m.edge", "libtorch") as session:
        found = session.run({"x": x})["output"]
    assert (found == x.argsort(1, kind="stable")).all()


class Sizes(nn.Module):
    """Sizes, as small as 1, go to operators of many kinds; its dictionary is no TorchScript."""

    def __init__(self) -> None:
        super().__init__()
        self.options = {"dim": 1, "keepdim": True}

    def forward(self, x: Tensor) -> Tensor:
        x = functional.avg_pool1d(x, 3, 1)
        batch, time = x.shape
        y = x.unsqueeze(1).expand(batch, 3, time).reshape(batch, 3 * time)
        y = y + torch.arange(3 * time) // 2 + torch.ones(batch, 3 * time).cumsum(1)
        y[:, time : 2 * time] = x.repeat(1, 2)[:, time:]
        y = functional.pad(y, (time, 0)) - torch.zeros(batch, 4 * time)
        return y - y.mean(**self.options)  # type: ignore[call-overload, no-any-return]


def test_what_was_captured_keeps_its_free_sizes(tmp_path: Path) -> None:
    proved: list[str] = []

    def keep(event: object) -> None:
        if isinstance(event, deploy.Attempt) and event.outcome == "proved":
            proved.append(event.route)

    deploy.export(
        Sizes(), {"x": torch.randn(2, 5)}, tmp_path / "m.edge", formats="torchscript",
        dimensions={"x": {0: "batch", 1: "time"}}, ranges={"time": Range(3, 64)}, on_event=keep,
    )  # fmt: skip  # one call
    assert proved == ["export"]
