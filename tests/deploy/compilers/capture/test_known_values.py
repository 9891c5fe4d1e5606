"""What hangs on no input is known while a module is captured; what is written to is not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver, disable_observer
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from edgeport import deploy
from edgeport.deploy.compilers.capture import program
from edgeport.deploy.compilers.capture.known_values import SizeInTensorError
from edgeport.deploy.diagnosis.diagnose import diagnose
from edgeport.deploy.diagnosis.remedies import SIZE_IN_TENSOR


class Decides(nn.Module):
    """By buffers: one that is as it is, and one that forward writes to, if it is asked to."""

    def __init__(self, writes: bool) -> None:
        super().__init__()
        self.is_initialised = nn.Buffer(torch.tensor([True]))
        self.is_number = nn.Buffer(torch.tensor([False, True, True, False]))
        self.calls: Tensor = nn.Buffer(torch.tensor(0))
        self.kernel = nn.Buffer(torch.tensor([1.0, 2.0, 1.0]))
        self.plain = torch.tensor([3, 4])
        self.temperature = nn.Parameter(torch.tensor([[0.5], [2.0]]))
        self.writes = writes
        fake: Any = FakeQuantize
        self.quantize = fake(MovingAverageMinMaxObserver, quant_min=0, quant_max=255)
        self.quantize(torch.randn(64, 4))
        self.quantize.apply(disable_observer)

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_initialised:
            x = x * 100
        for column, is_number in enumerate(self.is_number):
            x = x + column if is_number else x
        if self.writes:
            self.calls += 1
        if self.kernel[1] == 2 and self.kernel.sum() > 3 and self.plain.max() == 4:
            x = x / self.kernel.sum()
        for each in torch.relu(self.temperature):
            assert (each >= 0).all()
            x = x / each if each > 1 else x
        if self.calls > 10**9:
            x = x * 3
        quantized: Tensor = self.quantize(x)
        return quantized


@pytest.mark.parametrize("writes", [False, True])
def test_what_a_module_holds_may_decide_unless_it_is_written_to(writes: bool) -> None:
    x = torch.randn(3, 4)
    source = deploy.exporter.source_of("m", Decides(writes), {"x": x}, {"x": {0: "batch"}})
    if writes:
        with pytest.raises(GuardOnDataDependentSymNode):
            program.capture(source)
        return
    (found,) = program.capture(source).module()(x[:2])
    assert torch.equal(found, source.flat(x[:2])[0])


class Window(nn.Module):
    """As MONAI's sliding windows: made anew in each call, and bounded by its own least value."""

    def forward(self, x: Tensor) -> Tensor:
        window = (torch.arange(4.0) - 2).pow(2).neg().exp()
        least = max(window.min().item(), 0.1)
        return x * window.clamp(min=least) if window[0] < 1 and torch.eye(2).any() else x


class Chosen(nn.Module):
    """A mask that forward makes: how much it chooses is asked of the file."""

    def forward(self, x: Tensor) -> Tensor:
        upper = torch.ones(4, 4).triu(1).bool()
        return (x[:, :, None] * x[:, None])[:, upper]


@pytest.mark.parametrize("module", [Window(), Chosen()])
def test_what_forward_makes_without_inputs_is_known(module: nn.Module) -> None:
    x = torch.randn(3, 4)
    source = deploy.exporter.source_of("m", module, {"x": x}, {"x": {0: "batch"}})
    (found,) = program.capture(source).module()(x[:2])
    assert torch.equal(found, module(x[:2]))


class Written(nn.Module):
    """Zeros are written to, through a view of them."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        zeros = torch.zeros(64)
        if self.way == "free":
            zeros[: x.shape[0]].add_(x[:, 0])
        elif self.way == "fixed":
            zeros.view(16, 4)[3] = x[0]
        elif self.way == "listed":
            torch.ops.aten._foreach_add_([zeros.view(16, 4)[3]], [x[0]])
        else:
            zeros[:4].copy_(x[0])
        return x + 1 if zeros.max() > 0 else x


@pytest.mark.parametrize("way", ["free", "fixed", "listed", "copied"])
def test_what_forward_writes_to_is_not_known(way: str) -> None:
    x = torch.randn(3, 4)
    source = deploy.exporter.source_of("m", Written(way), {"x": x}, {"x": {0: "batch"}})
    with pytest.raises(GuardOnDataDependentSymNode):
        program.capture(source)


class Padded(nn.Module):
    """As EnCodec: how much is missing is computed in tensors that hold no more than numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.stride = nn.Buffer(torch.tensor(3))

    def forward(self, x: Tensor) -> Tensor:
        missing = torch.ceil(x.shape[1] / self.stride).long() * self.stride - x.shape[1]
        return x if missing > 1 else -x  # here


class Kinds(nn.Module):
    """``round`` goes through tensors of the number alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x * len({round(value, 1) for value in x[0].tolist()})


def test_a_number_of_values_is_none_of_sizes() -> None:
    source = deploy.exporter.source_of("m", Kinds(), {"x": torch.randn(3, 4)}, {"x": {0: "batch"}})
    with pytest.raises(GuardOnDataDependentSymNode):
        program.capture(source)


def test_a_decision_by_a_size_in_a_tensor_says_so() -> None:
    x = torch.randn(3, 4)
    source = deploy.exporter.source_of("m", Padded(), {"x": x}, {"x": {0: "batch", 1: "time"}})
    with pytest.raises(SizeInTensorError) as caught:
        program.capture(source)
    found = diagnose(caught.value, source.flat)
    assert found.problem == "forward decides by a number that it makes of a free size in tensors"
    assert found.source is not None
    assert found.source.endswith("return x if missing > 1 else -x  # here")
    assert found.remedy == SIZE_IN_TENSOR
    fixed = deploy.exporter.source_of("m", Padded(), {"x": x}, {"x": {0: "batch"}})
    (answer,) = program.capture(fixed).module()(x[:2])
    assert torch.equal(answer, x[:2])


class Chooses(nn.Module):
    """By a sum, which torch's kernel makes in memory that it makes of sizes."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        return x.cos() if x.sum() < 1e9 else x.sin()


def test_a_decision_by_values_is_told_as_one() -> None:
    source = deploy.exporter.source_of("m", Chooses(), {"x": torch.randn(3, 4)}, {"x": {0: "n"}})
    with pytest.raises(GuardOnDataDependentSymNode):
        program.capture(source)
