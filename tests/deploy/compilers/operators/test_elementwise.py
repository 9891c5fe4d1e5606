"""What ONNX has not for masks and narrow integers, through torch's ONNX exporter."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.runtimes import Range

aten: Any = torch.ops.aten  # operators are made on demand: no types


class Masks(nn.Module):
    """Sums of masks, and powers of narrow integers."""

    def forward(self, x: Tensor, n: Tensor) -> list[Tensor]:
        mask = x > 0
        mask |= x < -1
        mask &= x < 2
        mask ^= x > 1.5
        mask += x > 1.8
        put = x.put(n[0, :2].long(), x[0, :2]).put(n[0, :1].long(), x[0, :1], accumulate=True)
        x = x + aten._is_all_true(x < 3) + aten._is_any_true(x > 2)
        return [x + mask, n**2, n**3, 2 ** n.short(), n.to(torch.uint8) ** n.to(torch.uint8), put]


class Spaced(nn.Module):
    """Numbers a fraction apart, as many as a free size says, in float32 and in float16."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = x.shape[1]
        places = torch.arange(0, count, 1.2)
        turned = torch.cos(x[:, :1] * torch.arange(-1, count - 1, 0.3) * 10)
        return x[:, :1] + places % 1.0, turned, x[:, :1] + torch.arange(0, count, 0.5).half()


@pytest.mark.slow
def test_numbers_a_fraction_apart_in_onnx(tmp_path: Path) -> None:
    torch.manual_seed(0)
    axes = {"x": {0: "batch", 1: "time"}}
    made = deploy.export(
        Spaced().eval(), {"x": torch.randn(2, 40)}, tmp_path / "m.edge", formats="onnx",
        dimensions=axes, ranges={"time": Range(2, 400)},
    )  # fmt: skip  # one call
    (report,) = made.report.backends
    assert max(v.figures.ratio for v in report.verdicts if v.kind == "random") < 3


def test_masks_and_narrow_integers_in_onnx(tmp_path: Path) -> None:
    made = deploy.export(
        Masks(),
        {"x": torch.randn(3, 4), "n": torch.randint(0, 6, (3, 4), dtype=torch.int8)},
        tmp_path / "m.edge", formats=["onnx"], dimensions={"x": {0: "batch"}, "n": {0: "batch"}},
        ranges={"batch": Range(2)},  # one row has no place 5
    )  # fmt: skip  # one call
    assert made.report.passed


class Hides(nn.Module):
    """What a mask of whole numbers hides, as many models write it."""

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        hidden = x + (1.0 - mask) * -1e4
        return hidden, x * (1.0 - x), 3 - mask, torch.rsub(mask.to(torch.int8), 2.5, alpha=2)


def test_a_number_less_a_mask_of_whole_numbers_in_onnx(tmp_path: Path) -> None:
    events: list[Any] = []
    deploy.export(
        Hides().eval(),
        {"x": torch.randn(3, 4), "mask": torch.randint(0, 2, (3, 4))},
        tmp_path / "m.edge", formats=["onnx"], dimensions={"x": {0: "batch"}, "mask": {0: "batch"}},
        on_event=events.append,
    )  # fmt: skip  # one call
    (tried,) = [event for event in events if isinstance(event, deploy.Attempt)]
    assert (tried.route, tried.outcome) == ("dynamo", "proved")


class OneBound(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        far = -x.abs().log()  # of 0 it is Inf
        return far.clamp(min=0), (-far).clamp_max(3.0), far.clamp_min(-1), far.clamp(-1, 30)


def test_what_has_one_bound_stays_infinite_in_onnx(tmp_path: Path) -> None:
    """The other bound would be the largest finite number."""
    made = deploy.export(
        OneBound(), {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=["onnx"],
        dimensions={"x": {0: "batch"}},
    )  # fmt: skip  # one call
    assert made.report.passed
    assert not [note for note in made.notes if "Inf" in note]
