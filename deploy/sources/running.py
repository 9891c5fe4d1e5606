"""Run the user's module on numpy arrays, and say what was wrong if it fails."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

import torch

from edgeport.deploy.diagnosis.places import Map, frames_of
from edgeport.deploy.kinds import kind_of
from edgeport.runtimes import SourceError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.structure import Node

from . import trees
from .arguments import misfit_of
from .flat import Flat
from .raised import raised


def run_module(flat: Flat, inputs: Mapping[str, Array], *, fused: bool = False) -> list[Array]:
    """Run a module once, on copies of the inputs.

    Args:
        flat: The module.
        inputs: By name, in its order.
        fused: Let attention take kernels that no file has, as eager torch does.

    Raises:
        SourceError: An output is not a tensor that numpy can hold.
    """
    return run_on(flat, as_tensors(inputs), fused=fused)


def as_tensors(inputs: Mapping[str, Array]) -> list[torch.Tensor]:
    """Tensors of their own, which a module may write into."""
    return [torch.tensor(array) for array in inputs.values()]


def run_on(flat: Flat, tensors: Sequence[torch.Tensor], *, fused: bool = False) -> list[Array]:
    """As ``run_module``, on tensors that are its own.

    Raises:
        SourceError: An output is not a tensor that numpy can hold.
    """
    return [_to_numpy(tensor) for tensor in trees.tensors(call(flat, tensors, fused=fused))]


def call(flat: Flat, tensors: Sequence[torch.Tensor], *, fused: bool = False) -> Any:
    """What the user's module returns, eagerly and without gradients.

    Raises:
        Exception: Whatever it raises.
    """
    attention = contextlib.nullcontext() if fused else documented_attention()
    with attention, torch.no_grad(), torch.compiler.set_stance("force_eager"):
        return flat.nested(tensors)


def documented_attention() -> contextlib.AbstractContextManager[object]:
    """Attention as torch's compilers see it.

    The fused kernel answers NaN, and not 0, where a row is hidden whole, and an encoder gives 0 at
    hidden places: ``proof.fused_attention`` looks at that.
    """
    return mock.patch.object(torch.backends.mha, "_is_fastpath_enabled", False)


_SPARSE: Final = (
    *(torch.sparse_coo, torch.sparse_csr, torch.sparse_csc),
    *(torch.sparse_bsr, torch.sparse_bsc),
)


def _to_numpy(tensor: torch.Tensor) -> Array:
    """A copy: an output may be a buffer that the next call writes into, or resizes."""
    if tensor.is_complex():
        raise SourceError(
            f"an output is {str(tensor.dtype).removeprefix('torch.')}, which engines cannot pass",
            remedy="return torch.view_as_real(output), or its magnitude",
        )
    if tensor.is_nested or tensor.layout in _SPARSE:
        kind, dense = ("nested", "torch.nested.to_padded_tensor(output, 0.0)")
        if not tensor.is_nested:
            kind, dense = ("sparse", "output.to_dense()")
        raise SourceError(
            f"an output is a {kind} tensor, which engines cannot pass", remedy=f"return {dense}"
        )
    tensor = tensor.detach().cpu().to_dense()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    try:
        return tensor.clone(memory_format=torch.contiguous_format).numpy()
    except TypeError as e:  # quantised, float8
        raise SourceError(
            f"an output is {tensor.dtype}, which numpy cannot hold",
            remedy="convert it in forward: output.float()",
        ) from e


@dataclass(frozen=True, slots=True)
class Result:
    """What a module returned, and its tensors by name and as numpy has them."""

    tree: object
    names: list[str]
    arrays: list[Array]

    def structure(self, names: Sequence[str]) -> Node:
        """What was returned, with names in the places of tensors."""
        return trees.structure(self.tree, iter(names))


def run_or_explain(flat: Flat, inputs: Mapping[str, Array], sizes: Mapping[str, int]) -> Result:
    """Run a module once.

    Args:
        flat: The module.
        inputs: Copied.
        sizes: Of the free dimensions, for the remedy.

    Raises:
        SourceError: The module fails, with its layer and the user's line, or an output is no
            tensor that numpy can hold.
    """
    try:
        result = call(flat, as_tensors(inputs))
    except (Exception, SystemExit) as e:  # the user's module may raise anything
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
        raise SourceError(
            f"{kind_of(flat.module)} fails on {shapes}: {_what(flat, e)}",
            remedy=_remedy(flat, e, sizes),
        ) from e
    _check_tensors(result)
    found = list(_named_outputs(result))
    names = _distinct([name for name, _ in found])
    arrays = [_to_numpy(tensor) for _, tensor in found]
    return Result(result, names, arrays)


def _what(flat: Flat, error: BaseException) -> str:
    """What was raised, and on lines of their own the layer and the user's line that raised it."""
    if misfit := _misfit(flat, error):
        return misfit
    place = Map(flat).in_frames(frames_of(error))
    found = {"layer": place.layer, "source": place.line}
    places = "".join(f"\n  {name:<10}{value}" for name, value in found.items() if value)
    return f"{raised(error)}{places}"


def _remedy(flat: Flat, error: BaseException, sizes: Mapping[str, int]) -> str:
    if _misfit(flat, error):
        return (
            "declare an input for each parameter that has no default; parts of one go by their "
            "path: --input batch.ids=int64[8], {'batch': {'ids': tensor}}"
        )
    if re.search("cuda|nvidia", str(error), re.IGNORECASE):
        return (
            "the module is run and compiled on the CPU: make new tensors with device=x.device, in "
            "place of .cuda() or device='cuda'"
        )
    if "does not require grad" in str(error):
        return (
            "call requires_grad_() on what the derivative is by, before anything is computed of it"
        )
    return range_remedy(sizes)


def _misfit(flat: Flat, error: BaseException) -> str | None:
    return misfit_of(flat.module, flat.call) if isinstance(error, TypeError) else None


def range_remedy(sizes: Mapping[str, int]) -> str:
    """What to do about a module that rejects declared sizes, or drawn values."""
    values = "samples say which values are valid"
    if not sizes:
        return f"check the declared inputs: name, dtype and size of each; {values}"
    *others, last = sizes
    name = "NAME" if others else last
    of = f" of {', '.join(others)} and {last}" if others else ""
    allowed = (
        f"a range says which sizes{of} are allowed: {name}:MIN..MAX, or {name}:MIN..MAX:STEP for "
        "the multiples of STEP"
    )
    return f"check the declared inputs: name, dtype and size of each; {allowed}; {values}"


def _named_outputs(result: object) -> Iterator[tuple[str, torch.Tensor]]:
    """``output``; ``output_0``, ``output_1``; a mapping's keys and an object's fields alone."""
    by_name = isinstance(result, Mapping) or trees.is_object(result)
    return trees.named_tensors(result, "" if by_name else "output")


def _check_tensors(result: object) -> None:
    strange = next(trees.others(result), None)
    if strange is not None:
        kind = type(strange).__name__
        without = "leave it out (use_cache=False; --argument use_cache=false), or "
        raise SourceError(
            f"an output is of type {kind}, not a tensor",
            remedy=without * kind.endswith("Cache")
            + "return tensors, or tuples, lists, dicts or dataclasses of them",
        )
    if next(trees.tensors(result), None) is None:
        raise SourceError("the module returns no tensor", remedy="return at least one")


def _distinct(names: Sequence[str]) -> list[str]:
    """Number what is there twice: ``{"a_b": x, "a": {"b": y}}``."""
    return [
        f"{name}_{names[:index].count(name) + 1}" if name in names[:index] else name
        for index, name in enumerate(names)
    ]
