import pytest
import torch
from sklearn.metrics import r2_score

from edgeport.training.fitting.objective import r2


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        ([1.0, 2.5, 2.0], [1.0, 2.0, 3.0]),
        ([1.7e9, 1.7e9 + 256], [1.7e9 - 128, 1.7e9 + 512]),  # float32 has no room for their mean
        ([1.0, 2.0], [3.0, 3.0]),
        ([3.0, 3.0], [3.0, 3.0]),
        ([[1.0, 5.0], [2.0, 5.0]], [[1.5, 5.0], [2.0, 6.0]]),
    ],
    ids=str,
)
def test_it_is_that_of_scikit_learn(outputs: list[float], labels: list[float]) -> None:
    found, wanted = torch.tensor(outputs), torch.tensor(labels)
    expected = r2_score(wanted.double(), found.double(), multioutput="variance_weighted")
    assert r2(found, wanted) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_r2_is_that_of_scikit_learn(mean: float) -> None:
    torch.manual_seed(0)
    labels = mean + torch.randn(5000)
    outputs = labels + 0.3 * torch.randn(5000)
    wanted = r2_score(labels.double().numpy(), outputs.double().numpy())
    assert r2(outputs, labels) == pytest.approx(wanted, abs=1e-12)
