"""How much one run of a module takes, and so how large a sample of it may be.

Sizes are tried together: of a language model, 32 rows of 1,024 words would be 20 GB of logits.
"""

import contextlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from edgeport.runtimes import Signature
from edgeport.runtimes.inputs import Array

from . import trees
from .flat import Flat
from .running import call
from .samples import cells

MOST_OPERATIONS: Final = 2**37
"""Products and sums in one run: seconds on one core, and some ten runs look at each sample."""

MOST_NUMBERS: Final = 2**25
"""In the outputs of one run: 0.4 GB of golden answers, in float32 and float64."""


def most_cells(
    flat: Flat, declared: Signature, inputs: Mapping[str, Array], sizes: Mapping[str, int]
) -> float:
    """How large the product of all free sizes may be; as large as it likes if that is not known.

    Args:
        flat: The module.
        declared: Its inputs.
        inputs: To run it on, copied.
        sizes: Of the free dimensions in these inputs.
    """
    if len(declared.dimensions) < 2:
        return math.inf  # there is nothing that could be tried apart
    counted = _Counted()
    try:
        with contextlib.redirect_stdout(io.StringIO()), counted:
            answer = call(flat, [torch.tensor(array) for array in inputs.values()])
            numbers = sum(tensor.numel() for tensor in trees.tensors(answer))
    except (Exception, SystemExit):  # the user's module may raise anything
        return math.inf
    times = MOST_OPERATIONS / max(counted.operations, 1), MOST_NUMBERS / max(numbers, 1)
    return cells(sizes) * min(times)


def _of_lstm(
    x: torch.Tensor, kernel: torch.Tensor, recurrent: torch.Tensor, *_: Any, **__: Any
) -> int:
    return 2 * x.shape[:2].numel() * (kernel.numel() + recurrent.numel())  # (time, batch, units)


_COUNTS: Final[Mapping[Any, Callable[..., int]]] = {
    **flop_registry,
    torch.ops.aten.mkldnn_rnn_layer: _of_lstm,
}
"""How many operations, by operator."""


class _Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Counts the products and sums of matrices and convolutions."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        count = _COUNTS.get(getattr(func, "overloadpacket", None))
        if count is not None:
            self.operations += count(*args, **(kwargs or {}), out_val=result)
        return result
