"""What every module that takes raw text has: its words, and how it is made again from a run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Self

import torch
from torch import nn

from edgeport.runtimes.text import SHORTEST

from .layout import Layout
from .lookup import Array, Tables
from .vectorizer import Terms

_DTYPES = {"int32": torch.int32, "int64": torch.int64, "float32": torch.float32}


class FromText(nn.Module):
    """A module of one input, ``text``: (batch, characters) int32 code points, -1 after the end.

    Args:
        layout: Of the vectorizer that finds the terms.
        tables: Of the vectorizer, and whatever a subclass adds.
        labels: The names of the classes, in the order of the logits; empty for none.
    """

    __jit_unused_properties__: ClassVar = ["alike", "free_axes", "least_sizes"]

    def __init__(self, layout: Layout, tables: Tables, labels: Sequence[str]) -> None:
        super().__init__()
        self.terms = Terms(layout, tables)
        made_of = {
            "layout": asdict(layout),
            "tables": {
                name: [str(table.dtype).removeprefix("torch."), *table.shape]
                for name, table in tables.items()
            },
            "labels": list(labels),
        }
        self.made_of = json.dumps(made_of)  # TorchScript holds no such dict

    @property
    def free_axes(self) -> dict[str, dict[int, str]]:
        """Axes besides the first that are free."""
        return {"text": {1: "characters"}}

    @property
    def least_sizes(self) -> dict[str, int]:
        """The smallest size of each free axis."""
        return {"characters": SHORTEST}

    @property
    def alike(self) -> dict[str, Array]:
        """By input: code points that make no difference, for ``onnx-strings``."""
        return {"text": self.terms.alike}

    @classmethod
    def empty(
        cls,
        layout: Mapping[str, Any],
        tables: Mapping[str, Sequence[Any]],
        labels: Sequence[str],
    ) -> Self:
        """Make the module of a run before its weights are read."""
        blank = {
            name: torch.empty(sizes, dtype=_DTYPES[dtype])
            for name, (dtype, *sizes) in tables.items()
        }
        return cls(Layout(**layout), blank, labels)


def hyperparameters(module: FromText) -> dict[str, Any]:
    """What ``empty`` makes the same module of, as plain JSON."""
    found: dict[str, Any] = json.loads(module.made_of)
    return found
