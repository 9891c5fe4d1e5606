"""``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` over a free time: torch.export unrolls them otherwise.

While torch.export reads a layer, it asks only for the shapes of what comes out, and torch's own
kernel unrolls to answer, which fixes the time. Here shapes are answered without running, so that
the layer stays one operator: eager runs it from ``.pt2``, and ONNX has LSTM and GRU. Whoever takes
it apart all the same, as for ONNX an RNN or an LSTM with projections, gets a loop over time.

Private API of torch 2.13, as there is no public way. ``torch.export._patches`` has loops for LSTM
and GRU, whose counter, a lifted constant, torch.onnx loses.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, cast

import torch
from torch import Tensor
from torch._decomp.decompositions import _rnn_helper, gather_params
from torch._higher_order_ops.while_loop import while_loop
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.export import _patches as patches
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn.functional import linear
from torch.utils import _pytree as pytree

_Tensors: TypeAlias = tuple[Tensor, ...]
_Cell: TypeAlias = Callable[[Tensor, Tensor, _Tensors], _Tensors]
"""What the input adds, what the hidden state adds, the states (B, H) -> the states."""

_aten: Final = torch.ops.aten


@contextlib.contextmanager
def free_time() -> Iterator[None]:
    """While it is entered, torch.export does not unroll recurrent layers."""
    register: Any = patches._register_rnn_while_loop_decomposition  # it has no types
    with contextlib.ExitStack() as stack:
        stack.enter_context(_afresh())
        for layer, loop in LAYERS.items():
            stack.enter_context(register(layer, partial(_kernel, layer, loop)))
        yield


def _kernel(
    layer: Any,
    loop: Callable[..., _Tensors],
    input: Tensor,
    hx: Tensor | Sequence[Tensor],
    *rest: Any,
) -> Any:
    """The shapes, when those are asked; else a loop."""
    if isinstance(input, FakeTensor) and get_proxy_mode() is None:
        found = _shapes(input, hx, *rest)
        if input.real_tensor is not None:
            _fill(found, layer, input, hx, *rest)
        return found
    return loop(input, hx, *rest)


def _fill(found: _Tensors, layer: Any, *given: Any) -> None:
    """The values beside the shapes, where forward is recorded with those of the example."""
    real = pytree.tree_map_only(FakeTensor, lambda fake: fake.real_tensor, given)
    with unset_fake_temporarily():
        values = layer._op_dk(torch.DispatchKey.CompositeImplicitAutograd, *real)
    for fake, value in zip(found, values, strict=True):
        cast(FakeTensor, fake).real_tensor = value


def _shapes(input: Tensor, hx: Tensor | Sequence[Tensor], *options: Any) -> _Tensors:
    """Empty results: an output laid out by time first, as torch's own, and the last states."""
    bidirectional, batch_first = options[-2:]
    states = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    features = states[0].shape[-1] * (2 if bidirectional else 1)
    time_first = input.transpose(0, 1) if batch_first else input
    output = input.new_empty(*time_first.shape[:2], features)
    return (
        output.transpose(0, 1) if batch_first else output,
        *(state.new_empty(state.shape) for state in states),
    )


@contextlib.contextmanager
def _afresh() -> Iterator[None]:
    """Forget kernels and loops that were found before: one export would decide all later ones."""
    _forget()
    try:
        yield
    finally:
        _forget()


def _forget() -> None:
    torch.compiler.reset()
    for layer in LAYERS:
        layer._dispatch_cache.clear()


def _loop(cell: _Cell, input: Tensor, hx: Tensor | Sequence[Tensor], *rest: Any) -> _Tensors:
    """What ``aten.lstm.input``, ``aten.gru.input`` and both ``aten.rnn`` compute, as a loop."""
    params, has_biases, *options = rest
    states = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    projects = any(state.size(2) != states[0].size(2) for state in states)
    gathered: Any = gather_params(params, has_biases, projects)  # type: ignore[no-untyped-call]
    hidden = list(zip(*states, strict=True))  # of each layer and direction
    helper: Any = _rnn_helper
    with torch.compiler.set_stance("default"):  # under "force_eager" a loop is not captured
        output, last = helper(input, hidden, gathered, has_biases, *options, partial(_layer, cell))
    return output, *(torch.stack(states, 0) for states in zip(*last, strict=True))


def _layer(
    cell: _Cell,
    inputs: Tensor,
    states: _Tensors,
    params: Sequence[Tensor],
    has_biases: bool,
    reverse: bool = False,
) -> tuple[Tensor, _Tensors]:
    """One layer in one direction: inputs (T, B, D), states (B, H) -> (T, B, H), (B, H) each."""
    # the loop refuses tensors that share a storage, as the weights of one layer may
    weight, *biases = (param.clone() for param in params[1 : 4 if has_biases else 2])
    bias, hidden_bias = biases if has_biases else (None, None)
    projection = params[-1].clone() if len(params) % 2 else None
    inputs = linear(inputs, params[0], bias)
    inputs = inputs.flip(0) if reverse else inputs
    outputs = inputs.new_empty(inputs.size(0), *states[0].shape)

    def goes_on(time: Tensor, *_: Tensor) -> Tensor:
        return time < inputs.size(0)

    def step(time: Tensor, outputs: Tensor, *states: Tensor) -> _Tensors:
        now: Any = time.item()
        torch._check(now >= 0)  # type: ignore[no-untyped-call]
        torch._check(now < inputs.size(0))  # type: ignore[no-untyped-call]
        output, *others = cell(inputs[now], linear(states[0], weight, hidden_bias), states)
        output = output if projection is None else linear(output, projection)
        outputs = outputs.clone()
        outputs[now] = output
        return time + 1, outputs, output, *others

    start = torch.zeros((), dtype=torch.int64)  # a torch.tensor(0) gets lost on the way to ONNX
    _, outputs, *last = while_loop(goes_on, step, (start, outputs, *states))  # type: ignore[no-untyped-call]
    return outputs.flip(0) if reverse else outputs, tuple(last)


def _rnn(activation: Callable[[Tensor], Tensor], x: Tensor, h: Tensor, _: _Tensors) -> _Tensors:
    return (activation(x + h),)


def _lstm(x: Tensor, h: Tensor, states: _Tensors) -> _Tensors:
    enters, keeps, new, leaves = (x + h).chunk(4, -1)
    c = keeps.sigmoid() * states[1] + enters.sigmoid() * new.tanh()
    return leaves.sigmoid() * c.tanh(), c


def _gru(x: Tensor, h: Tensor, states: _Tensors) -> _Tensors:
    (x_resets, x_keeps, x_new), (h_resets, h_keeps, h_new) = x.chunk(3, -1), h.chunk(3, -1)
    new = (x_new + (x_resets + h_resets).sigmoid() * h_new).tanh()
    return (new + (x_keeps + h_keeps).sigmoid() * (states[0] - new),)


LAYERS: Final[dict[Any, Callable[..., _Tensors]]] = {
    _aten.lstm.input: partial(_loop, _lstm),
    _aten.gru.input: partial(_loop, _gru),
    _aten.rnn_tanh.input: partial(_loop, partial(_rnn, torch.tanh)),
    _aten.rnn_relu.input: partial(_loop, partial(_rnn, torch.relu)),
}
"""Operator -> what computes it as a loop over time."""
