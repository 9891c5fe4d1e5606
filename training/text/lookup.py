"""An exact map from integers to integers, in tensor operators: no loop and no sort.

Hash and displace (Pagh, "Hash and displace: efficient evaluation of minimal perfect hash
functions", 1999): a key's bucket says how far to move from the key's own place, so that no two
keys of the map meet. What is read is compared with the key, so that a stranger is told apart.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeport.runtimes.errors import SourceError

Array = NDArray[Any]

Tables = Mapping[str, Tensor]
"""Buffers by name."""

NOTHING: Final = 0
"""The key that is in no map."""

_TRIES: Final = 200
_WINDOW: Final = 256


class Lookup(nn.Module):
    """The map, from the tables that ``build`` made."""

    displacements: Tensor
    keys: Tensor
    values: Tensor

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        for name in ("displacements", "keys", "values"):
            self.register_buffer(name, tables[name])
        self.buckets = len(tables["displacements"])
        self.mask = len(tables["keys"]) - 1
        self.modulus = len(tables["keys"]) + 1

    def forward(self, key: Tensor) -> Tensor:
        """Look keys up.

        Args:
            key: (batch, n) int64, 0 or more; ``NOTHING`` is in no map.

        Returns:
            value: (batch, n) int64, -1 for a key that is not there.
        """
        flat = key.reshape(-1)
        moved = self.displacements.index_select(0, flat % self.buckets)
        place = (flat % self.modulus + moved) & self.mask
        found = self.values.index_select(0, place)
        there = self.keys.index_select(0, place) == flat
        return torch.where(there, found, -1).reshape(key.shape).to(torch.int64)


def build(keys: Array, values: Array) -> dict[str, Tensor]:
    """Make the tables of a map.

    Args:
        keys: (n,) int64, different, 1 or more.
        values: (n,) int64, 0 to 2**31 - 1.

    Raises:
        SourceError: No arrangement was found.
    """
    slots = 4
    while slots < 1.3 * len(keys) + 2:
        slots *= 2
    for attempt in range(_TRIES):
        buckets = len(keys) // 3 + 2 + attempt
        arranged = _arrange(keys, buckets, slots)
        if arranged is not None:
            displacements, owner = arranged
            filled = owner >= 0
            table = np.full((2, slots), NOTHING, np.int64)
            table[:, filled] = np.stack([keys, values])[:, owner[filled]]
            table[1, ~filled] = -1
            return {
                "displacements": torch.tensor(displacements, dtype=torch.int32),
                "keys": torch.tensor(table[0]),
                "values": torch.tensor(table[1], dtype=torch.int32),
            }
    raise SourceError(
        f"no perfect hash was found for {len(keys)} keys in {_TRIES} tries",
        remedy="use a smaller vocabulary: max_features, min_df",
    )


def _arrange(keys: Array, buckets: int, slots: int) -> tuple[Array, Array] | None:
    """Find for each bucket how far its keys move: the largest buckets first."""
    bucket, place = keys % buckets, (keys % (slots + 1)) % slots
    if len(np.unique(bucket * slots + place)) < len(keys):
        return None  # two keys would meet wherever they are moved
    order = np.argsort(bucket, kind="stable")
    starts = np.searchsorted(bucket[order], np.arange(buckets + 1))
    displacements = np.zeros(buckets, np.int64)
    owner = np.full(slots, -1, np.int64)
    window = np.arange(_WINDOW)[:, None]
    for number in np.argsort(-np.diff(starts), kind="stable"):
        members = order[starts[number] : starts[number + 1]]
        if not len(members):
            break
        for first in range(0, slots, _WINDOW):
            targets = (place[members] + first + window) & (slots - 1)
            free = np.flatnonzero((owner[targets] < 0).all(1))
            if len(free):
                displacements[number] = first + free[0]
                owner[targets[free[0]]] = members
                break
        else:
            return None
    return displacements, owner


def named(prefix: str, tables: Tables) -> dict[str, Tensor]:
    """Put a prefix before every name."""
    return {prefix + name: table for name, table in tables.items()}


def part(tables: Tables, prefix: str) -> dict[str, Tensor]:
    """The tables whose names have a prefix, without it."""
    return {n.removeprefix(prefix): t for n, t in tables.items() if n.startswith(prefix)}
