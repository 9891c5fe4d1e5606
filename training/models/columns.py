"""Raw columns to features, inside the artefact: scaling of numbers, encoding of categories."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from edgeport.runtimes.errors import SourceError
from edgeport.training.data import Labelled, code_points


class Columns(nn.Module):
    """Standardised numbers, then one feature per category.

    A category is compared by its code points, exactly, so that text goes in and no engine needs
    strings. One that was not seen in training sets none of its features.

    Args:
        names: Of all columns, in order.
        categories: Column of text -> its categories.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, names: Sequence[str], categories: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.names = list(names)
        self.categories = {name: list(found) for name, found in categories.items()}
        self.numbers = [name for name in self.names if name not in self.categories]
        self.register_buffer("mean", torch.zeros(len(self.numbers)))
        self.register_buffer("scale", torch.ones(len(self.numbers)))
        for index, (name, found) in enumerate(self.categories.items()):
            if name not in self.names or not found:
                raise ValueError(f"categories of {name!r}, which is no column or has none")
            longest = max(map(len, found))
            codes = torch.from_numpy(code_points(found, longest + 1))  # a -1 ends every category
            self.register_buffer(f"codes_{index}", codes, persistent=False)

    @classmethod
    def of(cls, examples: Labelled) -> "Columns":
        """Columns for these examples: text is int32, numbers are the rest.

        Raises:
            SourceError: A column of numbers is constant in them.
        """
        categories = {
            name: sorted({"".join(map(chr, row[row >= 0])) for row in array})
            for name, array in examples.inputs.items()
            if array.ndim == 2
        }
        columns = cls(list(examples.inputs), categories)
        for index, name in enumerate(columns.numbers):
            values = torch.tensor(examples.inputs[name]).double()
            deviation = float(values.std(correction=0))
            if deviation == 0:
                raise SourceError(
                    f"{name!r} is {values[0]:g} in every training example",
                    remedy=f"leave it out: --drop {name!r}",
                )
            columns.mean[index] = values.mean()
            columns.scale[index] = deviation
        return columns

    @property
    def features(self) -> list[str]:
        """Names of the features, in order: ``age``, ``sex=female``."""
        encoded = [f"{name}={c}" for name, found in self.categories.items() for c in found]
        return [*self.numbers, *encoded]

    @property
    def free_axes(self) -> dict[str, dict[int, str]]:
        """Text may be of any length."""
        return {name: {1: "characters"} for name in self.categories}

    def forward(self, **columns: Tensor) -> Tensor:
        """Encode.

        Args:
            columns: Numbers: (batch,) float32; text: (batch, characters) int32, code points, -1
                after the end.

        Returns:
            (batch, features) float32.
        """
        parts = []
        if self.numbers:
            raw = torch.stack([columns[name] for name in self.numbers], 1)
            parts.append((raw - self.mean) / self.scale)
        for index, name in enumerate(self.categories):
            codes = self.get_buffer(f"codes_{index}")
            parts.append(_one_hot(columns[name], codes, self.mean.dtype))
        return torch.cat(parts, 1)


def _one_hot(text: Tensor, codes: Tensor, dtype: torch.dtype) -> Tensor:
    # (B, L), (C, W) -> (B, W) -> (B, C, W) -> (B, C)
    width = codes.shape[1]
    padded = torch.cat([text, torch.full_like(codes[:1], -1).expand(text.shape[0], -1)], 1)
    return (padded[:, None, :width] == codes[None]).all(-1).to(dtype)
