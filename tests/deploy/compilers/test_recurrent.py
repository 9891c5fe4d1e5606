"""Recurrent layers over a free time, whatever was exported in the same process before."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeport import deploy
from edgeport.deploy.compilers.recurrent import loops_over_time
from edgeport.deploy.compilers.upstream import quiet


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_an_export_before_does_not_decide_this_one(
    layer: Callable[..., nn.Module], tmp_path: Path
) -> None:
    module, x = layer(4, 6, batch_first=True).eval(), torch.randn(2, 3, 4)
    with quiet(), torch.no_grad():
        torch.export.export(module, (x,))  # finds torch's own kernel, which unrolls
    free = {"input": {0: "batch", 1: "time"}}
    made = deploy.export(
        module, {"input": x}, tmp_path / "m.edge", dimensions=free, formats=("pt2",)
    )
    assert made.report.passed


def test_the_loops_are_gone_afterwards() -> None:
    lstm = torch.ops.aten.lstm.input
    kernels = dict(lstm.py_kernels)
    with loops_over_time():
        assert lstm.py_kernels != kernels
    assert lstm.py_kernels == kernels
    assert not lstm._dispatch_cache
