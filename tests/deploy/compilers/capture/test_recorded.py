"""One way through forward, answered as by the example, with sizes that stay free."""

import logging
import math
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.deploy.compilers import pt2
from edgeport.deploy.compilers.capture.recorded import with_values
from edgeport.deploy.compilers.upstream import quiet
from edgeport.runtimes import ExportError, Range

AXES = {"x": {0: "rows", 1: "width"}}
SIZES = (4, 9, 10, 21, 64, 90, 170)


class Checked(nn.Module):
    """What many write: a check of the values, then sizes by way of floats."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        if torch.isnan(x).any():
            raise ValueError("no numbers")
        self.kept.add(len(x.shape))  # no TorchScript has a set
        width = max(1, math.floor(x.shape[1] * 0.75))
        y: Tensor = functional.interpolate(x[:, None], size=width, mode="linear")
        return y[:, 0]


class Scaled(nn.Module):
    """A number made of values is no way that is chosen."""

    def forward(self, x: Tensor) -> Tensor:
        if {float(x.sum()) > 1e6} == {True}:
            return x
        y: Tensor = x[:, : int((x > -1e9).sum(1).max())] / float(x.abs().max())
        return y + math.sqrt(x.shape[1])


class Halves(nn.Module):
    """Each question that Python can ask of a tensor."""

    def forward(self, x: Tensor) -> Tensor:
        flags = (x[0, :2] > 1e6).tolist()
        logging.debug(f"{x.mean().item():.2f} {int(x.argmax()):3d}")
        if any(flags) or x.max().item() > 1e6 or {1} == {2}:
            return x * 0
        return x[:, : x.shape[1] // 2] + x.shape[0]


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.step = nn.GRU(4, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        if {bool(x.isinf().any())} == {True}:
            return x
        x = x[..., None] * torch.linspace(0, 1, 4)
        y: Tensor = self.step(self.layer(x))[0]
        return y + torch.linspace(0, 1, x.shape[1])[:, None]


class Weighs(nn.Module):
    """What is asked hangs on weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.25))

    def forward(self, x: Tensor) -> Tensor:
        if {bool((x * 0 + self.weight == 0.25).all())} == {True}:
            x = x * self.weight
        return x


class Experts(nn.Module):
    """Of few rows, an expert has none of them: with the example too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate = nn.Linear(1, 3)
        self.experts = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, 1)
        weights, chosen = self.gate(flat).softmax(-1).topk(1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            row, place = torch.where(chosen == number)
            if row.numel() == 0:
                continue
            out.index_add_(0, row, weights[row, place, None] * expert(flat[row]))
        return out.view(x.shape)


def source_of(module: nn.Module) -> Any:
    return deploy.source_of(
        "m", module.eval(), {"x": torch.randn(2, 12)}, AXES, {"width": Range(4, 300)}
    )


def inputs() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(3, width) for width in SIZES]


FORMATS = {"onnx": "ort-cpu", "torchscript": "libtorch", "pt2": "torch"}


@pytest.mark.usually("onnx-Halves", "torchscript-Weighs")
@pytest.mark.parametrize("make", [Checked, Scaled, Halves, Attends, Weighs, Experts])
@pytest.mark.parametrize("format_", FORMATS)
def test_what_no_compiler_keeps_is_right_at_sizes_that_were_not_tried(
    make: Callable[[], nn.Module], format_: str, tmp_path: Path
) -> None:
    told: list[deploy.Event] = []
    module = make().eval()
    made = deploy.export(
        module, {"x": torch.randn(2, 12)}, tmp_path / "m.edge", formats=format_,
        dimensions=AXES, ranges={"width": Range(4, 300)}, on_event=told.append,
    )  # fmt: skip  # one call
    attempts = [event for event in told if isinstance(event, deploy.Attempt)]
    assert (attempts[-1].route, attempts[-1].outcome) == ("recorded", "proved")
    with made.bundle.open(FORMATS[format_]) as session:
        for x in inputs():
            (found,) = session.run({"x": x.numpy()}).values()
            torch.testing.assert_close(torch.tensor(found), module(x))


LARGE = 1e9


class Asks(nn.Module):
    """A question to values, in code that no script takes."""

    def __init__(self, asks: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.asks = asks

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if self.asks(x) else x * 3


@pytest.mark.parametrize(
    "asks",
    [
        lambda x: (x > -LARGE).all(),  # true of the example, so that torch takes it for 1
        lambda x: int((x < -LARGE).sum()) == 0,
        lambda x: int((x > LARGE).sum()) <= 0.5 * x.shape[0],
        lambda x: (x + LARGE).min().item() >= 0,  # a bound, and its negation
        lambda x: not (x.max().item() > LARGE),
        lambda x: x.sum().item() / x.shape[0] < LARGE,
        lambda x: x.max().item() * x.shape[0] <= LARGE and x.min().item() < LARGE,
        lambda x: math.isfinite(x.sum().item()),
        lambda x: {x[0].tolist()[1] > LARGE} == {True},
        lambda x: len([*range(int(x.max() // LARGE) + 2)]) > 2,
        lambda x: math.log(x.abs().max().item()) > math.log(LARGE),
        lambda x: log(float(x.abs().max()), 10) > 9,
        lambda x: math.ceil(math.log10(x.abs().max())) > 9,
        lambda x: math.isnan(x.sum().item()) or math.isinf(x.sum().item()),
        lambda x: math.hypot(*x[0].tolist()) > LARGE,
        lambda x: np.sqrt(x.abs().max().item()) > math.sqrt(LARGE),
        lambda x: np.float64((x.abs() > LARGE).float().sum().item()) > 0,  # in each sample 0
        lambda x: {0: False}.get(int((x > LARGE).sum()), True),
        lambda x: x.clamp(min=LARGE).max().item() - LARGE,
    ],
)
def test_each_answer_is_kept(asks: Callable[[Tensor], Any]) -> None:
    module = Asks(asks)
    source = deploy.source_of("m", module, {"x": torch.rand(4, 5)}, {"x": {0: "rows"}})
    with quiet():
        run: Any = with_values(source).program.module()
    example = bool(asks(torch.rand(4, 5)))
    inputs = [torch.rand(rows, 5) for rows in (2, 9)]
    for value in (2 * LARGE, -8 * LARGE, math.nan, math.inf):
        for places in (slice(0, 1), slice(None)):
            inputs.append(torch.rand(3, 5))
            inputs[-1][places, 1] = value
    refused = 0
    for x in inputs:
        try:
            is_same = bool(asks(x)) == example
        except (ValueError, OverflowError):  # of NaN there is no whole number
            continue
        if is_same:
            torch.testing.assert_close(run(x)[0], module(x), equal_nan=True)
        else:
            refused += 1
            with pytest.raises(RuntimeError, match=r"another way through|Runtime assertion failed"):
                run(x)
    assert refused


class SoManyRows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        chosen = x[x[:, 0] > 0]
        if chosen.shape[0] == 123 or {1} == {2}:
            return x * 100
        return x + chosen.sum()


class Turns(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in {*range(int(x.max().item() // 1000) + 2)}:
            x = x * 1.5
        return x


def test_a_pt2_answers_no_question_otherwise(tmp_path: Path) -> None:
    module = SoManyRows()
    source = deploy.source_of("m", module, {"x": torch.rand(4, 5)}, {"x": {0: "rows"}})
    with quiet():
        pt2.recorded(source, tmp_path)
    run: Any = torch.export.load(tmp_path / "model.pt2").module()
    x = torch.rand(200, 5)
    torch.testing.assert_close(run(x)[0], module(x))
    x[123:, 0] = -1
    with pytest.raises(RuntimeError, match="another way through forward than the file has"):
        run(x)


def test_a_pt2_has_the_numbers_of_samples(tmp_path: Path) -> None:
    module = Turns()
    source = deploy.source_of("m", module, {"x": torch.rand(4, 5)}, {"x": {0: "rows"}})
    with quiet():
        pt2.recorded(source, tmp_path)
    run: Any = torch.export.load(tmp_path / "model.pt2").module()
    x = torch.rand(7, 5)
    torch.testing.assert_close(run(x)[0], module(x))
    x[3, 2] = 7e6
    with pytest.raises(RuntimeError, match="another way through forward than the file has"):
        run(x)


class AtMostTwo(nn.Module):
    """Asks for values first: by one way alone a batch of 1 has another answer."""

    def forward(self, x: Tensor) -> Tensor:
        rows = int(x.shape[0] * (x.max() > 1).item())
        return torch.stack([x, *(x * i for i in {*range(1, 1 + min(rows, 2))})]).sum(0)


@pytest.mark.slow
def test_a_batch_of_one_is_tried_by_each_way(tmp_path: Path) -> None:
    x = torch.tensor([[0.5, 0.2], [0.1, 0.4], [0.3, 0.9]])
    samples = [{"x": sample.numpy()} for sample in (x, x - 3, x * 90)]
    with pytest.raises(ExportError, match="sample 'real, batch=1, x_1=1"):
        deploy.export(
            AtMostTwo(), (x,), tmp_path / "b.edge", dimensions="infer", formats=("onnx",),
            samples=samples,
        )  # fmt: skip  # one line


class Halts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.GRUCell(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.zeros_like(x)
        for _ in {1, 2, 3}:
            y = self.cell(x, y)
            if (y * 1).exp_().mean().neg_() < -0.9:
                return y.tanh_()
        return y


@pytest.mark.usually("[1.0")
@pytest.mark.parametrize("far", [1.0, -9.0])
def test_what_writes_into_a_tensor_decides_by_what_it_wrote(far: float) -> None:
    """Torch runs it twice beside the symbols: the way was that of other values."""
    x = far * torch.rand(3, 4)
    source = deploy.source_of("m", Halts(), {"x": x}, {"x": {0: "rows"}}, samples=[{"x": x}])
    with quiet():
        run: Any = with_values(source).program.module()
    torch.testing.assert_close(run(x)[0], Halts()(x))


class AtOne(nn.Module):
    """Asks for the size behind values: no sample of one step need have come there."""

    def forward(self, x: Tensor) -> Tensor:
        if (x == 3).any() and x.shape[1] > 1 and {1} != {2}:
            return x.float().mean(1)
        return x.float().sum(1) + 1


def test_a_size_of_1_takes_the_way_that_forward_asks_for() -> None:
    x = torch.tensor([[3, 1, 2, 7], [1, 1, 3, 4]])
    free = {"x": {0: "rows", 1: "time"}}
    source = deploy.source_of("m", AtOne(), {"x": x}, free, samples=[{"x": x}, {"x": x // 2}])
    with quiet():
        run: Any = with_values(source).program.module()
    for given in ([[3]], [[1], [3]], [[7]], [[3, 3]], [[1, 7]]):
        x = torch.tensor(given)
        torch.testing.assert_close(run(x)[0], AtOne()(x))


class Between(nn.Module):
    """Samples go two ways that answer alike, and between them is a third one.

    Args:
        asked: Whether it is taken.
    """

    def __init__(self, asked: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.asked = asked

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if self.asked(x) else x


def nested(x: Tensor) -> bool:
    if x.max() > 30:  # noqa: SIM102  # as many write it
        if x.max() < 60:
            return True
    return False


def of_a_number(x: Tensor) -> bool:
    largest = x.max().item()
    return largest > 30 and largest < 60


def of_a_count(x: Tensor) -> bool:
    count = int(x.abs().max())
    return count + 1 > 30 and count - 1 < 60


def of_counts(x: Tensor) -> bool:
    warm, hot = int((x > 30).sum()), int((x > 60).sum())
    return warm > 0 and hot == 0


def of_truths(x: Tensor) -> bool:
    hot, cold = bool(x.max() > 60), bool(x.max() < 30)
    return not hot and not cold


class Keeping:
    """A number is kept by one method, and asked for by another."""

    def __call__(self, x: Tensor) -> bool:
        self.largest = int(x.max())
        return self.is_between()

    def is_between(self) -> bool:
        return self.largest > 30 and self.largest < 60


def of_a_quotient(x: Tensor) -> bool:
    tenth = float(x.max()) / 10
    return 3 < tenth < 6


def handed_on(x: Tensor) -> bool:
    return is_between(min(int(x.max()), 200))


def is_between(number: int) -> bool:
    if number > 30 and number < 60:  # noqa: SIM103  # as many write it
        return True
    return False


class Layer(nn.Module):
    """Is given a number."""

    def forward(self, x: Tensor, number: int) -> bool:
        return is_between(number)


class Asking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Layer()

    def forward(self, x: Tensor) -> bool:
        found: bool = self.layer(x, number=int(x.max()))
        return found


@pytest.mark.parametrize(
    "asked",
    [
        Asking(),
        of_a_count,
        of_a_quotient,
        of_truths,
        of_counts,
        Keeping(),
        handed_on,
        lambda x: bool(x.max() > 30 and x.max() < 60),
        lambda x: bool(30 < x.max() < 60),
        lambda x: 30 < x.max().item() < 60,
        nested,
        of_a_number,
    ],
)
def test_a_condition_stays_behind_which_is_another(asked: Callable[[Tensor], bool]) -> None:
    x = torch.tensor([[0.5, 1.5], [1.0, -2.0]])
    source = deploy.source_of(
        "m", Between(asked), {"x": x}, {"x": {0: "rows"}}, samples=[{"x": x}, {"x": x * 70}]
    )
    with quiet():
        run: Any = with_values(source).program.module()
    for factor in (1, 70):
        torch.testing.assert_close(run(x * factor)[0], x * factor)
    with pytest.raises(RuntimeError, match="another way through forward"):
        run(x * 30)
