"""Bundles to try a server with, exported and proved like any other.

    python -m scripts.serving.models FOLDER

``mlp``    64 to 128 to 10, float32: what speed is measured with
``every``  an input of each dtype, and each comes back
``slow``   about 20 ms a row on one thread, whatever the batch: what overload is tried with
"""

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.runtimes.signature import DTYPES

SLOW_MS: Final = 20.0
_WIDTH: Final = 256


class Every(nn.Module):
    """Every input comes back, its columns turned: what only passes through proves little."""

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        return {
            f"{name}_out": torch.cat([value[:, 1:], value[:, :1]], 1)
            for name, value in inputs.items()
        }


class Slow(nn.Module):
    """x: (batch, 256) float32 -> (batch, 256): so many products of matrices a row."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        weights = torch.linalg.qr(torch.randn(_WIDTH, _WIDTH))[0]  # neither grows nor fades
        self.register_buffer("weights", weights)
        self.rounds = rounds

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(2) * x.unsqueeze(1)  # (batch, 256) -> (batch, 256, 256)
        for _ in range(self.rounds):
            x = torch.matmul(x, self.get_buffer("weights"))
        return x.mean(1)  # (batch, 256, 256) -> (batch, 256)


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in MODELS.items():
        path = folder / f"{name}.edge"
        if not path.exists():
            print(path, flush=True)
            make(path)


def mlp(path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    _export(module, {"x": torch.randn(4, 64)}, path)


def every(path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    whole = torch.randint(0, 100, (4, 3), generator=generator)
    _export(Every(), {dtype: whole.to(getattr(torch, dtype)) for dtype in DTYPES}, path)


def slow(path: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x = torch.randn(1, _WIDTH)
    probe = Slow(50).eval()
    probe(x)
    start = time.perf_counter()
    probe(x)
    round_ms = (time.perf_counter() - start) * 1e3 / probe.rounds
    _export(Slow(max(1, round(SLOW_MS / round_ms))), {"x": x.repeat(2, 1)}, path)


MODELS: Final[Mapping[str, Callable[[Path], None]]] = {"mlp": mlp, "every": every, "slow": slow}


def _export(module: nn.Module, example: Mapping[str, Tensor], path: Path) -> None:
    deploy.export(
        module.eval(),
        example,
        path,
        dimensions={name: {0: "batch"} for name in example},
        formats=("onnx",),
    )


if __name__ == "__main__":
    main()
