import pytest
import torch
from sklearn.metrics import r2_score

from edgeport.training.fitting.objective import r2


@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_r2_is_that_of_scikit_learn(mean: float) -> None:
    torch.manual_seed(0)
    labels = mean + torch.randn(5000)
    outputs = labels + 0.3 * torch.randn(5000)
    wanted = r2_score(labels.double().numpy(), outputs.double().numpy())
    assert r2(outputs, labels) == pytest.approx(wanted, abs=1e-12)
