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

from edgeport.runtimes import Signature
from edgeport.runtimes.inputs import Array

from .drawing import Table, Values
from .flat import Flat
from .samples import inputs_at, other_sizes, sizes_of, usual_sizes

_ATEN: Final = torch.ops.aten

_SAME_VALUES: Final = {
    _ATEN._to_copy, _ATEN._unsafe_view, _ATEN.alias, _ATEN.clone, _ATEN.detach, _ATEN.expand,
    _ATEN.permute, _ATEN.repeat, _ATEN.select, _ATEN.slice, _ATEN.split, _ATEN.squeeze, _ATEN.t,
    _ATEN.transpose, _ATEN.unbind, _ATEN.unsqueeze, _ATEN.view,
}  # fmt: skip
"""Operators whose result holds what their first argument holds."""

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
    first, second = (_rows_looked_up(flat, inputs) for inputs in runs)
    tables: dict[str, Table] = {}
    for name in {*first} & {*second}:
        rows = (first[name], second[name])
        follows = [size for size in declared.dimensions if rows == (sizes[0][size], sizes[1][size])]
        if follows and (values.real or rows[0] != rows[1]):
            tables[name] = follows[0]
        elif rows[0] == rows[1] and not values.real:
            tables[name] = rows[0]
    return replace(values, tables=tables)


def _rows_looked_up(flat: Flat, inputs: Mapping[str, Array]) -> dict[str, int]:
    """The length of the shortest table of each integer input, in one run.

    If the module fails, there is what it looked up before.
    """
    tensors = {name: torch.tensor(array) for name, array in inputs.items()}
    watch = _Watch({name: tensor for name, tensor in tensors.items() if _is_index(tensor)})
    with (
        contextlib.suppress(Exception, SystemExit),  # the user's module may raise anything
        contextlib.redirect_stdout(io.StringIO()),
        torch.no_grad(),
        torch.compiler.set_stance("force_eager"),
        watch,
    ):
        flat.nested(list(tensors.values()))
    return watch.rows


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Knows the inputs again, and sees what they index."""

    def __init__(self, inputs: Mapping[str, torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: dict[str, int] = {}
        self._names = {id(tensor): name for name, tensor in inputs.items()}
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
            name = self._names.get(id(index))
            if name is not None:
                rows = table.shape[axis]
                self.rows[name] = min(rows, self.rows.get(name, rows))
        result = func(*args, **(kwargs or {}))
        name = self._names.get(id(args[0])) if args and packet in _SAME_VALUES else None
        if name is not None:
            for tensor in result if isinstance(result, list | tuple) else [result]:
                self._names[id(tensor)] = name
                self._kept.append(tensor)
        return result


def _is_index(tensor: torch.Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.dtype == torch.bool)


def _lookups(packet: Any, args: Sequence[Any]) -> Iterator[tuple[torch.Tensor, int, Any]]:
    """The table, its axis and the index of each lookup that an operator makes."""
    if packet in (_ATEN.embedding, _ATEN._embedding_bag, _ATEN._embedding_bag_forward_only):
        yield args[0], 0, args[1]
    elif packet in _ALONG:
        if args[0].dim():
            yield args[0], args[1], args[2]
    elif packet in (_ATEN.index, _ATEN._unsafe_index, _ATEN.index_put, _ATEN.index_put_):
        for axis, index in enumerate(args[1]):
            yield args[0], axis, index
