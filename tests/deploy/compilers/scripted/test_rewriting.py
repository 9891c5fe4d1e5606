"""Code that torch.jit refuses is scripted in other words, so that its branches stay."""

import functools
import logging
import math
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.deploy.compilers import torchscript
from edgeport.deploy.compilers.upstream import quiet

LIMIT = 100
NEGATIVE, INFINITE = -3.5, math.inf
logger = logging.getLogger(__name__)


class Tells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.logger = logger

    def forward(self, x: Tensor) -> Tensor:
        assert not torch.isnan(x).any(), f"no numbers: {x.sum():.2f}"
        if x.min() < -1e6:
            raise ValueError(f"too small: {x.min().item():.3f} in {x.shape}", x)
        if x.max() > LIMIT:
            print(f"large {x.max():.2f}")  # noqa: T201  # as many do
            logger.warning("large %s", x.max())
            self.logger.info("large")
            logging.debug("large")
            x = x.clamp(max=LIMIT)
        if x.max() < NEGATIVE:
            logger.info("nothing else")
        return x


class Recorder(nn.Module):
    def info(self, x: Tensor) -> None:
        x.mul_(0.5)


class Changes(nn.Module):
    """What only seems to be for people."""

    def __init__(self) -> None:
        super().__init__()
        self.logger = Recorder()

    def forward(self, x: Tensor) -> Tensor:
        y = x * 1
        if x.max() > LIMIT:
            print("large", y.clamp_(max=LIMIT + 1).sum())  # noqa: T201  # as it may be
            self.logger.info(y)
        return self.told(y)

    def told(self, y: Tensor) -> Tensor:
        print = self.logger.info
        print(y)
        return y


class WholeOnly(nn.Module):
    def scaled(self, x: Tensor, by: int = 1) -> Tensor:
        return x * by

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x, x.max().item()) if x.max() > 1 else x  # type: ignore


class Places(WholeOnly):
    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x, x.argmax().item()) if x.max() > 1 else x  # type: ignore


class Counted(nn.Module):
    """What ``or`` gives is a count, and only asked for its truth elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0
        self.bounded = True

    def forward(self, x: Tensor) -> Tensor:
        large = int((x > 1).sum())
        some = self.bounded and x.max() > 1
        if (large or x.min() < -1) and not (large and self.rows):
            x = x / (large or 1) + (large and 2) if large else x - 1
        x = x + int(x.min() < -5 and large) + int(some and 7) * int(large > 3 or 5)
        while large and self.bounded:
            large = large - 1
        return x * ((x < -1).sum().item() or 0.5) * (self.rows or x.shape[0]) + some


class Updates(nn.Module):
    """What torch.jit computes and writes nowhere, or with another sign, or refuses."""

    def forward(self, x: Tensor) -> Tensor:
        keep = x > 0
        for row in range(x.shape[0]):
            if keep[row, 0]:
                keep[row:, 1:] &= x[row, 1:] > 1
        after = keep[:, 1:]
        after |= x[:, :-1] > 2
        keep[0] ^= x[0] > 9
        keep[x < -5] |= x[x < -5] < -6
        squares = [x.clone(), x]
        squares[0][:, 0] **= 2
        places = (x.clamp(-99, 99) * 3).long()
        places %= 5
        places[:, 0] //= 2
        turns = 9
        turns **= 2
        turns //= 2
        turns %= 7
        return squares[0] * keep + places * int(turns)


def limiting(LIMIT: float | None) -> nn.Module:  # noqa: N803
    class Limits(nn.Module):
        """None of the function around it hides a number of the module."""

        def forward(self, x: Tensor) -> Tensor:
            if x.min() > NEGATIVE and LIMIT is not None:
                return x.clamp(max=LIMIT)
            return x * NEGATIVE

    return Limits()


class Constants(nn.Module):
    """A local name hides one of the module."""

    def forward(self, x: Tensor, INFINITE: float = 2.0) -> Tensor:  # noqa: N803
        if x.max() > LIMIT:
            return x * INFINITE
        return torch.where(x > NEGATIVE, x, NEGATIVE)


class Infinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.max() > LIMIT:
            return x.masked_fill(x < 0, -INFINITE)
        return x.masked_fill(x < 0, torch.finfo(x.dtype).min)


class Sets(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for turn in range(4):
            if turn in {0, 3} and x.max() > turn:
                x = x * 0.5
            elif turn not in {0, 1}:
                x = x + 1
        if x.argmax() in {0, 1, 2, 3} or x.max().item() in {0, 1} or int(x.argmax()) in {1, 3}:
            x = x + 2  # of tensors, no set of numbers has any
        largest = x.sin().max().item()
        if largest and (not largest or largest not in (0, 1)):
            return x * 2 if largest else x
        return x


class Items(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        largest = x.max().item()
        mask = (x > 0).float().bool()
        same = mask.bool()
        same[0] = True
        if x.max() > LIMIT:
            x = largest * x.masked_fill(mask, 1.0)
        return x.sum().item() + x + x.nelement() + x.ndimension()


class Unpacks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        rows, *rest = x.shape
        *_, last = x.size()
        if x.max() > LIMIT:
            return x.reshape(*x.shape[:1], -1) * rows
        held = [x, x + 1]
        copied = [*held]
        for row in [*x, *held[1]]:  # the rows of two tensors
            x = x + row
        _wide, *_ = x.mul_(1.5).shape
        if x.max() > LIMIT - 1:
            copied.append(x)
        x = torch.stack(held).sum(0) + len(copied)
        parts = torch.cat([x, *x.split(1, 1)], 1)  # type: ignore[no-untyped-call]
        return parts.view(rows, *parts.shape[1:]) + last + rest[0]


class Counts(nn.Module):
    """Goes through lists of modules by their places; the last of one is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 3
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(4) for _ in range(3))
        self.heads = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.scale = nn.Parameter(torch.rand(3))

    def forward(self, x: Tensor) -> Tensor:
        for i in range(self.depth):
            y = self.norms[i](self.layers[i](x)) * self.scale[i]
            if y.min() > 0:
                continue
            if y.max() > 1:
                x = x + 1
                if x.sum() > 3:
                    break
                x = x + 2
            x = self.layers[i](y)
        for j in range(len(self.heads)):
            for i in range(self.depth - 1):
                x = self.heads[j](x) + self.layers[i](x)
        return x


class Begins(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        first, last = None, None
        best = other = None
        for row in range(x.shape[0]):
            if first is None:
                first = x[row]
            last = x[row]
            if x[row].max() > LIMIT:
                best = x[row]
        if other is None:
            other = x[0]
        found = other + (x[0] if best is None else best)
        assert first is not None
        assert last is not None
        return torch.stack([found, first, last])


class Stops(nn.Module):
    """Where a loop ended is read behind it, and how far it goes is asked once."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.scales = nn.ParameterList([torch.rand(4)])  # a class of torch with a __call__

    def forward(self, x: Tensor) -> Tensor:
        for i in range(len(self.layers)):
            x = self.layers[i](x)
            if x.max() > 1:
                break
        turns = 2 if x.max() > LIMIT else 3
        for j in range(turns):
            turns = turns - 1
            x = self.layers[j](x) + turns
        for j in range(int(x.max() > 0) + 1):
            x = self.layers[j](x) - 10
        found: Tensor = x * (i + 1) + j * self.scales[0]  # pyright: ignore[reportPossiblyUnboundVariable]
        return found


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize(
    "module",
    [
        Stops(),
        Tells(),
        Changes(),
        limiting(None),
        limiting(0.5),
        Counted(),
        Updates(),
        Places(),
        Constants(),
        Infinite(),
        Sets(),
        Items(),
        Unpacks(),
        Counts(),
        Begins(),
    ],
    ids=lambda m: type(m),
)
def test_code_is_scripted_in_other_words(module: nn.Module) -> None:
    source = deploy.source_of("m", module.eval(), {"x": torch.randn(3, 4)}, {"x": {0: "rows"}})
    with quiet():
        made: Any = torchscript.scripted(source, source.flat)
    for rows, far in ((1, 1.0), (3, 1.0), (7, 1e3), (2, 1e5)):
        for x in (torch.randn(rows, 4) * far, -torch.rand(rows, 4) * far - 4):
            with quiet():
                torch.testing.assert_close(made(x)[0], module(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_least_numbers_are_those_of_the_dtype(dtype: torch.dtype) -> None:
    x = torch.tensor([[-1.0, 2.0]], dtype=dtype)
    source = deploy.source_of("m", Infinite().eval(), {"x": x})
    made: Any = torchscript.scripted(source, source.flat)
    torch.testing.assert_close(made(x)[0].to(dtype), Infinite()(x), rtol=0, atol=0)


class Cell(nn.Module):
    """Parameters as many write them, without the annotations that torch.jit wants."""

    def forward(self, x, state=None, *, mask: Tensor = None, scale=2.0, twice=False):  # type: ignore
        if state is None:
            state = torch.zeros_like(x)
        if mask is not None:
            state = state * mask
        state = state * 0.5 + x * scale
        if twice:
            state = state * 2
        return state


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = Cell()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        state = None
        for t in range(x.shape[1]):
            if (x[:, t] > 0).all():
                state = self.cell(x[:, t], state, twice=True)
            else:
                state = self.cell(x[:, t], state, mask=mask)
        assert state is not None
        return torch.as_tensor(state)


@pytest.mark.usually("torchscript")
@pytest.mark.parametrize("format_", ["torchscript", "onnx", "pt2"])
def test_types_that_nobody_has_written_down_are_guessed(format_: str, tmp_path: Path) -> None:
    module = Steps()
    example = {"x": torch.randn(2, 3, 4), "mask": torch.rand(2, 4)}
    made = deploy.export(
        module, example, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows", 1: "time"}, "mask": {0: "rows"}},
    )  # fmt: skip  # one call
    with made.bundle.open(
        {"torchscript": "libtorch", "onnx": "ort-cpu", "pt2": "torch"}[format_]
    ) as s:
        for rows, time in ((1, 1), (1, 7), (5, 2)):
            x, mask = torch.randn(rows, time, 4), torch.rand(rows, 4)
            x[:, -1] = x[:, -1].abs()
            (found,) = s.run({"x": x.numpy(), "mask": mask.numpy()}).values()
            torch.testing.assert_close(torch.tensor(found), module(x, mask))


class EarlyExit(nn.Module):
    """Stops at the first stage that is sure."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 4
        self.stages = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.exits = nn.ModuleList(nn.Linear(8, 3) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        logits = x
        for i in range(self.depth):
            x = self.stages[i](x).relu()
            found: Tensor = self.exits[i](x)
            logits = found
            if logits.softmax(-1).max(-1).values.min() > 0.5:
                return logits
        return logits


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_modules_that_are_never_reached_are_no_turns() -> None:
    module = EarlyExit().eval()
    module.depth = 2
    source = deploy.source_of("m", module, {"x": torch.randn(3, 8)}, {"x": {0: "rows"}})
    with quiet(), pytest.raises(RuntimeError, match="literal for index"):
        torchscript.scripted(source, source.flat)


class Clean(nn.Module):
    @staticmethod
    def cleaned(f: Any) -> Any:
        @functools.wraps(f)
        def clean(self: Any, x: Tensor) -> Tensor:
            return torch.nan_to_num(f(self, x))

        return clean

    @torch.no_grad()
    @cleaned
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.max() > 1 else x


class Clamps(nn.Linear):
    def __call__(self, x: Tensor) -> Tensor:
        return torch.as_tensor(super().__call__(x.clamp(max=5)))


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x if x.shape[0] > 1 else x + 1
        return y * 2 if y is x else y


class Held(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        held = {"y": y, "x": x}
        held["x"] = held["x"] + 1
        held["y"] += held["x"]
        return y + held["y"]


def patched() -> nn.Module:
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))

    def forward(self: Any, x: Tensor) -> Tensor:
        return functional.linear(x.clamp(max=5), self.weight, self.bias)

    module[1].forward = types.MethodType(forward, module[1])
    return module


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (nn.Sequential(Clamps(8, 8)), "not what '0' has"),
        (patched(), "not what '1' has"),
        (Same(), "knows no tensor again"),
        (Held(), "a new tensor into a dict"),
        (Clean(), "leaves out the decorator of 'Clean.forward'"),
        (WholeOnly(), "whole number of"),
    ],
)
def test_no_script_is_made_that_answers_otherwise(module: nn.Module, told: str) -> None:
    source = deploy.source_of("m", module.eval(), {"x": torch.rand(2, 8)})
    with quiet(), pytest.raises(NotImplementedError, match=told):
        torchscript.scripted(source, source.flat)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_what_is_a_script_already_is_taken_as_it_is(tmp_path: Path) -> None:
    script: Any = torch.jit.script(WholeOnly().eval())
    script.save(tmp_path / "m.ts")
    loaded: Any = torch.jit.load(tmp_path / "m.ts")  # type: ignore[no-untyped-call]
    x = torch.tensor([[0.5, 2.75]])
    for module in (script, loaded, nn.Sequential(loaded)):
        source = deploy.source_of("m", module.eval(), {"x": x})
        with quiet():
            made: Any = torchscript.scripted(source, source.flat)
        torch.testing.assert_close(made(x)[0], 2 * x)


class TooFar(EarlyExit):
    def forward(self, x: Tensor) -> Tensor:
        for i in range(2 + int(x.max())):
            x = self.stages[i](x).relu()
        return x + LIMIT


class TwoLengths(EarlyExit):
    def forward(self, x: Tensor) -> Tensor:
        for i in range(len(self.stages)):
            x = self.stages[i](x)
            if x.min() > -LIMIT:
                return x
            if i < len(self.exits) - 1:
                x = self.exits[i](x)
        return x


class OtherPlaces(EarlyExit):
    def forward(self, x: Tensor) -> Tensor:
        for i in range(len(self.stages)):
            if x.max() > LIMIT:
                i = 0
            x = self.stages[i](x)
        return x


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_no_module_is_called_that_forward_does_not_call() -> None:
    x = torch.rand(2, 8)
    far = TooFar().eval()
    source = deploy.source_of("m", far, {"x": x})
    with quiet():
        made: Any = torchscript.scripted(source, source.flat)
        torch.testing.assert_close(made(x)[0], far(x))
        with pytest.raises(torch.jit.Error, match="AssertionError"):
            made(x + 3)
    unequal = TwoLengths().eval()
    unequal.exits = unequal.exits[:3]
    for module in (unequal, OtherPlaces().eval()):
        source = deploy.source_of("m", module, {"x": x})
        with quiet(), pytest.raises(RuntimeError, match=r"literal for index|closed over"):
            torchscript.scripted(source, source.flat)


@pytest.mark.slow
def test_an_early_exit_stays(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = EarlyExit().eval()
    made = deploy.export(
        module, {"x": torch.randn(3, 8)}, tmp_path / "m.edge", formats="onnx",
        dimensions={"x": {0: "rows"}},
    )  # fmt: skip  # one call
    with made.bundle.open("ort-cpu") as session:
        for rows, far in ((1, 0.1), (2, 1.0), (1, 30.0), (5, 300.0)):
            x = torch.randn(rows, 8) * far
            (found,) = session.run({"x": x.numpy()}).values()
            torch.testing.assert_close(torch.tensor(found), module(x))


class Follows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x > 0
        y.logical_not_()[0] |= x[0] > 1
        return y * x


def test_what_would_be_written_into_twice_is_not_scripted() -> None:
    source = deploy.source_of("m", Follows().eval(), {"x": torch.randn(3, 4)})
    told = r"not write by 'y.logical_not_\(\)\[0\]"
    with quiet(), pytest.raises(NotImplementedError, match=told):
        torchscript.scripted(source, source.flat)
