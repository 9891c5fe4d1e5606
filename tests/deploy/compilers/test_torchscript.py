"""What becomes of a TorchScript file on its way to disk."""

import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy, runtimes
from edgeport.deploy.compilers import torchscript
from edgeport.deploy.compilers.stored import Compiled
from edgeport.deploy.compilers.torchscript import without_debug_records
from edgeport.deploy.compilers.upstream import quiet
from edgeport.runtimes import Range


class Newer(nn.Module):
    """Operators that a file of an older version holds otherwise."""

    def forward(self, x: Tensor, n: Tensor) -> tuple[Tensor, ...]:
        return (
            functional.gelu(x, approximate="tanh"),
            torch.div(n, 2),
            x * torch.full((5,), 3),
            x + torch.linspace(0, 1, 5),
        )


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_operators_stay_those_of_today(tmp_path: Path) -> None:
    example = {"x": torch.randn(2, 5), "n": torch.tensor([-7, 7])}
    made = deploy.export(Newer(), example, tmp_path / "m.edge", formats="torchscript")
    assert made.report.passed
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(Newer(), (*example.values(),)), buffer)  # type: ignore[no-untyped-call]
    versions = [
        next(archive.read(name) for name in archive.namelist() if name.endswith("version"))
        for archive in map(
            zipfile.ZipFile,
            (io.BytesIO(buffer.getvalue()), io.BytesIO(without_debug_records(buffer.getvalue()))),
        )
    ]
    assert versions == [b"10\n"] * 2


class Attached(nn.Module):
    """As a LightningModule, which has a trainer while it is in training."""

    __jit_unused_properties__ = ("trainer",)

    @property
    def trainer(self) -> object:
        raise RuntimeError("Attached is not attached to a trainer")


class Unattached(Attached):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


class Holds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.held = Unattached()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.held(x)
        return y


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("module", [Unattached(), Holds()])
@pytest.mark.parametrize("compile_", [torchscript.script, torchscript.trace])
def test_a_property_may_raise(
    module: nn.Module, compile_: Callable[..., Compiled], tmp_path: Path
) -> None:
    source = deploy.source_of("m", module.eval(), {"x": torch.randn(2, 3)}, {"x": {0: "batch"}})
    assert compile_(source, tmp_path).artefact.format == "torchscript"


class Ranks(nn.Module):
    """Its dictionary is no TorchScript, so that what torch.export captured is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.options = {"dim": 1, "stable": True}

    def forward(self, x: Tensor) -> Tensor:
        return torch.argsort(x, **self.options)  # type: ignore[no-any-return, call-overload]


def test_a_stable_sort_stays_one(tmp_path: Path) -> None:
    deploy.export(
        Ranks(), {"x": torch.randn(2, 5)}, tmp_path / "m.edge", formats="torchscript",
        dimensions={"x": {0: "batch", 1: "time"}},
    )  # fmt: skip  # one call
    x = np.random.default_rng(0).integers(0, 3, (4, 100)).astype(np.float32)
    with runtimes.open(tmp_path / "m.edge", "libtorch") as session:
        found = session.run({"x": x})["output"]
    assert (found == x.argsort(1, kind="stable")).all()


class Sizes(nn.Module):
    """Sizes, as small as 1, go to operators of many kinds; its dictionary is no TorchScript."""

    def __init__(self) -> None:
        super().__init__()
        self.options = {"dim": 1, "keepdim": True}

    def forward(self, x: Tensor) -> Tensor:
        x = functional.avg_pool1d(x, 3, 1)
        batch, time = x.shape
        y = x.unsqueeze(1).expand(batch, 3, time).reshape(batch, 3 * time)
        y = y + torch.arange(3 * time) // 2 + torch.ones(batch, 3 * time).cumsum(1)
        y[:, time : 2 * time] = x.repeat(1, 2)[:, time:]
        y = functional.pad(y, (time, 0)) - torch.zeros(batch, 4 * time)
        return y - y.mean(**self.options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.slow
def test_what_was_captured_keeps_its_free_sizes(tmp_path: Path) -> None:
    proved: list[str] = []

    def keep(event: object) -> None:
        if isinstance(event, deploy.Attempt) and event.outcome == "proved":
            proved.append(event.route)

    deploy.export(
        Sizes(), {"x": torch.randn(2, 5)}, tmp_path / "m.edge", formats="torchscript",
        dimensions={"x": {0: "batch", 1: "time"}}, ranges={"time": Range(3, 64)}, on_event=keep,
    )  # fmt: skip  # one call
    assert proved == ["export"]


class Flags(nn.Module):
    """``True`` as a number, which a trace asserts not to meet; a script takes no ``**options``."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        size = x.shape[1]
        seen = torch.full((size, size), True).tril()
        seen |= x.new_full((size, size), True, dtype=torch.bool).triu(2)
        seen = seen.masked_fill(torch.ones_like(seen).tril(-3), False)
        past = torch.where(seen, True, x[0] > 1)
        return torch.where(past == True, x, torch.full((), fill_value=2.5))  # noqa: E712


class Spans(nn.Module):
    """A table as far as the rows go, by a number that was a size, a tensor, and a number again."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(32, 4))

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        span = torch.tensor(min(x.shape[1], 16))
        rows = max(x.shape[1] - 3, 2)
        place = torch.clamp(torch.arange(x.shape[1]) + span, 0, span * 2 - 1)  # type: ignore[call-overload]  # a tensor is a bound too
        near: Tensor = self.table[16 - span : 16 + span][place]
        return x + near + torch.arange(rows).sum()


class Resizes(nn.Module):
    """Operators that are given free sizes, by which a trace fixes them."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        y = functional.conv1d(x, torch.ones(4, 4, 3), stride=2, padding=1)[:, None]
        larger = functional.interpolate(y, size=(4, x.shape[2]), mode="bilinear")
        return larger[:, 0] + x


class Floats(nn.Module):
    """Sizes as floats, in tensors, and as the first place alone."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        size = x.shape[1]
        y = x / math.sqrt(size) * float(size) + x.new_tensor([size, 1]).sum()
        return y.masked_fill(x > 1, size)[:, -(size // 2) :]


@pytest.mark.usually("module1")
@pytest.mark.parametrize("module", [Flags(), Spans(), Resizes(), Floats()])
def test_what_a_trace_dislikes_is_written_otherwise(module: nn.Module, tmp_path: Path) -> None:
    events: list[Any] = []
    axes = {Flags: (1, 2), Spans: (1,), Resizes: (2,), Floats: (1,)}[type(module)]
    deploy.export(
        module, {"x": torch.randn(2, 4, 4)}, tmp_path / "m.edge",
        formats="torchscript", ranges={"time": Range(4, 40)}, on_event=events.append,
        dimensions={"x": {0: "batch", **dict.fromkeys(axes, "time")}},
    )  # fmt: skip  # one call
    assert next(each.route for each in events if getattr(each, "outcome", "") == "proved") == (
        "export"
    )


class Numbers(nn.Module):
    """Numbers made of sizes, of which a trace makes float32: 90 * 0.7 is 62.99999999999999."""

    def forward(self, x: Tensor, **options: Any) -> tuple[Tensor, ...]:
        rows, columns = x.shape
        mean = x.mean()
        return (
            mean + torch.arange(rows * 1.1),
            x.new_zeros(int(rows * 0.7), math.ceil(rows / 0.7)),
            x.new_zeros(round(rows * 0.3), int(math.sqrt(rows))),
            mean * (rows / columns),
            x > rows * 0.01,
            x.abs() ** (rows * 0.01),
            torch.arange(3) * (rows * 0.7) + mean,
            torch.full((2,), rows * 0.7, dtype=torch.float64),
            x.new_zeros(int(min(rows * 0.1, 0.7) * 10)),
        )


@pytest.mark.usually("dtype0")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_made_of_sizes_are_those_of_python(dtype: torch.dtype, tmp_path: Path) -> None:
    module = Numbers().eval()
    free, ranges = {"x": {0: "rows"}}, {"rows": Range(8)}
    source = deploy.source_of("m", module, torch.randn(12, 10, dtype=dtype), free, ranges)
    with quiet():
        torchscript.exported(source, tmp_path)
    with runtimes.open(tmp_path / "model.ts", backend="libtorch") as session:
        for rows in (8, 21, 50, 90, 100, 170, 180):
            x = torch.randn(rows, 10, dtype=dtype)
            found = session.run({"x": x.numpy()}).values()
            for answer, expected in zip(found, module(x), strict=True):
                torch.testing.assert_close(torch.from_numpy(answer), expected)


class Narrow(nn.Module):
    def forward(self, x: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        rows = x.shape[0]
        return x * 1000 / float(rows * rows), x[0, 0] * (rows * 0.7)


def test_numbers_beside_float16_are_not_rounded_to_it(tmp_path: Path) -> None:
    """The square of 256 is Inf in float16."""
    source = deploy.source_of("m", Narrow(), torch.randn(12, 3).half(), {"x": {0: "rows"}})
    with quiet():
        torchscript.exported(source, tmp_path)
    with runtimes.open(tmp_path / "model.ts", backend="libtorch") as session:
        for rows in (2, 255, 256, 300):
            x = torch.randn(rows, 3).half()
            found = session.run({"x": x.numpy()}).values()
            for answer, expected in zip(found, Narrow()(x), strict=True):
                torch.testing.assert_close(torch.from_numpy(answer), expected)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("function", [
    lambda x: torch.full((x.shape[0],), True),
    lambda x: torch.full((x.shape[0],), True, dtype=torch.float32),
    lambda x: torch.full_like(x, True, dtype=torch.bool),
    lambda x: x.new_full((2,), fill_value=True),
    lambda x: (x > 0).fill_(True),
    lambda x: (x > 0) & True,
    lambda x: x + True,
    lambda x: torch.full((2,), 1.5),
])  # fmt: skip
def test_flags_keep_their_value_and_dtype_in_a_trace(function: Any) -> None:
    with torchscript._NoFlags():
        traced: Any = torch.jit.trace(function, torch.randn(3), check_trace=False)  # type: ignore[no-untyped-call]
    x = torch.randn(5)
    assert torch.equal(traced(x), function(x))
    assert traced(x).dtype == function(x).dtype


class Turns(nn.Module):
    """One buffer, read as real and as complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = nn.Buffer(torch.randn(16, 2, 2))

    def forward(self, x: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        picked = torch.view_as_complex(self.turns)[start]
        return x * self.turns[: x.shape[0]], torch.view_as_real(picked)


def test_memory_of_two_dtypes_is_stored_twice(tmp_path: Path) -> None:
    made = deploy.export(
        Turns(), {"x": torch.randn(3, 2, 2), "start": torch.tensor([0, 15, 4])},
        tmp_path / "m.edge", formats="torchscript", ranges={"batch": Range(1, 16)},
        dimensions={"x": {0: "batch"}, "start": {0: "batch"}},
    )  # fmt: skip  # one call
    assert made.report.passed


@pytest.mark.usually("RNN", "GRU")
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_that_were_captured_take_any_time(kind: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = kind(3, 4, 2, bidirectional=True, batch_first=True)
    source = deploy.source_of("m", Only(layer), {"x": torch.randn(2, 9, 3)}, {"x": {1: "time"}})
    with quiet():
        torchscript.exported(source, tmp_path)
    x = torch.randn(2, 50, 3)
    with runtimes.open(tmp_path / "model.ts", backend="libtorch") as session:
        (found,) = session.run({"x": x.numpy()}).values()
    torch.testing.assert_close(torch.tensor(found), layer(x)[0])


class Only(nn.Module):
    """The first of what a layer gives."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        first: Tensor = self.layer(x)[0]
        return first


class Rolled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.roll(x.shape[1] // 3, 1)


def test_what_was_captured_is_rolled_by_a_size(tmp_path: Path) -> None:
    source = deploy.source_of("m", Rolled(), {"x": torch.randn(2, 9)}, {"x": {1: "width"}})
    with quiet():
        torchscript.exported(source, tmp_path)
    x = torch.randn(2, 50)
    with runtimes.open(tmp_path / "model.ts", backend="libtorch") as session:
        (found,) = session.run({"x": x.numpy()}).values()
    assert torch.equal(torch.tensor(found), x.roll(16, 1))
