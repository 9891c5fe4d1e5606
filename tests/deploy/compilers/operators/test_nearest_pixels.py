"""Images are resized to the pixels that torch takes, from every size to every other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.onnx_files import onnx_export
from edgeport.deploy.compilers.operators.nearest_pixels import _is_kept
from edgeport.deploy.compilers.targets import negotiate
from edgeport.deploy.compilers.upstream import quiet
from edgeport.runtimes import Range


class AsLargeAs(nn.Module):
    """As in a feature pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(3, 3, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        coarse = self.coarse(fine)
        y: Tensor = fine + functional.interpolate(coarse, size=fine.shape[2:])
        return y


class Sizes(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            functional.interpolate(x, size=(32, 32)),
            functional.interpolate(x, scale_factor=1.7),
            functional.interpolate(x, size=(int(x.shape[2] * 0.7), x.shape[3])),
            functional.interpolate(x.flatten(2), size=33),
        )


class Scripted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        small = functional.interpolate(x, scale_factor=[0.7, 0.7])
        return functional.interpolate(small, size=x.shape[2:])


@pytest.mark.usually("module0-dynamo", "module2-converted")
@pytest.mark.parametrize(
    ("module", "route"),
    [
        (AsLargeAs(), onnx_export.dynamo),
        (Sizes(), onnx_export.dynamo),
        (Scripted(), onnx_export.converted),
    ],
)
def test_pixels_are_those_of_torch(module: nn.Module, route: Any, tmp_path: Path) -> None:
    free = {"x": {2: "rows", 3: "columns"}}
    ranges = {"rows": Range(8), "columns": Range(8)}
    source = deploy.source_of("m", module.eval(), torch.randn(1, 2, 20, 24), free, ranges)
    with quiet():
        route(source, tmp_path, negotiate())
    with runtimes.open(tmp_path / "model.onnx") as session:
        for rows, columns in ((14, 26), (28, 30), (112, 52), (126, 54), (189, 9), (45, 97)):
            x = torch.randn(1, 2, rows, columns)
            found = session.run({"x": x.numpy()})
            expected = module(x)
            answers = expected if isinstance(expected, tuple) else (expected,)
            for answer, true in zip(found.values(), answers, strict=True):
                np.testing.assert_allclose(answer, true.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("old", "count", "factor", "kept"),
    [(14, 28, None, True), (14, 32, None, False), (32, 16, None, True), (10, 15, 1.5, True)],
)
def test_the_kernel_stays_where_it_takes_the_same(
    old: int, count: int, factor: float | None, kept: bool
) -> None:
    assert _is_kept(old, count, factor) == kept


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_a_fixed_size_by_a_factor_makes_a_valid_file(mode: str, tmp_path: Path) -> None:
    """20 * 0.7 is 14, and 13 to ONNX, which rounds 0.7 before."""

    class Shrinks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.interpolate(x, scale_factor=0.7, mode=mode)

    source = deploy.source_of("m", Shrinks().eval(), torch.randn(1, 2, 20, 24))
    with quiet():
        onnx_export.dynamo(source, tmp_path, negotiate())
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)


def test_twice_a_free_size_keeps_the_kernel(tmp_path: Path) -> None:
    class Doubles(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.interpolate(x, scale_factor=2)

    free = {"x": {2: "rows", 3: "columns"}}
    source = deploy.source_of("m", Doubles().eval(), torch.randn(1, 2, 20, 24), free)
    with quiet():
        onnx_export.dynamo(source, tmp_path, negotiate())
    operators = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert "Resize" in operators


@pytest.mark.slow
def test_places_stay_in_float32(tmp_path: Path) -> None:
    """float16 has no odd number beyond 2048."""
    torch.manual_seed(0)
    deploy.export(
        AsLargeAs().eval(), {"x": torch.randn(1, 2, 20, 24)}, tmp_path / "m.edge", formats=["onnx"],
        dimensions={"x": {2: "rows", 3: "columns"}}, precision="float16",
        ranges={"rows": Range(16, 64), "columns": Range(16, 64)},
    )  # fmt: skip  # one call
    graph = onnx.load(tmp_path / "m.edge" / "model.onnx").graph
    places = [node.input[1] for node in graph.node if node.op_type == "Gather"]
    casts = [node.attribute[0].i for node in made_by(graph, places) if node.op_type == "Cast"]
    assert TensorProto.FLOAT in casts
    assert TensorProto.FLOAT16 not in casts


def made_by(graph: onnx.GraphProto, names: list[str]) -> Iterator[onnx.NodeProto]:
    """The nodes behind some values, as far as the shapes that are asked for."""
    makers = {name: node for node in graph.node for name in node.output}
    while names:
        node = makers.get(names.pop())
        if node is not None and node.op_type != "Shape":
            yield node
            names += node.input
