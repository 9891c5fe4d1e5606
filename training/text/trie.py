"""n-grams as a walk down a trie, all places of a text at once; every step is exact."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from .lookup import Lookup, Tables, build, named, part


class Step(nn.Module):
    """One step down a trie: from n-grams to those that are one longer."""

    columns: Tensor

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        self.register_buffer("columns", tables["columns"])
        self.below = Lookup(part(tables, "below."))

    def forward(self, state: Tensor, following: Tensor, fan: int) -> tuple[Tensor, Tensor]:
        """Go on.

        Args:
            state: (batch, n) int64, -1 for none.
            following: (batch, n) int64, what comes next, below ``fan``; -1 for nothing known.
            fan: Children that a state may have.

        Returns:
            state, column: (batch, n) int64, -1 for none.
        """
        there = (state >= 0) & (following >= 0)
        state = self.below(torch.where(there, state * fan + following + 1, 0))
        column = self.columns.index_select(0, (state + 1).reshape(-1)).reshape(state.shape)
        return state, column


def build_steps(
    grams: Mapping[tuple[int, ...], int],
    roots: Mapping[tuple[int, ...], int],
    longest: int,
    fan: int,
) -> dict[str, Tensor]:
    """The trie below its first level.

    Args:
        grams: Sequence of symbols to column.
        roots: States of the first level.
        longest: Of the n-grams.
        fan: Children that a state may have.
    """
    tables: dict[str, Tensor] = {}
    states = dict(roots)
    for size in range(2, longest + 1):
        longer = sorted({gram[:size] for gram in grams if len(gram) >= size})
        keys = [states[gram[:-1]] * fan + gram[-1] + 1 for gram in longer]
        states = {gram: index for index, gram in enumerate(longer)}
        columns = [grams.get(gram, -1) for gram in longer]
        step = {
            "columns": torch.tensor([-1, *columns], dtype=torch.int64),
            **named("below.", build(np.array(keys, np.int64), np.arange(len(keys)))),
        }
        tables.update(named(f"steps.{size - 2}.", step))
    return tables
