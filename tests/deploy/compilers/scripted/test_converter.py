"""Lists that grow in loops over a free size, and branches on sizes, as exported programs."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.capture.special_sizes import without_special_sizes
from edgeport.deploy.compilers.scripted import converter
from edgeport.deploy.compilers.upstream import inference_only, quiet
from edgeport.runtimes import ExportError, Range, ValuesError


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(12, 6)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.cell(torch.cat([x, h], 1)))


class Appends(Steps):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = torch.zeros_like(x[:, 0])
        out, sums = [], []
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h)
            out.append(h.unsqueeze(1))
            sums.append(h.sum(1))
        return torch.cat(out, 1), torch.stack(sums, -1), out[-1] * len(out)


class Starts(Steps):
    """With one in the list; ``x.size(1)`` was the example's."""

    def forward(self, x: Tensor) -> Tensor:
        h = x[:, 0]
        out = [h]
        for t in range(1, x.size(1)):
            h = self.step(x[:, t], h)
            out.append(h)
        return torch.stack(out, 1)


class Backwards(Steps):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        out = []
        for t in range(x.size(1) - 1, -1, -2):
            h = self.step(x[:, t], h)
            out.append(h)
        return torch.stack(out, 1)


class Writes(Steps):
    """Into tensors from outside: a slice, a view, a sum."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = torch.zeros_like(x[:, 0])
        out, last, total = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(h)
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h)
            out[:, t] = h
            last.select(1, -1).copy_(h)
            total += h
        return out, last, total


class Marks(Steps):
    """In a branch, too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        marked, odd = torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            if t % 2 == 1:
                odd += x[:, t]
            else:
                marked[:, 0] = x[:, t, 1]
        return marked, odd


class Changes(Steps):
    """What a loop carries, in place."""

    def forward(self, x: Tensor) -> Tensor:
        h = x[:, 0]
        for t in range(1, x.shape[1]):
            h = self.step(x[:, t], h)
            h[:, 0] = 0.5
            h.mul_(2)
        return h


class Iterates(Steps):
    """Over a tensor, and a list of sizes that is cut."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[:1] + x.shape[2:])
        out = []
        for part in x.transpose(0, 1):
            h = self.step(part, h)
            out.append(h)
        return torch.stack(out)


class Listens(Steps):
    """A recurrent layer over what has grown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(6, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for t in range(x.shape[1]):
            out.append(x[:, t] * t)
        y: Tensor = self.layer(torch.stack(out, 1))[0]
        return y


class Adds(Steps):
    """As LSTMs are written for torch.jit."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        inputs = x.unbind(1)
        out: list[Tensor] = []
        for t in range(len(inputs)):
            h = self.step(inputs[t], h)
            out += [h]
        return torch.stack(out)


class BeginsWithNone(Steps):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        last: Tensor | None = None
        out: list[Tensor] = []
        for t in range(x.size(1)):
            last = x[:, t] if last is None else self.step(x[:, t], last)
            out.append(last * 2)
        assert last is not None
        return torch.stack(out, 1), last


class Splits(Steps):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        out: list[Tensor] = []
        for part in torch.split(x, 1, dim=1):
            h = self.step(part.squeeze(1), h)
            out.append(h)
        return torch.stack(out, 1)


class Weighs(Steps):
    def forward(self, x: Tensor) -> Tensor:
        weights = torch.linspace(0, 1, x.size(1))
        total = torch.zeros_like(x[:, 0])
        for t in range(x.size(1)):
            total = self.step(x[:, t] * weights[t], total)
        return total


class Normalises(Steps):
    """``group_norm`` raises where a channel has one value, which is asked of the free batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            h = self.norm(self.step(x[:, t], h))
        return h


@pytest.mark.usually("module1]", "module5]", "module6]", "module8]", "module12]")
@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize(
    "module",
    [
        *(Appends(), Starts(), Backwards(), Adds(), Writes(), Marks(), Changes(), Iterates()),
        *(Listens(), BeginsWithNone(), Splits(), Weighs(), Normalises()),
    ],
)
def test_loops_over_a_free_size(module: nn.Module) -> None:
    source = deploy.source_of(
        "m", module.eval(), {"x": torch.randn(2, 4, 6)}, {"x": {0: "batch", 1: "time"}}
    )
    with quiet(), inference_only():
        program = without_special_sizes(partial(converter.convert, source))
        captured: Any = program.module()
    for batch, time in ((1, 1), (3, 2), (2, 9)):
        x = torch.randn(batch, time, 6)
        expected = module(x)
        expected = expected if isinstance(expected, tuple) else (expected,)
        torch.testing.assert_close(captured(x), expected)


class Reads(Steps):
    def forward(self, x: Tensor) -> Tensor:
        out = [x[:, 0]]
        for t in range(1, x.size(1)):
            out.append(self.step(x[:, t], out[-1]))
        return torch.stack(out, 1)


class Chooses(Steps):
    def forward(self, x: Tensor) -> Tensor:
        out = []
        for t in range(x.size(1)):
            if t % 2 == 0:
                out.append(x[:, t])
        return torch.stack(out, 1)


@pytest.mark.usually("module1")
@pytest.mark.parametrize("module", [Reads(), Chooses()])
def test_what_grows_otherwise_is_refused(module: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        deploy.export(
            module, {"x": torch.randn(2, 4, 6)}, tmp_path / "m.edge", formats=["pt2"],
            dimensions={"x": {0: "batch", 1: "time"}},
        )  # fmt: skip  # one call
    assert "a list grows in a branch, or is read in the loop in which it grows" in str(caught.value)


class Both(nn.Module):
    """TorchScript makes a branch of ``and``, with a constant on one side."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 4 and x.shape[0] % 3 == 1:
            return x + 1
        return x * 3


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_two_conditions_on_sizes_at_once() -> None:
    source = deploy.source_of("both", Both(), torch.randn(2, 3), {"x": {0: "rows"}})
    with quiet(), inference_only():
        program = without_special_sizes(partial(converter.convert, source))
        captured: Any = program.module()
    for rows in (1, 4, 5, 7, 10):
        x = torch.randn(rows, 3)
        torch.testing.assert_close(captured(x), (Both()(x),))


class Largest(nn.Module):
    """torch takes a size for more than 0 whatever its range says."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 0:
            x = x - x.max()
        return x * 3


def test_a_branch_on_no_rows_is_kept(tmp_path: Path) -> None:
    made = deploy.export(
        Largest(), {"x": torch.randn(2, 3)}, tmp_path / "m.edge", formats=["pt2"],
        dimensions={"x": {0: "rows"}}, ranges={"rows": Range(0, 9)},
    )  # fmt: skip  # one call
    with made.bundle.open("torch") as session:
        x = np.ones((0, 3), np.float32)
        assert session.run({"x": x})["output"].shape == (0, 3)


class AsksNumbers(nn.Module):
    """``if len(state)``, as Silero's VAD has it: of 2, which is fixed, and of a free size."""

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        if len(state):
            x = x + state[1]
        if x.shape[0] - 4:
            return x + 1
        return x * 3


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_numbers_as_conditions() -> None:
    example = {"x": torch.randn(2, 3), "state": torch.randn(2, 3)}
    source = deploy.source_of("asks", AsksNumbers(), example, {"x": {0: "rows"}})
    with quiet(), inference_only():
        program = without_special_sizes(partial(converter.convert, source))
        captured: Any = program.module()
    for rows in (1, 4, 5):
        x, state = torch.randn(rows, 3), torch.randn(2, 3)
        torch.testing.assert_close(captured(x, state), (AsksNumbers()(x, state),))


class WritesInBranch(nn.Module):
    """Into a tensor from before it, as a whole, in part, and through a view."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, z = x * 2, x * 3
        row = z[1]
        if bool(x.sum() > 100):
            y[0] = 0.0
            y += 1
            row.fill_(7)
        return y, z


class WritesInLoop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out = x.clone()
        for step in range(x.shape[0] - 1, 0, -1):
            out[step - 1] += out[step]
            if bool(out[step].sum() > 100):
                out[step] = -1.0
        return out


class WritesAndGrows(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        seen = torch.zeros(x.shape[1])
        out = []
        for step in range(x.shape[0]):
            seen += x[step]
            out.append(seen * 2)
        return torch.stack(out), seen


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("module", [WritesInBranch(), WritesInLoop(), WritesAndGrows()])
def test_what_blocks_write_into_tensors_from_outside_is_kept(module: nn.Module) -> None:
    source = deploy.source_of("m", module, {"x": torch.randn(3, 4)}, {"x": {0: "rows"}},
                              {"rows": Range(2, 9)})  # fmt: skip  # one thing
    with quiet(), inference_only():
        program = without_special_sizes(partial(converter.convert, source))
        captured: Any = program.module()
    for rows in (2, 3, 7):
        for x in (torch.randn(rows, 4), torch.rand(rows, 4) * 100):
            expected = module(x.clone())
            expected = expected if isinstance(expected, tuple) else (expected,)
            torch.testing.assert_close(captured(x), expected)


class ReadsAView(nn.Module):
    """What no sample may tell: the whole is written into, and a part from before is read."""

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        part = out[:, :2]
        if bool(x.sum() > 1e6):
            part.add_(1)
            out.mul_(2)
        return out


class CarriesWhatItWrites(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        z = y
        while bool(x.sum() > 1e6):
            y.mul_(0.5)
            z = z + y
            x = x * 0.5
        return z


class WritesResult(nn.Module):
    """The result of the branch may be what was there before, and is written into."""

    def forward(self, x: Tensor) -> Tensor:
        y, z = x * 2, x * 3
        if bool(x.sum() > 1e6):
            z = y
        z += 1.0
        return y - z.sum()


class WritesBefore(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y, z = x * 2, x * 3
        if bool(x.sum() > 1e6):
            z = y
        y += 1.0
        return z * 2


class WritesIntoParts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        for part in torch.split(y, 1):
            if bool(x.sum() > 1e6):
                part.mul_(3)
        return y


class SetsInList(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        states = [x[0], x[0]]
        for t in range(x.size(0)):
            states[0] = states[0] + x[t]
        return states[0] + states[1]


PARTS = "a branch or a loop writes into a part of a tensor, taken from a list of them"
HOLDS = "a branch or a loop changes what a list holds"
VIEW = "a branch or a loop writes into a tensor, and uses a view of it from before"
RESULT = "a branch or a loop gives on a tensor from before, and one of both is written into"


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize(
    ("module", "told"),
    [
        (ReadsAView(), VIEW),
        (CarriesWhatItWrites(), VIEW),
        (WritesResult(), RESULT),
        (WritesBefore(), RESULT),
        (WritesIntoParts(), PARTS),
        (SetsInList(), HOLDS),
    ],
)
def test_what_would_not_see_a_write_is_refused(module: nn.Module, told: str) -> None:
    source = deploy.source_of("m", module, {"x": torch.randn(3, 4)}, {"x": {0: "rows"}})
    with quiet(), inference_only(), pytest.raises(NotImplementedError, match=told):
        converter.convert(source)


class AddsUp(nn.Module):
    """Writes that are read through the results alone."""

    def forward(self, x: Tensor) -> Tensor:
        total = x * 2
        if bool(x.sum() > 0):
            total += 1.0
            if bool(x.sum() > 20):
                total *= 2.0
        while bool(x.abs().sum() > 1.0):
            total += x
            x = x * 0.5
        y = total
        if bool(total.sum() > 0):
            y = total * 3
        return y.relu_() + 1.0


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_writes_that_go_on_through_a_result() -> None:
    source = deploy.source_of("adds", AddsUp(), torch.randn(2, 3), {"x": {0: "rows"}})
    with quiet(), inference_only():
        captured: Any = converter.convert(source).module()
    for x in (torch.ones(2, 3), -torch.ones(1, 3), torch.full((4, 3), 9.0)):
        torch.testing.assert_close(captured(x.clone()), (AddsUp()(x),))


class Refuses(nn.Module):
    """What many begin with; of tensors, numbers and sizes, and in loops and branches."""

    def forward(self, x: Tensor) -> Tensor:
        assert (x > -1e6).all(), "too small"
        if x.max().item() > 1e6 or x.shape[0] * x.shape[1] > 5000:
            raise ValueError("too large")
        h = x[:, 0]
        for t in range(x.shape[1]):
            h = torch.tanh(h + x[:, t])
            if torch.isnan(h).any():
                raise ValueError("no numbers")
        if x.sum() > 0:
            h = h * 2
        elif x.sum() <= 0:
            h = h * 3
        else:
            raise ValueError("no sum")
        return h


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_what_raises_is_a_check(tmp_path: Path) -> None:
    free = {"x": {0: "rows", 1: "time"}}
    source = deploy.source_of("m", Refuses(), torch.randn(2, 5), free)
    with quiet(), inference_only():
        captured: Any = converter.convert(source).module()
    for x in (torch.ones(3, 4), -torch.ones(2, 7)):
        torch.testing.assert_close(captured(x), (Refuses()(x),))
    for x in (*(torch.full((2, 5), v) for v in (-1e7, 1e7, math.nan)), torch.ones(101, 50)):
        with pytest.raises(RuntimeError, match="forward raises"):
            captured(x)
    made = deploy.export(
        Refuses(), {"x": torch.randn(2, 5)}, tmp_path / "m.edge", formats="onnx",
        dimensions=free, ranges={"rows": Range(1, 8), "time": Range(1, 12)},
    )  # fmt: skip  # one call
    with made.bundle.open("ort-cpu") as session:
        (found,) = session.run({"x": np.ones((3, 9), np.float32)}).values()
        with pytest.raises(ValuesError, match="another way through forward than the file has"):
            session.run({"x": np.full((3, 9), 1e7, np.float32)})
    torch.testing.assert_close(torch.tensor(found), Refuses()(torch.ones(3, 9)))
