"""A text that forward makes of a value is that of the value, or the file refuses the input."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.capture.recorded import with_values
from edgeport.deploy.compilers.upstream import quiet


class Looks(nn.Module):
    """Up, by a text, what is beside each value."""

    def __init__(self, key: Callable[[Tensor], str]) -> None:
        super().__init__()
        self.key = key

    def forward(self, x: Tensor) -> Tensor:
        known = {"7": 70.0, "007": 70.0, "True": 70.0, "[7]": 70.0}
        return x + known.get(self.key(x), 0.0)


def _index(x: Tensor) -> int:
    return min(int(x.max() / 1e5), 7)


@pytest.mark.parametrize(
    "key",
    [
        lambda x: f"{_index(x)}",
        lambda x: str(_index(x)),
        lambda x: f"{_index(x):03d}",
        lambda x: str([_index(x)]),
        lambda x: str(x.max().item() > 7e5),
    ],
    ids=["f", "str", "format", "list", "truth"],
)
def test_what_no_sample_takes_is_refused(key: Callable[[Tensor], str]) -> None:
    source = deploy.source_of("m", Looks(key), {"x": torch.randn(3, 4)}, {"x": {0: "rows"}})
    with quiet():
        run: Any = with_values(source).program.module()
    x = torch.full((2, 4), 3.0)
    torch.testing.assert_close(run(x)[0], x)
    with pytest.raises(RuntimeError, match="another way through forward"):
        run(torch.full((2, 4), 8e5))


def test_a_text_for_people_asks_nothing() -> None:
    class Tells(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            most = x.max().item()
            logging.debug("%s of %s", most, [most > 1])
            logging.debug(f"{most}")
            return x * 2

    source = deploy.source_of("m", Tells(), {"x": torch.randn(3, 4)}, {"x": {0: "rows"}})
    with quiet():
        run: Any = with_values(source).program.module()
    torch.testing.assert_close(run(torch.full((2, 4), 9.0))[0], torch.full((2, 4), 18.0))
