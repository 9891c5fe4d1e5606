import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport.runtimes import SourceError
from edgeport.training import DataSet, Labelled, Settings, fit
from edgeport.training.fitting.watch import first_bad, watching


def deep(activation: type[nn.Module], layers: int = 30, width: int = 16) -> nn.Sequential:
    torch.manual_seed(0)
    parts: list[nn.Module] = [nn.Linear(2, width), activation()]
    for _ in range(layers - 2):
        parts += [nn.Linear(width, width), activation()]
    return nn.Sequential(*parts, nn.Linear(width, 1))


def test_vanishing_gradients_are_named_and_one_flag_mends_them(line: DataSet) -> None:
    """30 sigmoid layers: the gradient of the first underflows."""
    history = fit(deep(nn.Sigmoid), line, Settings(2, None, 1e-3))
    (warning,) = history.warnings
    assert warning.startswith("vanishing-gradients: that of 0 is ")
    assert "--init kaiming" in warning
    first, last = history.norms[0].gradient["0"], history.norms[0].gradient["58"]
    assert first < 1e-9 * last
    mended = fit(deep(nn.ReLU), line, Settings(2, None, 1e-3, initialisation="kaiming"))
    assert mended.warnings == ()


def test_exploding_gradients_are_named_and_clipping_mends_them(line: DataSet) -> None:
    settings = Settings(3, None, 0.1, optimizer="SGD", schedule="constant")
    large = Labelled(line.train.inputs, line.train.labels * 1e6)
    data = DataSet(line.origin, large, large)
    with pytest.raises(SourceError, match=r"diverges|the loss is"):
        fit(deep(nn.ReLU, 4), data, Settings(40, None, 0.1, optimizer="SGD"))
    clipped = fit(deep(nn.ReLU, 4), data, Settings(3, None, 0.1, optimizer="SGD", clip_norm=1.0))
    assert len(clipped.epochs) == settings.epochs
    (warning,) = clipped.warnings
    assert warning.startswith("exploding-gradients: that of ")
    assert "--clip-norm 1" in warning


class Breaks(nn.Module):
    """Fine until a weight is negative."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.first = nn.Linear(2, 4)
        self.root = Root() if fault == "layer" else nn.Identity()
        self.last = nn.Linear(4, 1)

    def forward(self, input: Tensor) -> Tensor:
        return self.last(self.root(self.first(input)))  # type: ignore[no-any-return]


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt(x - 100)


def test_the_first_layer_that_goes_wrong_is_named(line: DataSet) -> None:
    problem = (
        r"^the loss is nan at epoch 1, step 1 of 4 .*: the output of layer root is not finite\n"
    )
    with pytest.raises(SourceError, match=problem):
        fit(Breaks("layer"), line, Settings(1, 10, 0.1))


def test_weights_and_inputs_that_are_not_finite_are_told() -> None:
    module = Breaks("")
    good = torch.zeros(3, 2)
    assert first_bad(module, {"input": good}) == "the loss itself"
    bad = good.clone()
    bad[2, 1] = torch.inf
    assert first_bad(module, {"input": bad}) == "input 'input' is not finite in row 2 of the batch"
    with torch.no_grad():
        module.last.bias.fill_(torch.nan)
    assert first_bad(module, {"input": good}) == "the weights of layer last are not finite"


class Nested(nn.Module):
    def forward(self, x: Tensor) -> dict[str, object]:
        return {"name": "twice", "parts": (None, [x * 2]), "rest": x}


def test_a_layer_is_watched_by_its_first_tensor_however_it_is_nested() -> None:
    seen: list[tuple[str, list[float]]] = []
    module = nn.Sequential(Nested())
    with watching(module, lambda name, x: seen.append((name, x.tolist()))):
        module(torch.ones(2))
    assert seen == [("0", [2.0, 2.0])]


def test_hooks_are_gone_afterwards() -> None:
    module = deep(nn.ReLU, 3)
    seen: list[str] = []
    with watching(module, lambda name, output: seen.append(name)):
        module(torch.zeros(1, 2))
    assert seen == ["0", "1", "2", "3", "4"]
    module(torch.zeros(1, 2))
    assert len(seen) == 5


def test_norms_are_those_of_the_first_step(line: DataSet) -> None:
    torch.manual_seed(0)
    module = nn.Linear(2, 1)
    weight, bias = (p.detach().clone().numpy() for p in module.parameters())
    history = fit(module, line, Settings(1, None, 0.1))
    x, y = line.train.inputs["input"], line.train.labels
    outputs = x @ weight.T + bias
    slope = 2 * (outputs - y) / len(y)
    gradient = np.sqrt(((slope.T @ x) ** 2).sum() + slope.sum() ** 2)
    norms = history.norms[0]
    assert norms.gradient == pytest.approx({"module": gradient}, rel=1e-5)
    assert norms.activation == pytest.approx({"module": np.sqrt((outputs**2).mean())}, rel=1e-5)


def test_at_most_about_a_hundred_epochs_are_looked_at(line: DataSet) -> None:
    history = fit(nn.Linear(2, 1), line, Settings(450, None, 0.01))
    assert 100 <= len(history.norms) <= 150
