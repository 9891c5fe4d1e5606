"""Sizes that take another way than the example's are tried."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.deploy.exporter import source_of
from edgeport.deploy.proof.size_branches import turned
from edgeport.deploy.sources.samples import sizes_of
from edgeport.runtimes import EdgeportError, Range


class Sixths(nn.Module):
    """No script takes ``**options``, so that a run is recorded."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        return x + 1 if x.shape[1] % 6 == 0 else x


class Both(nn.Module):
    """At the sizes that are tried anyway one of the two does not hold."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        return x + 1 if x.shape[1] % 3 == 0 and x.shape[1] % 4 == 2 else x


class Chosen(nn.Module):
    def forward(self, x: Tensor, **options: Any) -> Tensor:
        return x * (1.0, 2.0)[x.shape[1] // 3 % 2]


class Reads(nn.Module):
    """A number that parts at every size stands before what parts at one."""

    def forward(self, x: Tensor) -> Tensor:
        half = int(x.shape[1] * 0.5)
        return x * 2 if x.shape[1] % 37 == 0 else x[:, : half + 1]


class Rest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[1] % 37 else x * 2  # a number that is asked whether it is true


class Full(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[1] == 300 else x


class Alike(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x.sum() - y.sum() if x.shape[1] == y.shape[1] else x.sum() + y.sum()


class AsInEager(nn.Module):
    """As DINOv2 in transformers, which resizes whatever comes where it is traced."""

    def forward(self, x: Tensor) -> Tensor:
        jit: Any = torch.jit  # it has no types
        return x * 2 if x.shape[1] == 5 and not jit.is_tracing() else x


class Windows(nn.Module):
    """Filled up to whole windows of 9, and cut: none of the sizes that are tried anyway is one."""

    def forward(self, x: Tensor) -> Tensor:
        time = x.shape[1]
        filled = functional.pad(x, (0, 0, 0, (9 - time % 9) % 9))
        windows = filled.view(x.shape[0], -1, 9, x.shape[2])
        mixed = (windows - windows.mean(2, keepdim=True)).reshape(filled.shape)
        return mixed[:, :time].contiguous()


class Square(nn.Module):
    """Of the trained size, and of a few rows, as there is no room for more."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[1] * x.shape[2] == 36 and x.shape[1] == x.shape[2] else x


class Rejects(nn.Module):
    """Sizes above 40, and by an error that is not torch's one that is tried before 6."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > 40:
            raise ValueError("too long")
        if x.shape[1] == 4:
            raise KeyError("short")
        return x * 2 if x.shape[1] == 6 else x.relu()


class Rests(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


def found(module: nn.Module, *inputs: Tensor) -> list[dict[str, int]]:
    free = {"x": {1: "time"}, "y": {1: "other"}}
    source = source_of("m", module, inputs, {name: free[name] for name in "xy"[: len(inputs)]})
    return [sizes_of(source.signature, sample.inputs) for sample in turned(source)]


def test_sizes_that_decide_otherwise_are_found() -> None:
    assert found(Sixths(), torch.randn(2, 9)) == [{"time": 6}]
    assert found(Full(), torch.randn(2, 9)) == [{"time": 300}]
    assert found(Both(), torch.randn(2, 9)) == [{"time": 3}, {"time": 6}, {"time": 12}]
    assert found(Chosen(), torch.randn(2, 9)) == [{"time": 3}]
    assert found(Reads(), torch.randn(2, 12)) == [{"time": 37}]
    assert found(Rest(), torch.randn(2, 9)) == [{"time": 37}]
    assert found(AsInEager(), torch.randn(2, 9)) == [{"time": 5}]
    assert found(Alike(), torch.randn(2, 9), torch.randn(2, 5)) == [{"time": 3, "other": 3}]


def test_equal_sizes_are_tried_beside_few_rows() -> None:
    free = {"x": {0: "rows", 1: "height", 2: "width"}}
    ranges = {"rows": Range(1, 4), "height": Range(2, 12, step=2), "width": Range(2, 12)}
    source = source_of("m", Square(), {"x": torch.randn(2, 4, 5)}, free, ranges)
    tried = [sizes_of(source.signature, sample.inputs) for sample in turned(source)]
    assert {"rows": 1, "height": 6, "width": 6} in tried


@pytest.mark.slow
def test_a_size_at_which_nothing_is_missing_is_tried(tmp_path: Path) -> None:
    """torch.export is then told that what was filled up is longer, and all formats have it."""
    module, example = Windows(), torch.randn(1, 12, 2)
    assert {"time": 9} in found(module, example)
    made = deploy.export(
        module, {"x": example}, tmp_path / "m.edge", dimensions={"x": {1: "time"}},
        ranges={"time": Range(2, 400)},
    )  # fmt: skip  # one call
    for backend in ("ort-cpu", "libtorch", "torch"):
        with made.bundle.open(backend) as session:
            for time in (17, 18, 19, 45):
                x = torch.randn(1, time, 2)
                answer = session.run({"x": x.numpy()})["output"]
                torch.testing.assert_close(torch.from_numpy(answer), module(x))


def test_sizes_that_the_module_rejects_and_modules_without_questions_have_none() -> None:
    assert found(Rejects(), torch.randn(2, 9)) == [{"time": 6}]
    assert found(Rests(), torch.randn(2, 9)) == []


def test_a_recorded_branch_on_a_size_is_refused(tmp_path: Path) -> None:
    line = r"source    .*return x \+ 1 if x\.shape\[1\] % 6 == 0 else x"
    with pytest.raises(EdgeportError, match=line) as caught:
        deploy.export(
            Sixths(), {"x": torch.randn(2, 9)}, tmp_path / "m.edge", formats="torchscript",
            dimensions={"x": {1: "time"}}, ranges={"time": Range(1, 41)},
        )  # fmt: skip  # one call
    for route in ("export", "recorded", "trace"):
        assert f"{route:<10}wrong: libtorch: output, random, time=6" in str(caught.value)
    assert "a size that it fixed, a branch on one" in caught.value.remedy


def test_such_sizes_are_among_the_samples_of_the_bundle(tmp_path: Path) -> None:
    class Even(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.shape[1] % 6 == 0 else x + x

    made = deploy.export(
        Even(), {"x": np.ones((2, 9), np.float32)}, tmp_path / "m.edge", formats="onnx",
        dimensions={"x": {1: "time"}}, ranges={"time": Range(1, 41)},
    )  # fmt: skip  # one call
    assert ("random, time=6", "random") in made.bundle.manifest.samples
