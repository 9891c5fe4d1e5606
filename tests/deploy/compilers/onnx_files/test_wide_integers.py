"""Integers that ONNX Runtime's kernels take for others."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.onnx_files import onnx_export
from edgeport.deploy.compilers.onnx_files.wide_integers import write_out_wide_integers
from edgeport.deploy.compilers.targets import negotiate
from edgeport.deploy.compilers.upstream import quiet

EDGES = [
    0,
    1,
    -1,
    7,
    2**31 - 1,
    2**31,
    2**31 + 5,
    2**32 - 1,
    -(2**31) - 7,
    -(2**32) - 5,
    2**40,
    2**63 - 1,
]


class Bounds(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return (
            x.clamp(min=0), x.clamp(max=7), x.clamp(-1, 2**31 + 1), torch.maximum(x, y),
            torch.minimum(x, y), x.sign(), x.amax(1), x.amin((0, 1), keepdim=True), x.max(),
            x.min(0).values, x[:, : max(x.shape[1] // 2, 1)],
        )  # fmt: skip  # a table


class Branches(nn.Module):
    """Both ways are in the file."""

    def forward(self, x: Tensor) -> Tensor:
        x = x - 1
        if bool(x[0, 0] > 0):
            return (x + 1).clamp(min=0) + 1
        return torch.maximum(x + 2, torch.full_like(x, -1)) - 1


def exported(module: nn.Module, folder: Path, *inputs: Tensor) -> deploy.Export:
    free = {name: {0: "rows", 1: "columns"} for name in "xy"[: len(inputs)]}
    return deploy.export(module, inputs, folder / "m.edge", formats="onnx", dimensions=free)


@pytest.mark.usually("module0")
@pytest.mark.parametrize(("module", "count"), [(Bounds(), 2), (Branches(), 1)])
def test_integers_beyond_31_bits_are_compared_rightly(
    module: nn.Module, count: int, tmp_path: Path
) -> None:
    small = torch.arange(12).reshape(3, 4) - 5
    made = exported(module, tmp_path, *[small, small.flip(1)][:count])
    generator = np.random.default_rng(0)
    with made.bundle.open("ort-cpu") as session:
        for shape in ((1, 1), (3, 16), (16, 16), (64, 8)):
            given = [generator.choice(np.array(EDGES), shape) for _ in range(count)]
            expected = module(*map(torch.tensor, given))
            found = session.run(dict(zip("xy", given, strict=False)))
            for answer, truth in zip(
                found.values(), [expected] if count == 1 else expected, strict=True
            ):
                np.testing.assert_array_equal(answer, truth.numpy())


class Sums(nn.Module):
    """ReduceSum adds in float64, and int32 ends at its ends."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        narrow = x.to(torch.int32)
        return (
            x.sum(1), x.sum(), x.sum((0, 1), keepdim=True), (x * 2654435761).sum(0) % 97,
            narrow.sum(1, dtype=torch.int32), (x > 0).sum(1),
        )  # fmt: skip  # a table


def test_sums_of_integers_wrap_and_are_not_rounded(tmp_path: Path) -> None:
    made = exported(Sums(), tmp_path, torch.arange(12).reshape(3, 4) - 5)
    generator = np.random.default_rng(0)
    with made.bundle.open("ort-cpu") as session:
        for shape in ((1, 1), (3, 16), (64, 8)):
            x = generator.integers(-(2**63), 2**63 - 1, shape)
            expected = Sums()(torch.tensor(x))
            for answer, truth in zip(session.run({"x": x}).values(), expected, strict=True):
                np.testing.assert_array_equal(answer, truth.numpy())


class Products(nn.Module):
    """ReduceProd, Pow and Einsum compute in floats."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        small = x.clamp(-2, 40)
        return (
            x.prod(1), x.prod(), x.prod(0, keepdim=True), x.int().prod(-1),
            x[:, :0].prod(1) + x[:, 0], torch.einsum("bt->b", x), torch.einsum("bt -> tb", x),
            x**5, x.int() ** 3, x**17, x**small, 3**small, (x % 3 - 1) ** x,
            x.to(torch.int16) ** small.to(torch.int16), x**101, x.to(torch.uint8) ** 255,
        )  # fmt: skip  # a table


def test_products_of_integers_wrap_and_are_not_rounded(tmp_path: Path) -> None:
    made = exported(Products(), tmp_path, torch.arange(12).reshape(3, 4) - 5)
    generator = np.random.default_rng(0)
    with made.bundle.open("ort-cpu") as session:
        for shape, most in (((1, 1), 2**63 - 1), ((3, 16), 2**40), ((5, 3), 2**18), ((6, 4), 40)):
            x = generator.integers(-most, most, shape)
            expected = Products()(torch.tensor(x))
            for answer, truth in zip(session.run({"x": x}).values(), expected, strict=True):
                np.testing.assert_array_equal(answer, truth.numpy())


def test_a_count_stays_one_sum(tmp_path: Path) -> None:
    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x > 0).sum(1)

    made = exported(Counts(), tmp_path, torch.arange(12).reshape(3, 4) - 5)
    nodes = onnx.load(made.bundle.path / "model.onnx").graph.node
    assert [node.op_type for node in nodes].count("ReduceSum") == 1
    assert "Div" not in {node.op_type for node in nodes}


class NamesAlike(nn.Module):
    """Of the first maximum two values are made; torch calls the second one amax_1."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(0).amax((0, 1)) + (x + 1).amax(0)


def test_what_is_made_has_a_name_of_its_own(tmp_path: Path) -> None:
    source = deploy.exporter.source_of("m", NamesAlike(), {"x": torch.ones(3, 4).long()}, {})
    with quiet():
        onnx_export.dynamo(source, tmp_path, negotiate(None, None))


def test_a_dtype_that_is_not_said_is_inferred() -> None:
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 20]>
        graph (int64[N] x) => (int64[N] y) { z = Neg(x) w = Max(z, x) y = Identity(w) }""")
    unsaid = model.graph.value_info.add(name="w")
    unsaid.type.tensor_type.elem_type = onnx.TensorProto.UNDEFINED
    write_out_wide_integers(model)
    assert "Max" not in {node.op_type for node in model.graph.node}


def test_sizes_stay_as_they_are(tmp_path: Path) -> None:
    class Sizes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, : max(x.shape[1] - 2, 1)] * 2

    made = exported(Sizes(), tmp_path, torch.randn(3, 4))
    graph = onnx.load(tmp_path / "m.edge" / "model.onnx").graph
    assert "Max" in {node.op_type for node in graph.node}
    assert made.bundle.manifest.artefacts
