"""Lists of values that are an index again."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.capture.listed import _Listed
from edgeport.deploy.compilers.capture.recorded import with_values
from edgeport.deploy.compilers.upstream import quiet
from edgeport.deploy.diagnosis.diagnose import diagnose


@pytest.mark.parametrize(
    "read",
    [
        len,
        sorted,
        tuple,
        set,
        max,
        lambda rows: rows[1],
        lambda rows: rows + [7],  # noqa: RUF005  # what is tried
        lambda rows: [7] + rows,  # noqa: RUF005
        lambda rows: [*rows],
        lambda rows: rows == [5, 3],
        lambda rows: np.array(rows).tolist(),
        lambda rows: torch.tensor(rows).tolist(),
        lambda rows: 3 in rows,
        lambda rows: [*zip(rows, rows, strict=True)],
        lambda rows: rows.sort() or rows.append(9) or len(rows),
    ],
)
def test_whoever_reads_it_gets_its_numbers(read: Callable[[list[int]], Any]) -> None:
    x = torch.tensor([5, 3])
    late = _Listed(x, x.tolist)
    assert late.tensor is x
    assert read(late) == read([5, 3])
    assert late.tensor is None


def test_whether_there_is_something_is_asked_of_its_length() -> None:
    x = torch.tensor([5, 3])
    late = _Listed(x, x.tolist)
    assert late
    assert late.tensor is x
    assert not _Listed(x[:0], list)


def test_what_torch_reads_of_it_is_no_size() -> None:
    x = torch.tensor([5, 3])
    sizes: Any = _Listed(x, x.tolist)
    with pytest.raises(TypeError, match="must be tuple of ints, but found element of type object"):
        torch.split_with_sizes(torch.zeros(8), sizes)


class Writes(nn.Module):
    """An index, in and out; a list that torch itself reads is as before."""

    def forward(self, x: Tensor) -> Tensor:
        rows = (x[:, 0] > 0).nonzero()[:, 0].tolist()
        y = x.clone()
        y[rows] = x[rows, 1:2] * 2
        sizes = torch.bincount((x[:, 0] > 0).long(), minlength=2).tolist()
        negative, positive = torch.split(x[x[:, 0].argsort()], sizes)
        return y + negative.sum(0) - positive.sum(0)


def test_it_is_an_index_wherever_one_is() -> None:
    module = Writes().eval()
    source = deploy.source_of("m", module, {"x": torch.randn(5, 4)}, {"x": {0: "rows"}})
    with quiet():
        run: Any = with_values(source).program.module()
    for rows in (2, 9):
        x = torch.randn(rows, 4)
        torch.testing.assert_close(run(x)[0], module(x))


class Best(nn.Module):
    """Numbers of values in a list, which torch reads while it records nothing."""

    def __init__(self, *, in_rows: bool) -> None:
        super().__init__()
        self.in_rows = in_rows

    def forward(self, x: Tensor) -> Tensor:
        best: list[Any] = [x[0].argmax().item(), x[-1].argmax().item(), 0]
        return x[:, [best]] if self.in_rows else x[:, best]


def test_numbers_of_values_are_an_index_together() -> None:
    x = torch.randn(5, 4)
    source = deploy.source_of("m", Best(in_rows=False), {"x": x}, {"x": {0: "rows"}})
    with quiet():
        run: Any = with_values(source).program.module()
    for rows in (2, 9):
        x = torch.randn(rows, 4)
        torch.testing.assert_close(run(x)[0], Best(in_rows=False)(x))


def test_what_torch_reads_further_down_is_told() -> None:
    module = Best(in_rows=True)
    source = deploy.source_of("m", module, {"x": torch.randn(5, 4)}, {"x": {0: "rows"}})
    told = "a list of numbers that are made of values is an index"
    with quiet(), pytest.raises(NotImplementedError, match=told) as raised:
        with_values(source)
    found = diagnose(raised.value, module)
    assert found.problem == told
    assert found.remedy == "index by the tensor itself, without .tolist()"
