"""LSTM and GRU written out as steps compute what they computed, and round what torch rounds."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.narrower.half_floats import in_bfloat16
from edgeport.deploy.compilers.narrower.rounding import round_each
from edgeport.deploy.compilers.onnx_files.onnx_messages import of_kind
from edgeport.deploy.compilers.onnx_files.recurrent_steps import write_out_steps
from edgeport.runtimes.inputs import Array

GATES = {"GRU": 3, "LSTM": 4}
IN, HIDDEN, ROWS, TIME = 5, 7, 3, 20
X = np.random.default_rng(0).standard_normal((TIME, ROWS, IN)).astype(np.float32)


def layer(kind: str, direction: str = "forward", *, biases: bool = True, **more: Any) -> Any:
    """One node, with random weights; its outputs are the model's."""
    ways = 2 if direction == "bidirectional" else 1
    generator = np.random.default_rng(1)
    rows, states = GATES[kind] * HIDDEN, ["h", "c"][: GATES[kind] - 2]
    shapes = {"w": (ways, rows, IN), "r": (ways, rows, HIDDEN), "b": (ways, 2 * rows)}
    shapes |= dict.fromkeys(states, (ways, ROWS, HIDDEN))
    weights = [
        numpy_helper.from_array(generator.uniform(-0.5, 0.5, shape).astype(np.float32), name)
        for name, shape in shapes.items()
        if biases or name != "b"
    ]
    if kind == "GRU":
        more = {"linear_before_reset": 1} | more
    outputs: dict[str, list[int | str]] = {"y": ["time", ways, ROWS, HIDDEN]}
    outputs |= {f"last {state}": [ways, ROWS, HIDDEN] for state in states}
    node = helper.make_node(
        kind,
        ["x", "w", "r", "b" if biases else "", "", *states],
        [*outputs],
        "layer",
        direction=direction,
        hidden_size=HIDDEN,
        **more,
    )
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", ROWS, IN])
    graph = helper.make_graph([node], "main", [x], values, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto) -> list[Array]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return [np.asarray(answer) for answer in session.run(None, {"x": X})]


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in of_kind("NodeProto", model)}


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", GATES)
def test_steps_compute_what_the_layer_does(kind: str, direction: str, biases: bool) -> None:
    model = layer(kind, direction, biases=biases)
    expected = run(model)
    write_out_steps(model, kind)
    onnx.checker.check_model(model, full_check=True)
    assert kind not in operators(model)
    for here, there in zip(run(model), expected, strict=True):
        np.testing.assert_allclose(here, there, atol=1e-6)


def test_a_state_that_nothing_takes() -> None:
    model = layer("LSTM")
    model.graph.node[0].output[1] = ""
    del model.graph.output[1]
    expected = run(model)
    write_out_steps(model, "LSTM")
    for here, there in zip(run(model), expected, strict=True):
        np.testing.assert_allclose(here, there, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("GRU", {"linear_before_reset": 0}),
        ("GRU", {"activations": ["Sigmoid", "Relu"]}),
        ("LSTM", {"clip": 3.0}),
        ("LSTM", {"input_forget": 1}),
    ],
)
def test_what_is_unlike_torch_stays(kind: str, more: dict[str, Any]) -> None:
    model = layer(kind, **more)
    write_out_steps(model, kind)
    assert operators(model) == {kind}


def test_each_step_of_a_gru_is_rounded(tmp_path: Path) -> None:
    """To the bits of torch's operators in bfloat16."""
    model = layer("GRU")
    onnx.save_model(model, tmp_path / "wide.onnx")
    rounded = in_bfloat16(tmp_path / "wide.onnx", ())
    round_each(rounded, TensorProto.BFLOAT16)
    y, last = run(rounded)

    w, r, b, h = (
        torch.tensor(numpy_helper.to_array(t))[0].bfloat16() for t in model.graph.initializer
    )
    bias, hidden_bias = b.chunk(2)
    for time, x in enumerate(torch.tensor(X).bfloat16()):
        x_keeps, x_resets, x_new = (x @ w.T + bias).chunk(3, -1)
        h_keeps, h_resets, h_new = torch.addmm(hidden_bias, h, r.T).chunk(3, -1)
        new = (x_new + (x_resets + h_resets).sigmoid() * h_new).tanh()
        h = new + (x_keeps + h_keeps).sigmoid() * (h - new)
        np.testing.assert_array_equal(y[time, 0], h.float().numpy())
    np.testing.assert_array_equal(last[0], h.float().numpy())


def test_each_step_of_an_lstm_is_rounded(tmp_path: Path) -> None:
    model = layer("LSTM")
    onnx.save_model(model, tmp_path / "wide.onnx")
    rounded = in_bfloat16(tmp_path / "wide.onnx", ())
    assert "LSTM" in operators(rounded)  # TensorRT takes it
    round_each(rounded, TensorProto.BFLOAT16)
    assert "LSTM" not in operators(rounded)
    y, *_, c = run(rounded)
    for values in (y, c):
        np.testing.assert_array_equal(values, torch.tensor(values).bfloat16().float().numpy())
    exact, *_ = run(model)
    error = float(np.square(y - exact).mean() / np.square(exact).mean())
    assert 40 < -10 * np.log10(error) < 52  # 8 bits in the end alone keep 52


class Closed(nn.Module):
    """Gates that let 2e-9 through: ONNX Runtime's own sigmoid of -20 is 0."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer: Any = getattr(nn, kind)(3, 4, batch_first=True)
        with torch.no_grad():
            if kind == "LSTM":
                self.layer.bias_ih_l0[12:] = -20  # what leaves
            else:
                self.layer.bias_ih_l0[4:8] = -20  # what stays, of a state beside nothing new
                for parameter in self.layer.parameters():
                    parameter[8:] = 0

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        states = state if isinstance(self.layer, nn.GRU) else (state, state)
        y: Tensor = self.layer(x, states)[0]
        return y


@pytest.mark.usually("LSTM")
@pytest.mark.parametrize("kind", GATES)
def test_closed_gates_go_into_onnx(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made: list[deploy.Attempt] = []

    def keep(event: object) -> None:
        if isinstance(event, deploy.Attempt):
            made.append(event)

    deploy.export(
        Closed(kind), {"x": torch.randn(2, 3, 3), "state": torch.randn(1, 2, 4)},
        tmp_path / "m.edge", formats=["onnx"],
        dimensions={"x": {0: "batch", 1: "time"}, "state": {1: "batch"}}, on_event=keep,
    )  # fmt: skip  # one call
    assert [(attempt.route, attempt.outcome) for attempt in made] == [
        ("dynamo", "wrong"),
        ("written out", "refused"),
        ("steps written out", "proved"),
    ]
    assert max(v.figures.ratio for report in made[-1].reports for v in report.verdicts) < 3
    assert made[-1].compiled is not None
    assert '"operator": "Scan",\n      "module": "layer"' in (made[-1].compiled.debug_map or "")
