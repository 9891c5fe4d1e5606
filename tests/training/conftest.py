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

    history = training.fit(
        module, data.train, data.held_out,
        epochs=2, batch_size=64, learning_rate=3e-3, seed=0, on_epoch=interrupt,
    )  # fmt: skip  # one line for what, one for how
    return training.Run("small_cnn", HYPERPARAMETERS, module, data.origin, data.held_out, history)
