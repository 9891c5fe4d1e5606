from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from edgeport.training.fitting.joined_norm import joined_statistics


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """One process is a group too."""
    place = f"file://{tmp_path / 'group'}"
    distributed.init_process_group("gloo", init_method=place, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("mean", [0.0, 1_496_256.625])
def test_a_batch_that_hardly_varies(mean: float) -> None:
    x = torch.full((20_000, 2), mean)
    x[7] = torch.nextafter(x[7], torch.tensor(1e9))
    x[:, 1] = mean + torch.arange(20_000) % 3
    own, usual = nn.BatchNorm1d(2), nn.BatchNorm1d(2).double()
    with joined_statistics(own):
        found = own(x.requires_grad_())
    (gradient,) = torch.autograd.grad(found.square().mul(torch.arange(2)).sum(), x)
    wide = x.detach().double().requires_grad_()
    expected = usual(wide)
    (wanted,) = torch.autograd.grad(expected.square().mul(torch.arange(2)).sum(), wide)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, wanted.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(own.running_var, usual.running_var, check_dtype=False)
