"""Where torch's fused attention, which no file has, answers otherwise than the documented one.

In eval mode and without gradients ``nn.TransformerEncoder`` drops what its mask hides, where every
row of the batch is hidden from some place on, and gives 0 there (``enable_nested_tensor``);
``torch.export`` and ``torch.compile`` take the documented path. What is proved is that one: here
the other is asked as well.
"""

import contextlib
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from torch import nn

from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.running import run_module
from edgeport.runtimes import SourceError
from edgeport.runtimes.inputs import Array

_APART: Final = 1e-3
"""Of the largest number: float32 rounds at 1e-6."""

NOTE: Final = (
    "where a mask hides the ends of rows, eager torch gives 0 in place of what the files compute "
    "at hidden places (enable_nested_tensor of nn.TransformerEncoder)"
)


def check_fused(flat: Flat, inputs: Mapping[str, Array]) -> str | None:
    """Ask both paths where the ends of rows are padded.

    Args:
        flat: The module.
        inputs: Of a sample. Words and masks are padded in several ways, and lengths shortened.

    Returns:
        A note where they differ at hidden places alone.

    Raises:
        SourceError: They differ elsewhere.
    """
    encoders = [part for part in flat.module.modules() if isinstance(part, nn.TransformerEncoder)]
    differs = False
    for padded in _padded(flat.module, inputs) if encoders else ():
        hidden: list[Array] = []
        try:
            with _masks_of(encoders, hidden):
                documented = run_module(flat, padded)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The PyTorch API of nested tensors")
                fused = run_module(flat, padded, fused=True)
        except Exception:  # the user's module may raise anything
            continue
        for apart in map(_apart, documented, fused):
            if apart.any() and not any(_is_within(apart, mask) for mask in hidden):
                raise SourceError(
                    "where a mask hides the ends of rows, eager torch answers otherwise than any "
                    "file: nn.TransformerEncoder gives 0 at hidden places, and the result hangs "
                    "on them",
                    remedy="make it with enable_nested_tensor=False, and eager computes what files "
                    "and torch.compile do; or leave hidden places out of the result",
                )
            differs = differs or bool(apart.any())
    return NOTE if differs else None


def _padded(module: nn.Module, inputs: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """The same inputs, the end of each row filled up as those do who pad, in several ways."""
    lengths = {name: a for name, a in inputs.items() if a.dtype.kind in "iu" and a.ndim == 1}
    for less in (0, 1) if lengths else ():
        yield {**inputs, **{name: _shortened(array, less) for name, array in lengths.items()}}
    numbers = [part.padding_idx for part in module.modules() if isinstance(part, nn.Embedding)]
    flags = {name: a for name, a in inputs.items() if a.dtype.kind in "iubf" and a.ndim == 2}
    ways = itertools.product(dict.fromkeys([*filter(None, numbers), 0, 1]), (True, False))
    for number, hides in ways if flags else ():
        yield {
            **inputs,
            **{
                name: _filled_up(array, _filling(array, number, hides=hides))
                for name, array in flags.items()
            },
        }


def _shortened(lengths: Array, less: int) -> Array:
    """What may be the lengths of rows, each by one more than the one before."""
    shortened: Array = np.maximum(1, lengths - np.arange(len(lengths)) - less)
    return shortened.astype(lengths.dtype)


def _filling(array: Array, number: int, *, hides: bool) -> float:
    """What hides a place: of floats 0 where what is kept has 1, and minus infinity to be added."""
    if array.dtype.kind == "f":
        return 0 if (array > 0).any() else -np.inf
    return hides if array.dtype.kind == "b" else number


def _filled_up(array: Array, value: float) -> Array:
    """Each row keeps its first place at least, and is padded at its last, some more than others.

    Nowhere else: what is kept there has another value.
    """
    rows, places = array.shape
    others = array[array != value]
    other = others[0] if others.size else not value
    lengths = np.maximum(1, places - 1 - np.arange(rows) % max(1, places - 1))
    kept = np.arange(places) < lengths[:, None]
    whole = np.where(array == value, other, array)
    filled: Array = np.where(kept, whole, value).astype(array.dtype)
    return filled


@contextlib.contextmanager
def _masks_of(encoders: Sequence[nn.Module], hidden: list[Array]) -> Iterator[None]:
    """Keep what masks hide, (batch, places), from each call of some layers."""

    def see(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("src_key_padding_mask", args[2] if len(args) > 2 else None)
        if mask is not None:
            hidden.append((mask != 0).numpy())

    with contextlib.ExitStack() as stack:
        for layer in encoders:
            stack.callback(layer.register_forward_pre_hook(see, with_kwargs=True).remove)
        yield


def _apart(documented: Array, fused: Array) -> Array:
    """Where two answers differ by more than rounding. NaN, as where all is hidden, counts not."""
    if documented.shape != fused.shape:
        return np.array(True)
    if documented.dtype.kind != "f":
        different: Array = documented != fused
        return different
    wide, other = documented.astype(np.float64), fused.astype(np.float64)
    largest = np.abs(wide[np.isfinite(wide)]).max(initial=0)
    with np.errstate(invalid="ignore"):  # infinities of both
        apart: Array = np.abs(wide - other) > _APART * largest
    return apart


def _is_within(apart: Array, mask: Array) -> bool:
    """Whether it is where the mask hides alone, whichever axes are the rows and their places."""
    axes = itertools.permutations(range(apart.ndim), 2)
    views = [np.moveaxis(apart, pair, (0, 1)) for pair in axes]
    if apart.shape[:1] == (mask.size,):
        views.append(apart.reshape(*mask.shape, -1))
    return any(each.shape[:2] == mask.shape and not each[~mask].any() for each in views)
