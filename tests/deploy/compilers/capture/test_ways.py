"""Ways through forward that samples take are in one file, whatever Python does in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.capture import ways
from edgeport.deploy.compilers.capture.recorded import with_values
from edgeport.deploy.compilers.upstream import quiet
from edgeport.runtimes import ExportError, Range, ValuesError

BACKENDS = {"onnx": "ort-cpu", "torchscript": "libtorch", "pt2": "torch"}
AXES = {"x": {0: "rows"}}


class EndsEarly(nn.Module):
    """By names that are made, and with a function in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        for number in range(2):
            setattr(self, f"layer{number}", nn.Linear(4, 4))
            setattr(self, f"head{number}", nn.Linear(4, 3))
        self.known = {"act": lambda x: x.relu()}

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for number in range(2):
            x = self.known["act"](getattr(self, f"layer{number}")(x)) + x
            y = getattr(self, f"head{number}")(x)
            if y.softmax(-1).max() > 0.7:
                break
        return y


class Writes(nn.Module):
    """Into its input, and by a view of what is read afterwards."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x.mul_(2)
        y = x + 1
        flat = y.view(-1)
        try:
            if y[:, 0].max() > 2:
                y[:, 1] = 0
        except ValueError:
            pass
        if flat.sum() > 0:
            flat.mul_(3)
        return y, x.sum(1)


class Masks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        large = x > 1
        mask = large if large.any() else None
        y: Tensor = self.layer(x)
        if mask is not None:
            y = y.masked_fill(mask, 7.0)
        return sum([y, x], start=torch.tensor(0.5))


@pytest.mark.usually("module1-torchscript", "module4-onnx")
@pytest.mark.parametrize(
    ("module", "format_"),
    [
        *((EndsEarly(), each) for each in BACKENDS),
        (Writes(), "torchscript"),
        (Masks(), "onnx"),
    ],
)
def test_ways_of_samples_are_in_the_file(module: nn.Module, format_: str, tmp_path: Path) -> None:
    made = deploy.export(
        module, {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=[format_], dimensions=AXES
    )
    torch.manual_seed(1)
    with made.bundle.open(BACKENDS[format_]) as session:
        for scale in (0.1, 0.5, 2.0, 9.0):
            for rows in (1, 2, 5):
                x = scale * torch.randn(rows, 4)
                answers = session.run({"x": x.numpy()}).values()
                expected = module(x.clone())
                for found, y in zip(
                    answers, expected if isinstance(expected, tuple) else [expected], strict=True
                ):
                    np.testing.assert_allclose(found, y.detach(), rtol=1e-4, atol=1e-4)


class Attends(nn.Module):
    """By attention, which one kernel computes, and ONNX by others with other strides."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        choose = {True: x * 2, False: x - 1}
        x = choose[bool(x.sum() > 0)]
        y: Tensor = self.layer(x, x, x, need_weights=False)[0]
        return y if {bool(x.sum() > 0)} == {True} else -y


@pytest.mark.slow
def test_attention_in_a_branch_goes_to_onnx(tmp_path: Path) -> None:
    module = Attends()
    x = torch.randn(2, 3, 4)
    made = deploy.export(
        module, {"x": x}, tmp_path / "m.edge", formats=["onnx"],
        dimensions={"x": {0: "rows", 1: "time"}}, ranges={"time": Range(1, 9)},
        samples=[x - 2, x + 2, x / 10],
    )  # fmt: skip  # one call
    with made.bundle.open("ort-cpu") as session:
        for given in (torch.randn(3, 4, 4) - 2, torch.randn(1, 5, 4) + 2):
            (found,) = session.run({"x": given.numpy()}).values()
            np.testing.assert_allclose(found, module(given).detach(), atol=1e-4)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        choose = {True: 2.0, False: 0.5}
        if {bool(x[0, 0] > 0)} == {True}:
            x = x * choose[True]
        return x - 1 if {bool(x[0, 1] > 0)} == {True} else x * choose[False]


def rows(*first: Sequence[float]) -> list[dict[str, Any]]:
    return [{"x": np.array([each], np.float32)} for each in first]


@pytest.mark.usually("onnx")
@pytest.mark.parametrize("format_", BACKENDS)
def test_a_way_that_no_sample_takes_is_refused(format_: str, tmp_path: Path) -> None:
    """A condition stays that failed with another one alone."""
    module = Twice()
    made = deploy.export(
        module, {"x": torch.ones(1, 2)}, tmp_path / "m.edge", formats=[format_],
        samples=rows((1, 2), (-1, -2)),
    )  # fmt: skip  # one call
    with made.bundle.open(BACKENDS[format_]) as session:
        for given in rows((3, 4), (-3, -5)):
            (found,) = session.run(given).values()
            np.testing.assert_allclose(found, module(torch.tensor(given["x"])))
        for given in rows((3, -4), (-3, 5)):
            with pytest.raises(ValuesError, match="take another way through forward"):
                session.run(given)


class Rounds(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        most = x.max().item()
        ways: dict[bool, Any] = {True: lambda: round(most), False: lambda: 0}
        y: Tensor = x + ways[most > 0]()
        return y


def test_zeros_prove_no_way(tmp_path: Path) -> None:
    made = deploy.export(
        Rounds(), {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=["onnx"], dimensions=AXES
    )
    with made.bundle.open("ort-cpu") as session:
        x = torch.full((2, 4), -3.0)
        (found,) = session.run({"x": x.numpy()}).values()
    np.testing.assert_allclose(found, x)


class Bounds(nn.Module):
    """What samples that take the other way, and all near them, do not reach."""

    def forward(self, x: Tensor) -> Tensor:
        ways: dict[bool, Any] = {True: lambda: x.clamp(max=60000.0), False: lambda: x}
        y: Tensor = ways[bool(x.max() > 10)]()
        return y


def test_bounds_that_no_sample_reaches_are_in_the_file() -> None:
    source = deploy.source_of("m", Bounds(), {"x": torch.randn(3, 4)}, AXES)
    with quiet():
        run: Any = with_values(source).program.module()
    for far in (1.0, 1e2, 1e5):
        x = torch.full((2, 4), far)
        torch.testing.assert_close(run(x)[0], Bounds()(x))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, (last, _) = self.layer(x)
        ways: dict[bool, Tensor] = {True: y * 2, False: y - 1}
        return ways[bool(last.sum() > 0)]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_way_behind_a_recurrent_layer_is_that_of_the_values(sign: float) -> None:
    module = Recurrent()
    with torch.no_grad():
        for weight in module.parameters():
            weight.fill_(sign)
    source = deploy.source_of("m", module, {"x": torch.rand(2, 5, 4)}, {"x": {0: "rows"}})
    with quiet():
        run: Any = with_values(source).program.module()
    x = torch.rand(3, 5, 4)
    torch.testing.assert_close(run(x)[0], module(x))


class Doubles(Masks):
    def forward(self, x: Tensor) -> Tensor:
        is_large = bool((x > 1).any())
        y: Tensor = self.layer(x)
        return {True: y * 2, False: y - 1}[is_large]


def test_nodes_have_the_lines_of_the_user() -> None:
    source = deploy.source_of("m", Doubles(), {"x": torch.randn(3, 4)}, AXES)
    with quiet():
        program = with_values(source).program
    (branch,) = program.graph.find_nodes(op="call_function", target=torch.ops.higher_order.cond)
    sides = [getattr(program.graph_module, side.target) for side in branch.args[1:3]]
    for side in sides:
        (layer,) = side.graph.find_nodes(op="call_function", target=torch.ops.aten.linear.default)
        assert "y: Tensor = self.layer(x)" in layer.stack_trace


class Chooses(nn.Module):
    """A layer, by a whole number, and how often it is used, by another one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for _ in {*range(min(int(x.max()), 2))}:
            x = x + self.layers[int(x.sum(0).argmax())](x)
        return x


@pytest.mark.usually("pt2")
@pytest.mark.parametrize("format_", BACKENDS)
def test_a_whole_number_has_the_ways_of_samples(format_: str, tmp_path: Path) -> None:
    module, seen = Chooses(), ((1, 0, 0), (0, 1, 0), (0, 2, 0), (0, 0, 0))
    made = deploy.export(
        module, {"x": torch.tensor([[1.0, 0, 0]] * 2)}, tmp_path / "m.edge", formats=[format_],
        dimensions=AXES, samples=rows(*seen),
    )  # fmt: skip  # one call
    told = [note for note in made.notes if "makes a number of values" in note]
    assert ["`for _ in " in note or "self.layers[int(" in note for note in told] == [True, True]
    assert told[0].endswith(
        "the file has those of the samples alone: it refuses inputs that have another; give "
        "samples with each, with --samples"
    )
    with made.bundle.open(BACKENDS[format_]) as session:
        for given in rows(*seen):
            x = np.repeat(given["x"], 3, 0)
            (found,) = session.run({"x": x}).values()
            np.testing.assert_allclose(found, module(torch.tensor(x)).detach(), atol=1e-5)
        for other in rows((0, 0, 1)):
            with pytest.raises(ValuesError, match="take another way through forward"):
                session.run(other)


class Counts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        turns = 0
        while {bool(x.abs().max() > 1)} == {True}:
            x = x * 0.5
            turns += 1
        return x + turns


def test_too_many_ways_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "_MOST", 2)
    samples = [{"x": np.full((1, 2), 2.0**number, np.float32)} for number in range(4)]
    told = "takes another way through forward than the example: samples take more than 3 ways"
    with pytest.raises(ExportError, match=told):
        deploy.export(
            Counts(), {"x": torch.ones(1, 2)}, tmp_path / "m.edge", formats=["pt2"],
            samples=samples,
        )  # fmt: skip  # one call


class Asks(nn.Module):
    """Two rows are added up, by an order that is asked for."""

    def __init__(self, asks: Any) -> None:
        super().__init__()
        self.asks = asks

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.asks(x)
        return y


def _until_equal(x: Tensor) -> Tensor:
    for _ in range(2):
        half = (x / 2).round()
        if torch.equal(half, x) or torch.allclose(half, x - 1):
            return half - 3
        x = half
    return x


@pytest.mark.usually("lambda>1", "lambda>2")
@pytest.mark.parametrize(
    "asks",
    [
        lambda x: max((x, -x, x - 1), key=lambda y: y[0, 0].item()),  # torch.export's own ``max``
        lambda x: -x if 2 in x.round() else x,
        lambda x: -x if int(x[0].argmax()) == 0 else x,
        lambda x: -x if (x > 0).sum().item() == 2 else x,
        _until_equal,
    ],
)
def test_what_is_asked_is_a_way_whoever_asks(asks: Any) -> None:
    module = Asks(asks)
    found = rows((2, 1), (1, 2), (-2, 0), (-2, -2), (0, 0), (2, 2), (-1, 8))
    source = deploy.source_of("m", module, {"x": torch.tensor([[1.0, 2.0]])}, AXES, samples=found)
    with quiet():
        run: Any = with_values(source).program.module()
    for given in found:
        x = torch.tensor(given["x"])
        torch.testing.assert_close(run(x)[0], module(x))


def test_least_and_largest_floats_are_no_ways() -> None:
    def scaled(x: Tensor) -> Any:
        first, *others = x[0].tolist()
        return x * max(first, *others, 0.5) - min([first, *others])

    source = deploy.source_of("m", Asks(scaled), {"x": torch.randn(3, 4)}, AXES)
    with quiet():
        program = with_values(source).program
    assert not program.graph.find_nodes(op="call_function", target=torch.ops.higher_order.cond)
    run: Any = program.module()
    for far in (0.01, 1.0, -50.0):
        x = far * torch.randn(2, 4)
        torch.testing.assert_close(run(x)[0], scaled(x))


class Matches(nn.Module):
    """The last way gives what the first does, of those that take the first."""

    def forward(self, x: Tensor) -> Tensor:
        match int(x[:, 0].argmax()):
            case 0:
                return x
            case 1:
                return -x
            case place if place > 2:
                return x + place
            case _:
                return x * 3


@pytest.mark.slow
def test_what_fails_behind_another_condition_alone_stays() -> None:
    found = [{"x": np.arange(rows, dtype=np.float32)[:, None]} for rows in (1, 2, 4)]
    source = deploy.source_of(
        "m", Matches(), {"x": torch.tensor(found[2]["x"])}, AXES, samples=found
    )
    with quiet():
        run: Any = with_values(source).program.module()
    for given in found:
        x = torch.tensor(given["x"])
        torch.testing.assert_close(run(x)[0], Matches()(x))
    with pytest.raises(RuntimeError, match="another way through forward"):
        run(torch.tensor([[0.0], [1.0], [2.0]]))


def test_truths_that_are_added_up_are_ways() -> None:
    def scaled(x: Tensor) -> Tensor:
        mean = x.mean().item()
        return x * (0.5, 1.0, 3.0)[sum(mean > edge for edge in (0.0, 1.0))]

    found = rows((-1, -2), (0.5, 0.5), (2, 3))
    source = deploy.source_of("m", Asks(scaled), {"x": torch.rand(1, 2)}, AXES, samples=found)
    with quiet():
        run: Any = with_values(source).program.module()
    for given in found:
        x = torch.tensor(given["x"])
        torch.testing.assert_close(run(x)[0], scaled(x))


class Scales(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * float(np.float64(x.max().item()))
        return y


class Grows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x for _ in {*range(1 + int(x.max() > 1))}])


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (Scales(), "samples differ in a float that Python makes of values"),
        (Grows(), "samples have outputs of other shapes"),
    ],
)
def test_why_ways_are_not_joined(module: nn.Module, why: str) -> None:
    source = deploy.source_of("m", module, {"x": torch.ones(1, 2)}, samples=rows((0.5, 1), (2, 3)))
    with quiet():
        assert with_values(source).apart == why
