"""Recurrent layers over a free time, whatever was exported in the same process before."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from edgeport import deploy
from edgeport.deploy.compilers.onnx_files import onnx_export
from edgeport.deploy.compilers.operators import recurrent
from edgeport.deploy.compilers.operators.recurrent import free_time
from edgeport.deploy.compilers.targets import negotiate
from edgeport.deploy.compilers.upstream import quiet

LAYERS: tuple[Callable[..., nn.RNNBase], ...] = (nn.RNN, nn.LSTM, nn.GRU)
BOOLEANS = (False, True)
aten: Any = torch.ops.aten


@pytest.mark.usually("LSTM")
@pytest.mark.parametrize("layer", LAYERS)
def test_an_export_before_does_not_decide_this_one(
    layer: Callable[..., nn.Module], tmp_path: Path
) -> None:
    module, x = layer(4, 6, batch_first=True).eval(), torch.randn(2, 3, 4)
    with quiet(), torch.no_grad():
        torch.export.export(module, (x,))  # finds torch's own kernel, which unrolls
    free = {"input": {0: "batch", 1: "time"}}
    made = deploy.export(
        module, {"input": x}, tmp_path / "m.edge", dimensions=free, formats=("pt2",)
    )
    assert made.report.passed


def test_the_kernels_are_gone_afterwards() -> None:
    lstm = torch.ops.aten.lstm.input
    kernels = dict(lstm.py_kernels)
    with free_time():
        assert lstm.py_kernels != kernels
    assert lstm.py_kernels == kernels
    assert not lstm._dispatch_cache


@pytest.mark.usually("RNN", "GRU")
@pytest.mark.parametrize("layer", LAYERS)
def test_the_shapes_that_are_answered_are_those_of_eager(layer: Callable[..., nn.RNNBase]) -> None:
    for batch_first, both, depth in itertools.product(BOOLEANS, BOOLEANS, (1, 2)):
        options: dict[str, Any] = {"batch_first": batch_first, "bidirectional": both}
        for projections in ({}, {"proj_size": 2}) if layer is nn.LSTM else ({},):
            module = layer(4, 6, depth, **options, **projections).double().eval()
            x = torch.randn(5, 3, 4, dtype=torch.float64)
            with torch.no_grad():
                eager = module(x)
                with FakeTensorMode(allow_non_fake_inputs=True) as mode, free_time():
                    fake = module(mode.from_tensor(x))
            assert described(fake) == described(eager), (options, projections, depth)


@pytest.mark.usually("rnn", "lstm")
@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(4, 6, 2, bidirectional=True),
        nn.GRU(4, 6, batch_first=True),
        nn.RNN(4, 6, bias=False),
    ],
    ids=["lstm", "gru", "rnn"],
)
def test_a_loop_computes_what_the_layer_computes(layer: nn.RNNBase) -> None:
    operator = {nn.LSTM: aten.lstm, nn.GRU: aten.gru, nn.RNN: aten.rnn_tanh}[type(layer)].input
    layer, x = layer.double(), torch.randn(5, 3, 4, dtype=torch.float64)
    batch = 5 if layer.batch_first else 3
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    states = [torch.randn(rows, batch, 6, dtype=torch.float64) for _ in range(2)]
    weights = [each.detach() for each in layer._flat_weights if each is not None]
    arguments = (x, states if type(layer) is nn.LSTM else states[0], weights, layer.bias)
    options = (layer.num_layers, 0.0, False, layer.bidirectional, layer.batch_first)
    with torch.no_grad():
        found = recurrent.LAYERS[operator](*arguments, *options)
        expected = operator(*arguments, *options)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def described(values: Any) -> list[tuple[object, ...]]:
    flat = [values[0], *([values[1]] if isinstance(values[1], torch.Tensor) else values[1])]
    return [(tensor.shape, tensor.dtype, tensor.stride()) for tensor in flat]


class Stateful(nn.Module):
    """The states come in and go out; the output's sizes are used afterwards."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor, states: Any) -> tuple[torch.Tensor, Any]:
        output, states = self.layer(x, states)
        return output.reshape(-1, output.shape[-1]).tanh().reshape(output.shape), states


@pytest.mark.usually("gru", "lstm")
@pytest.mark.parametrize(
    ("layer", "node"),
    [
        (nn.LSTM(4, 6, 2, bidirectional=True, bias=False), "LSTM"),
        (nn.GRU(4, 6, 2, batch_first=True), "GRU"),
        (nn.RNN(4, 6, nonlinearity="relu", batch_first=True), "Loop"),
        (nn.LSTM(4, 6, proj_size=3, bias=False, batch_first=True), "Loop"),
    ],
    ids=["lstm of two layers", "gru", "rnn", "projected lstm"],
)
def test_dynamo_keeps_the_time_free_in_onnx(layer: nn.RNNBase, node: str, tmp_path: Path) -> None:
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    hidden = torch.randn(rows, 2, layer.proj_size or 6)
    x = torch.randn(2, 5, 4) if layer.batch_first else torch.randn(5, 2, 4)
    states = (hidden, torch.randn(rows, 2, 6)) if isinstance(layer, nn.LSTM) else hidden
    names = ("states_0", "states_1") if isinstance(layer, nn.LSTM) else ("states",)
    axes = {0: "batch", 1: "time"} if layer.batch_first else {1: "batch", 0: "time"}
    with quiet():  # torch warns that a projected LSTM is slow
        source = deploy.exporter.source_of(
            "m",
            Stateful(layer),
            {"x": x, "states": states},
            {"x": axes} | {name: {1: "batch"} for name in names},
        )
        onnx_export.dynamo(source, tmp_path, negotiate(None, None))
    model = onnx.load(tmp_path / "model.onnx")
    assert node in {each.op_type for each in model.graph.node}
