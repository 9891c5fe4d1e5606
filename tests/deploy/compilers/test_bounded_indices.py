"""Indices that are beyond their table, in programs of which native code is made."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.bounded_indices import bound
from edgeport.runtimes import ValuesError
from edgeport.runtimes.run_failures import INDEX

NAMES = ("a", "b", "c", "d", "e", "f")


class Lookups(nn.Module):
    """Each integer input is an index in another way; the first table is as long as a free size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Parameter(torch.randn(7, 4))
        self.words = nn.Embedding(7, 4)

    def forward(
        self, x: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor
    ) -> Tensor:
        found: Tensor = (
            x.gather(1, a[:, None])[:, 0] + self.table[b].sum(-1) + self.words(c).sum(-1)
        )
        found = found + self.table.index_select(0, d).sum(-1)
        spread = torch.zeros_like(x).scatter_add(1, e[:, None], x[:, :1])
        added = torch.zeros(9).index_add(0, f, x[:, 0])
        last = x[:, torch.arange(2)].sum(-1)  # hangs on no input
        weights = torch.arange(1, 10, dtype=torch.float32)
        return found + (spread.cumsum(1)).sum(-1) + (added * weights).sum() + last


def given(**changed: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    indices = {name: torch.tensor([1, changed.get(name, 2), 3]) for name in NAMES}
    return {"x": torch.randn(3, 9), **indices}


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    batch, width = (torch.export.Dim(name, min=2, max=64) for name in ("batch", "width"))
    free: dict[str, Any] = {"x": {0: batch, 1: width}, **{name: {0: batch} for name in NAMES}}
    made = torch.export.export(Lookups(), (), given(), dynamic_shapes=free)
    bound(made)
    return made


def test_indices_in_their_tables_are_answered_as_before(
    program: torch.export.ExportedProgram,
) -> None:
    for inputs in (given(), given(b=-7), given(b=6, a=8, c=0)):
        assert torch.equal(program.module()(**inputs), Lookups()(**inputs))


@pytest.mark.parametrize(
    ("name", "index"),
    [*((name, -1) for name in "acdef"), *((name, 9) for name in NAMES), ("b", -8)],
)
def test_others_are_refused(program: torch.export.ExportedProgram, name: str, index: int) -> None:
    with pytest.raises(RuntimeError, match=INDEX):
        program.module()(**given(**{name: index}))


def test_what_hangs_on_no_input_is_not_asked(program: torch.export.ExportedProgram) -> None:
    nodes = program.graph.find_nodes(op="call_function", target=torch.ops.aten._assert_async.msg)
    assert len(nodes) == len(NAMES)


@pytest.mark.slow
def test_native_code_refuses_them_and_goes_on(tmp_path: Path) -> None:
    """An error within its loops would end this process."""
    example = given()
    free = {name: {0: "batch"} for name in example}
    deploy.export(Lookups(), example, tmp_path / "m.edge", dimensions=free, formats=["aotinductor"])
    with runtimes.open(tmp_path / "m.edge", "aotinductor", threads=2) as session:
        for name in NAMES:
            wrong = {key: tensor.numpy() for key, tensor in given(**{name: 9}).items()}
            with pytest.raises(ValuesError, match="index out of range"):
                session.run(wrong)
        right = session.run({key: tensor.numpy() for key, tensor in example.items()})
    np.testing.assert_allclose(right["output"], Lookups()(**example).detach().numpy(), rtol=1e-5)
