"""``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` as loops over time: torch.export unrolls them otherwise.

Private API of torch 2.13, as there is no public way to capture these over a free time:
``torch.export._patches`` has such loops for LSTM and GRU, and here is the one for RNN.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch._decomp.decompositions import _rnn_helper, gather_params
from torch._higher_order_ops.while_loop import while_loop
from torch.export import _patches as patches

_Activation = Callable[[Tensor], Tensor]

_aten: Final = torch.ops.aten
_LAYERS: Final = (_aten.lstm.input, _aten.gru.input, _aten.rnn_tanh.input, _aten.rnn_relu.input)


@contextlib.contextmanager
def loops_over_time() -> Iterator[None]:
    """While it is entered, torch.export captures recurrent layers as loops."""
    register: Any = patches._register_rnn_while_loop_decomposition  # it has no types
    with (
        _fresh_dispatch(),
        patches.register_lstm_while_loop_decomposition(),
        patches.register_gru_while_loop_decomposition(),
        register(_aten.rnn_tanh.input, partial(_rnn, torch.tanh)),
        register(_aten.rnn_relu.input, partial(_rnn, torch.relu)),
    ):
        yield


@contextlib.contextmanager
def _fresh_dispatch() -> Iterator[None]:
    """Forget which kernel was found before: one export of an LSTM would decide all later ones."""
    _forget_kernels()
    try:
        yield
    finally:
        _forget_kernels()


def _forget_kernels() -> None:
    for layer in _LAYERS:
        layer._dispatch_cache.clear()


def _rnn(
    activation: _Activation,
    input: Tensor,
    hx: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    *options: Any,
) -> tuple[Tensor, Tensor]:
    """What ``aten.rnn_tanh.input`` and ``aten.rnn_relu.input`` compute."""
    gathered: Any = gather_params(params, has_biases, False)  # type: ignore[no-untyped-call]
    helper: Any = _rnn_helper
    output, last = helper(
        input, hx.unbind(0), gathered, has_biases, *options, partial(_layer, activation)
    )
    return output, torch.stack(last, 0)


def _layer(
    activation: _Activation,
    inputs: Tensor,
    hidden: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """One layer in one direction: inputs (T, B, D), hidden (B, H) -> (T, B, H), (B, H)."""
    bias, hidden_bias = params[2:4] if has_biases else (None, None)
    inputs = torch.nn.functional.linear(inputs, params[0], bias)
    inputs = inputs.flip(0) if reverse else inputs
    hidden_weight = params[1].clone()  # the loop refuses weights that share a storage
    if hidden_bias is not None:
        hidden_bias = hidden_bias.clone()
    outputs = inputs.new_empty(inputs.size(0), *hidden.shape)

    def goes_on(time: Tensor, *_: Tensor) -> Tensor:
        return time < inputs.size(0)

    def step(time: Tensor, outputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        now: Any = time.item()
        torch._check(now >= 0)  # type: ignore[no-untyped-call]
        torch._check(now < inputs.size(0))  # type: ignore[no-untyped-call]
        change = torch.nn.functional.linear(state, hidden_weight, hidden_bias)
        state = activation(inputs[now] + change)
        outputs = outputs.clone()
        outputs[now] = state
        return time + 1, outputs, state

    start = torch.tensor(0, dtype=torch.int64)
    _, outputs, last = while_loop(goes_on, step, (start, outputs, hidden))  # type: ignore[no-untyped-call]
    return outputs.flip(0) if reverse else outputs, last
