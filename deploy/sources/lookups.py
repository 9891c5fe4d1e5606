"""Which integer inputs a module looks up in a table, and how long the table is.

Nothing else says which tokens are valid: the module is run under a dispatch mode that sees every
``embedding``, ``gather`` and ``x[index]``, and knows the inputs through casts and views.
"""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from edgeport.runtimes import Signature, TensorSpec
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.sizes import size_at

from .drawing import Table, Values, measured
from .flat import Flat
from .running import call
from .samples import inputs_at, other_sizes, sizes_of, usual_sizes

_ATEN: Final = torch.ops.aten

_SAME_VALUES: Final = {
    _ATEN._to_copy, _ATEN._unsafe_view, _ATEN.alias, _ATEN.cat, _ATEN.clamp, _ATEN.clone,
    _ATEN.detach, _ATEN.expand, _ATEN.flip, _ATEN.index, _ATEN.masked_fill, _ATEN.permute,
    _ATEN.repeat, _ATEN.select, _ATEN.slice, _ATEN.split, _ATEN.squeeze, _ATEN.stack, _ATEN.t,
    _ATEN.transpose, _ATEN.unbind, _ATEN.unsqueeze, _ATEN.view,
}  # fmt: skip
"""Operators whose result holds what their first argument holds, if that is a valid index.

Or one of its parts: loops are added to the edges of a graph by ``cat``.
"""

_BAGS: Final = {_ATEN._embedding_bag, _ATEN._embedding_bag_forward_only}
"""Operators of a table, indices, and where each bag of them begins."""

_TURNS: Final = 3
"""How often ``ids % n`` goes round beyond the first time: what is beyond is valid too."""

_ALONG: Final = {
    _ATEN.gather, _ATEN.index_add, _ATEN.index_add_, _ATEN.index_copy, _ATEN.index_copy_,
    _ATEN.index_fill, _ATEN.index_fill_, _ATEN.index_select, _ATEN.scatter, _ATEN.scatter_,
    _ATEN.scatter_add, _ATEN.scatter_add_, _ATEN.scatter_reduce, _ATEN.scatter_reduce_,
}  # fmt: skip
"""Operators of a table, an axis and an index; ``one_hot`` is a scatter."""


def with_tables(flat: Flat, declared: Signature, values: Values) -> Values:
    """Values that know how long the tables are that integers are looked up in.

    The module is run at two sizes: a table may be as long as a free dimension. Real integers are
    valid as they are, and only to be known where such a dimension is cut.
    """
    if not any(spec.dtype.startswith(("int", "uint")) for spec in declared.inputs):
        return values
    if values.real:
        runs = [values.real[0], values.real[-1]]
    else:
        ways = (usual_sizes(declared), other_sizes(declared))
        runs = [inputs_at(declared, sizes, values, 0) for sizes in ways]
    sizes = [sizes_of(declared, inputs) for inputs in runs]
    seen = [_watched(flat, inputs) for inputs in runs]
    one, other = (watch.valid for watch in seen)
    lengths = (*declared.dimensions, *declared.sums)
    tables: dict[str, Table] = {}
    firsts: dict[str, int] = {}
    for spec in declared.inputs:
        if spec.name not in one or spec.name not in other:
            continue
        (first, stop), second = one[spec.name], other[spec.name]
        both = (stop, second[1])
        follows = [size for size in lengths if both == _at(size, sizes)]
        if (
            first != second[0]
            or max(first, 0) >= min(both)
            or _is_length(declared, spec, first, stop)
        ):
            continue
        if follows and not first and (values.real or both[0] != both[1]):
            tables[spec.name] = follows[0]
        elif both[0] == both[1] and not values.real:
            tables[spec.name] = stop
        if first > 0 and spec.name in tables:
            firsts[spec.name] = first
    offsets = {
        name: size
        for name, bags in seen[0].bags.items()
        for size in lengths
        if (bags, seen[1].bags.get(name)) == _at(size, sizes)
    }
    found = replace(
        values,
        tables={**values.tables, **tables, **offsets},
        firsts=firsts,
        offsets=frozenset(offsets),
    )
    if values.real or {*found.tables} <= {*values.tables}:
        return found
    return with_tables(flat, declared, found)  # which may get further, to the next lookup


def _at(size: str, sizes: Sequence[Mapping[str, int]]) -> tuple[int, int]:
    """How long an axis is in both runs."""
    one, other = (size_at(size, each) for each in sizes)
    return one, other


def _is_length(declared: Signature, spec: TensorSpec, first: int, stop: int) -> bool:
    """Whether ``x[length - 1]`` is what is looked up."""
    return first == 1 and stop - 1 == measured(declared, spec)


def _watched(flat: Flat, inputs: Mapping[str, Array]) -> "_Watch":
    """What is done with each integer input in one run.

    If the module fails, there is what it looked up before.
    """
    tensors = {name: torch.tensor(array) for name, array in inputs.items()}
    watch = _Watch({name: tensor for name, tensor in tensors.items() if _is_index(tensor)})
    with (
        contextlib.suppress(Exception, SystemExit),  # the user's module may raise anything
        contextlib.redirect_stdout(io.StringIO()),
        watch,
    ):
        call(flat, list(tensors.values()))
    return watch


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Knows the inputs again, and sees what they index.

    Attributes:
        valid: What each input may be: from the first to before the second.
        bags: Inputs that say where bags begin, and how many indices there are.
    """

    def __init__(self, inputs: Mapping[str, torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.valid: dict[str, tuple[int, int]] = {}
        self.bags: dict[str, int] = {}
        self._known = {id(tensor): (name, 0, 0) for name, tensor in inputs.items()}
        self._kept = list(inputs.values())  # so that no other tensor gets the same id

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        packet = getattr(func, "overloadpacket", None)
        for table, axis, index in _lookups(packet, args):
            if id(index) in self._known:
                name, least, most = self._known[id(index)]
                first, stop = self.valid.get(name, (-least, table.shape[axis] - most))
                self.valid[name] = (max(first, -least), min(stop, table.shape[axis] - most))
        if packet in _BAGS and id(args[2]) in self._known:
            self.bags[self._known[id(args[2])][0]] = args[1].shape[0]
        result = func(*args, **(kwargs or {}))
        schema: Any = getattr(func, "_schema", None)
        if args and schema is not None and schema.is_mutable:
            self._known.pop(id(args[0]), None)  # what it holds now is not known
        known = self._after(packet, args, kwargs)
        if known is not None:
            for tensor in result if isinstance(result, list | tuple) else [result]:
                self._known[id(tensor)] = known
                self._kept.append(tensor)
        return result

    def _after(
        self, packet: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None
    ) -> tuple[str, int, int] | None:
        """The input that a result is, and the least and the most that was added to it."""
        first = args[0] if args else ()
        parts = first if isinstance(first, list | tuple) else [first]
        among = [self._known[id(part)] for part in parts if id(part) in self._known]
        known = among[0] if len(among) == 1 else None
        if known is not None and packet is _ATEN.remainder and type(args[1]) is int:
            return known[0], known[1], known[2] - _TURNS * args[1]
        if packet in _SAME_VALUES:
            return known
        if packet not in (_ATEN.add, _ATEN.sub) or kwargs:
            return None
        added = args[1]
        if known is None and packet is _ATEN.add:
            known, added = self._known.get(id(args[1])), args[0]
        if known is None or id(added) in self._known:
            return None
        name, least, most = known
        low, high = _ends(added)
        return (
            (name, least + low, most + high)
            if packet is _ATEN.add
            else (name, least - high, most - low)
        )


def _is_index(tensor: torch.Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.dtype == torch.bool)


def _ends(added: torch.Tensor | float) -> tuple[int, int]:
    """The least and the most of what is added to an index."""
    whole = torch.as_tensor(added)
    return (int(whole.min()), int(whole.max())) if whole.numel() else (0, 0)


def _lookups(packet: Any, args: Sequence[Any]) -> Iterator[tuple[torch.Tensor, int, Any]]:
    """The table, its axis and the index of each lookup that an operator makes."""
    if packet is _ATEN.embedding or packet in _BAGS:
        yield args[0], 0, args[1]
    elif packet in _ALONG:
        if args[0].dim():
            yield args[0], args[1], args[2]
    elif packet in (_ATEN.index, _ATEN._unsafe_index, _ATEN.index_put, _ATEN.index_put_):
        for axis, index in enumerate(args[1]):
            yield args[0], axis, index
