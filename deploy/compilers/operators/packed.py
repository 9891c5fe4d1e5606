"""Packed sequences, padded: how many rows go on at each time is a matter of values otherwise.

Each layer runs over the whole time. Backwards, rows are turned within their lengths; the last state
is that at the end of a row. A gate that is closed behind it keeps the cell of an LSTM, which no
kernel gives at each time.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

_kernels: Any = torch._VF  # has no types
_check: Any = torch._check

_CLOSED: Final = 1e4
"""What is added to a gate: sigmoid is 1 or 0 then, to float32, and float16 holds it."""


class _Stand:
    """What stands for a tensor that is made where somebody looks at it."""

    def tensor(self) -> Tensor:
        """The tensor, as torch has it."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tensor(), name)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, options = pytree.tree_map_only(_Stand, _looked_at, (args, kwargs or {}))
        return func(*args, **options)


def _looked_at(stand: _Stand) -> Tensor:
    return stand.tensor()


def _of_tensor(name: str) -> Callable[..., Any]:
    def looked(stand: _Stand, *others: Any) -> Any:
        others = pytree.tree_map_only(_Stand, _looked_at, others)
        return getattr(stand.tensor(), name)(*others)

    return looked


for _name in (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "matmul", "neg"),
    *("floordiv", "mod", "getitem", "len", "iter", "eq", "ne", "gt", "ge", "lt", "le", "abs"),
):
    setattr(_Stand, f"__{_name}__", _of_tensor(f"__{_name}__"))


class Lengths(_Stand):
    """What stands for ``PackedSequence.batch_sizes``.

    Attributes:
        lengths: Of each row (B,), of int64.
        time: How long what is padded is.
        device: As ``PackedSequence`` asks for it.
    """

    def __init__(self, lengths: Tensor, time: int) -> None:
        self.lengths = lengths
        self.time = time
        self.device = torch.device("cpu")

    def __getitem__(self, time: Any) -> Any:
        """How many rows there are at a time; a layer asks for the first alone."""
        is_first = type(time) is int and time == 0
        return self.lengths.shape[0] if is_first else self.tensor()[time]

    def tensor(self) -> Tensor:
        """How many rows there are at each time."""
        return (~self.behind(self.time)).sum(1)[: self.size(0)]

    def size(self, axis: int) -> Any:
        """The length of the longest row."""
        longest: Any = self.lengths.max().item()
        _check(longest >= 0)
        _check(longest <= self.time)
        return longest

    def behind(self, time: int) -> Tensor:
        """What comes after the last of a row (T, B)."""
        return torch.arange(time, device=self.lengths.device)[:, None] >= self.lengths

    def places(self) -> Tensor:
        """Where what is packed stands in what is padded, both flat: (N,)."""
        return (~self.behind(self.time)).flatten().nonzero().squeeze(1)


class Padded(_Stand):
    """What stands for ``PackedSequence.data``: padded (T, B, ...), packed where it is asked for."""

    def __init__(self, padded: Tensor, lengths: Lengths) -> None:
        self.padded = padded
        self.lengths = lengths
        self.dtype = padded.dtype
        self.device = padded.device

    def tensor(self) -> Tensor:
        """What is packed (N, ...): the first of all rows, the second of those that go on."""
        return self.padded.flatten(0, 1).index_select(0, self.lengths.places())


def _padded(x: Any, lengths: Lengths) -> Tensor:
    """Of what a caller has computed of what is packed, too."""
    if isinstance(x, Padded):
        return x.padded
    rows: Any = lengths.lengths.shape[0]
    flat = x.new_zeros(lengths.time * rows, *x.shape[1:])
    found: Tensor = flat.index_copy(0, lengths.places(), x)
    return found.reshape(lengths.time, rows, *x.shape[1:])


def _pack(x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Padded, Lengths]:
    """As ``_pack_padded_sequence``, but what is padded stays so, by 0."""
    data = x.transpose(0, 1) if batch_first else x
    held = Lengths(lengths, data.shape[0])
    return Padded(_filled(data, held.behind(held.time), 0.0), held), held


def _pad(
    data: Any, lengths: Lengths, batch_first: bool, padding: float, time: Any
) -> tuple[Tensor, Tensor]:
    """As ``_pad_packed_sequence``: as long as the longest row, or as was asked."""
    data = _padded(data, lengths)
    if time is not lengths.time:
        data = data.index_select(0, torch.arange(time).clamp(max=lengths.time - 1))
    data = _filled(data, lengths.behind(data.shape[0]), padding)
    return data.transpose(0, 1) if batch_first else data, lengths.lengths


def _filled(data: Tensor, behind: Tensor, value: float) -> Tensor:
    return data.masked_fill(behind.reshape(*behind.shape, *[1] * (data.dim() - 2)), value)


def _layers(
    own: Callable[..., Any],
    x: Any,
    lengths: Any,
    hx: Any,
    weights: Any,
    *options: Any,
) -> Any:
    """As ``lstm``, ``gru``, ``rnn_tanh`` and ``rnn_relu`` of packed sequences."""
    if not isinstance(lengths, Lengths):
        return own(x, lengths, hx, weights, *options)
    x = _padded(x, lengths)
    has_biases, count, dropout, training, bidirectional = options
    states = [hx] if isinstance(hx, Tensor) else [*hx]
    directions = 2 if bidirectional else 1
    each = len(weights) // (count * directions)
    found: list[list[Tensor]] = []
    behind = lengths.behind(x.shape[0])
    for layer in range(count):
        if layer and dropout:
            x = torch.dropout(x, dropout, training)
        outputs = []
        for direction in range(directions):
            place = layer * directions + direction
            start = [state[place : place + 1] for state in states]
            params = [*weights[place * each : (place + 1) * each]]
            turned = _turned(x, lengths, behind) if direction else x
            output, *last = _layer(own, turned, lengths, behind, start, params, has_biases)
            outputs.append(_turned(output, lengths, behind) if direction else output)
            found.append(last)
        x = _filled(torch.cat(outputs, -1), behind, 0.0)
    return Padded(x, lengths), *(torch.cat(state) for state in zip(*found, strict=True))


def _turned(x: Tensor, lengths: Lengths, behind: Tensor) -> Tensor:
    """Each row from its end to its beginning; what is behind stays."""
    time = torch.arange(x.shape[0], device=x.device)[:, None]
    places = torch.where(behind, time, lengths.lengths - 1 - time)
    return x.gather(0, places[..., None].expand(x.shape))


def _layer(
    own: Callable[..., Any],
    x: Tensor,
    lengths: Lengths,
    behind: Tensor,
    start: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
) -> Iterator[Tensor]:
    """One layer forwards: the output (T, B, H), and the states (1, B, H) at the ends of rows."""
    hx = tuple(start) if len(start) > 1 else start[0]
    options = (has_biases, 1, 0.0, False, False, False)
    output = own(x, hx, params, *options)[0]
    yield output
    ends = (lengths.lengths - 1).clamp(min=0)
    yield output.gather(0, ends[None, :, None].expand(1, -1, output.shape[-1]))
    if len(start) > 1:
        first, *others = params
        closed = torch.tensor([-_CLOSED, _CLOSED, 0.0, 0.0], dtype=x.dtype)
        gates = closed.repeat_interleave(first.shape[0] // 4)[:, None]
        longer = torch.cat([x, behind[..., None].to(x.dtype)], -1)
        yield own(longer, hx, [torch.cat([first, gates], 1), *others], *options)[2]


def _asks(own: Callable[..., None]) -> Callable[..., None]:
    """A layer compares its input with the sizes of a packed sequence."""

    def check(layer: nn.RNNBase, x: Tensor, hidden: Any, sizes: Any) -> None:
        if not isinstance(sizes, Lengths):
            own(layer, x, hidden, sizes)

    return check


WHILE_CAPTURED: Final = (
    (_kernels, "_pack_padded_sequence", _pack),
    (_kernels, "_pad_packed_sequence", _pad),
    *(
        (_kernels, name, partial(_layers, getattr(_kernels, name)))
        for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    ),
    *(
        (kind, "check_forward_args", _asks(kind.check_forward_args))
        for kind in (nn.RNNBase, nn.LSTM)
    ),
)
"""Owner, name, and what is called in its place."""
