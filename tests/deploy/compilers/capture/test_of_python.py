"""What Python decides by numbers that are made of values, where torch's symbols have no say."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.capture import program
from edgeport.deploy.compilers.capture.recorded import with_values
from edgeport.deploy.compilers.operators import quotients
from edgeport.deploy.compilers.upstream import quiet


class Asks(nn.Module):
    """A question to values, in code that no script takes."""

    def __init__(self, asks: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.asks = asks

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if self.asks(x) else x * 3


def source_of(module: nn.Module) -> deploy.Source:
    return deploy.source_of("m", module, {"x": torch.rand(4, 5)}, {"x": {0: "rows"}})


def require_ways(module: nn.Module, *inputs: Tensor) -> None:
    """Each is answered as by the module: samples take both ways."""
    with quiet():
        run = with_values(source_of(module)).program.module()
    for x in inputs:
        torch.testing.assert_close(run(x)[0], module(x))


def by_match(x: Tensor) -> bool:
    match (x > 7).any().item():
        case True:
            return True
        case _:
            return False


@pytest.mark.parametrize(
    "asks",
    [
        lambda x: (x > 7).any().item() is True,
        lambda x: ((x > 7).sum().item() > 0) is not False,
        by_match,
    ],
)
def test_a_truth_is_asked_for_by_identity(asks: Callable[[Tensor], bool]) -> None:
    """No symbol is ``True``: it was taken for false of all inputs."""
    require_ways(Asks(asks), torch.rand(3, 5), torch.rand(3, 5) + 9)


def test_bytecode_that_asks_by_identity_is_refused() -> None:
    source = source_of(Asks(lambda x: (x > 7).any().item() is True))
    with quiet(), pytest.raises(quotients.LostSizeError, match="'is' of a value"):
        program.capture(source, strict=True)


def share(x: Tensor) -> float:
    try:
        return 1 / int((x > 0).sum())
    except ZeroDivisionError:
        return 7.0


class Shares(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * share(x)


def test_what_python_does_instead_of_dividing_by_zero_is_another_way() -> None:
    require_ways(Shares(), torch.rand(3, 5), torch.rand(3, 5) - 9)


class Divides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (12 / (x > 0).sum().item())


def test_a_number_is_not_divided_by_zero() -> None:
    """Where Python raises; the file answered Inf."""
    with quiet():
        run = program.capture(source_of(Divides())).module()
    x = torch.rand(3, 5)
    torch.testing.assert_close(run(x)[0], Divides()(x))
    with pytest.raises(RuntimeError, match="another way through"):
        run(x - 9)
