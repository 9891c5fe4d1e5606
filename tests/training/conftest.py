import pytest
import torch

from edgeport import training

HYPERPARAMETERS = {"channels": 4, "hidden": 8}


@pytest.fixture(scope="session")
def data() -> training.DataSet:
    return training.digits()


@pytest.fixture(scope="session")
def made(data: training.DataSet) -> training.Run:
    """A real run, small, with one epoch of two missing."""
    torch.manual_seed(0)
    module = training.SmallCnn(**HYPERPARAMETERS)

    def interrupt(epoch: training.Epoch) -> None:
        raise KeyboardInterrupt

    history = training.fit(module, data, training.Settings(2, 64, 3e-3), on_epoch=interrupt)
    scores = {"accuracy": history.epochs[-1].held_out_score}
    return training.Run(
        "small_cnn", HYPERPARAMETERS, module, data.origin, data.held_out, history, scores
    )
