"""Files with one way through forward refuse what takes another."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.capture.recorded import with_values
from edgeport.deploy.compilers.upstream import quiet
from edgeport.deploy.tensorrt.rewritten import rewritten
from edgeport.runtimes import ValuesError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.tensorrt.tensors import ANSWERED

BACKENDS = {"onnx": "ort-cpu", "torchscript": "libtorch", "pt2": "torch"}
REFUSED = "refused the values of an input: they take another way through forward than the file has"


class Decides(nn.Module):
    """By a condition, a float and a whole number, in code that no script takes."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        known = {"x": x}
        if bool((x == 12345.5).any()) or {float(x.max()) > 1e30} == {True}:
            return x * 2, x[0, 0]
        if int((x == 54321.5).sum()) == 3:
            return x * 3, x[0, 1]
        return known["x"] + 1, x.sum()


@pytest.mark.usually("pt2")
@pytest.mark.parametrize("format_", BACKENDS)
def test_what_takes_another_way_is_refused(format_: str, tmp_path: Path) -> None:
    module = Decides()
    made = deploy.export(
        module, {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows"}}, ranges={"rows": runtimes.Range(1, 40)},
    )  # fmt: skip  # one call
    with made.bundle.open(BACKENDS[format_]) as session:
        for rows in (1, 2, 37):
            x = torch.randn(rows, 4)
            for found, expected in zip(
                session.run({"x": x.numpy()}).values(), module(x), strict=True
            ):
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        for value, count in ((12345.5, 1), (2e30, 1), (54321.5, 3)):
            x = torch.randn(5, 4)
            x[0, :count] = value
            with pytest.raises(ValuesError, match=REFUSED) as caught:
                session.run({"x": x.numpy()})
            assert "by torch.where(condition, a, b)" in (caught.value.remedy or "")
        session.run({"x": torch.randn(5, 4).numpy()})  # it goes on


class SameByBoth(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if {bool((x > 0).all())} == {True}:
            return x.abs()
        return torch.where(x > 0, x, -x)


@pytest.mark.usually("onnx")
@pytest.mark.parametrize("format_", BACKENDS)
def test_ways_that_are_the_same_are_both_taken(format_: str, tmp_path: Path) -> None:
    made = deploy.export(
        SameByBoth(), {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows"}},
    )  # fmt: skip  # one call
    with made.bundle.open(BACKENDS[format_]) as session:
        for x in (torch.rand(2, 4) + 0.1, torch.randn(7, 4)):
            (found,) = session.run({"x": x.numpy()}).values()
            np.testing.assert_array_equal(found, x.abs())


class Gate(nn.Module):
    """Of zeros, one of the samples, both ways are the same."""

    def forward(self, x: Tensor) -> Tensor:
        if {x.square().mean().item() < 0.01} == {True}:
            return torch.zeros_like(x)
        return x * 2


@pytest.mark.slow
@pytest.mark.parametrize("format_", BACKENDS)
def test_ways_that_are_the_same_on_a_sample_alone_are_two(format_: str, tmp_path: Path) -> None:
    made = deploy.export(
        Gate(), {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows"}},
    )  # fmt: skip  # one call
    with made.bundle.open(BACKENDS[format_]) as session:
        for x, factor in ((torch.rand(2, 4) * 0.1, 0), (torch.rand(7, 4) + 0.1, 2)):
            (found,) = session.run({"x": x.numpy()}).values()
            np.testing.assert_array_equal(found, x * factor)


class Raises(nn.Module):
    """For one of the samples, that of large values, too."""

    def forward(self, x: Tensor) -> Tensor:
        if {bool((x < -20).any())} == {True}:
            raise ValueError("below -20")
        return x * 2


@pytest.mark.usually("pt2")
@pytest.mark.parametrize("format_", BACKENDS)
def test_what_forward_raises_for_is_refused(format_: str, tmp_path: Path) -> None:
    made = deploy.export(
        Raises(), {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows"}},
    )  # fmt: skip  # one call
    with made.bundle.open(BACKENDS[format_]) as session:
        session.run({"x": np.full((2, 4), -19, np.float32)})
        with pytest.raises(ValuesError, match=REFUSED):
            session.run({"x": np.full((2, 4), -21, np.float32)})


class Asserts(nn.Module):
    """In code that torch reads as bytecode."""

    def forward(self, x: Tensor) -> Tensor:
        known = {"x": lambda: x}
        assert x.max() < 50, "too large"
        return known["x"]() * 2


@pytest.mark.usually("onnx")
@pytest.mark.parametrize("format_", BACKENDS)
def test_what_forward_asserts_is_refused(format_: str, tmp_path: Path) -> None:
    made = deploy.export(
        Asserts(), {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows"}},
    )  # fmt: skip  # one call
    with made.bundle.open(BACKENDS[format_]) as session:
        session.run({"x": np.full((2, 4), 49, np.float32)})
        with pytest.raises(ValuesError, match="refused the values of an input"):
            session.run({"x": np.full((2, 4), 51, np.float32)})


class Bins(nn.Module):
    """Of 1.0 Python has bin 9, and the quotient is 10.0."""

    def forward(self, x: Tensor) -> Tensor:
        largest = x.max().item()
        if {largest > 1e7} == {True}:
            return x
        return x + largest // 0.1


@pytest.mark.usually("torchscript")
@pytest.mark.parametrize("format_", BACKENDS)
def test_numbers_of_values_are_divided_as_python_does(format_: str, tmp_path: Path) -> None:
    module = Bins()
    made = deploy.export(
        module, {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows"}},
    )  # fmt: skip  # one call
    with made.bundle.open(BACKENDS[format_]) as session:
        for value in (1.0, 0.5, -1.0, 3.0, 0.25):
            x = torch.full((2, 4), value)
            (found,) = session.run({"x": x.numpy()}).values()
            np.testing.assert_allclose(found, module(x), rtol=1e-6)


def answered(file: Path, x: Array) -> tuple[bool, Array]:
    """What an engine's file says of an input: whether the module answers so, and the answer."""
    with rewritten(file, "tensorrt-rtx") as (path, tells):
        assert tells
        assert path != file
        session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found, *_, holds = session.run(None, {"x": x})
        assert session.get_outputs()[-1].name == ANSWERED
    assert not path.exists()
    return bool(holds), found


def test_an_engine_says_what_the_file_refuses(tmp_path: Path) -> None:
    module = Decides()
    made = deploy.export(
        module, {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats="onnx",
        dimensions={"x": {0: "rows"}},
    )  # fmt: skip  # one call
    file = tmp_path / "m.edge" / made.bundle.manifest.artefacts[0].stored.file
    holds, found = answered(file, np.full((5, 4), 12345.5, np.float32))
    assert not holds
    np.testing.assert_array_equal(found, np.full((5, 4), 12346.5))
    assert answered(file, np.full((5, 4), 1.5, np.float32))[0]
    plain = tmp_path / "plain.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])), plain)
    with rewritten(plain, "tensorrt-rtx") as (same, tells):
        assert same == plain
        assert not tells


class RaisesWithin(nn.Module):
    """In a side of a branch, and in a turn of a loop."""

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):
            if bool((x == 12345.5).any()):
                raise ValueError("not this one")
            return x * 2
        y = x
        for row in range(x.shape[0]):
            if bool((x[row] == -54321.5).any()):
                raise ValueError("nor this one")
            y = y + x[row]
        return y


@pytest.mark.usually("pt2")
@pytest.mark.parametrize("format_", ["onnx", "pt2"])
def test_what_raises_within_branches_and_loops_is_refused(format_: str, tmp_path: Path) -> None:
    module = RaisesWithin()
    made = deploy.export(
        module, {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows"}}, ranges={"rows": runtimes.Range(1, 40)},
    )  # fmt: skip  # one call
    refused = {value: np.full((5, 4), value, np.float32) for value in (12345.5, -54321.5)}
    with made.bundle.open(BACKENDS[format_]) as session:
        for x in (torch.rand(7, 4), -torch.rand(7, 4), -torch.full((2, 4), 12345.5)):
            (found,) = session.run({"x": x.numpy()}).values()
            np.testing.assert_allclose(found, module(x), rtol=1e-5)
        for values in refused.values():
            with pytest.raises(ValuesError, match=REFUSED):
                session.run({"x": values})
    if format_ == "onnx":  # what engines are built from
        file = tmp_path / "m.edge" / made.bundle.manifest.artefacts[0].stored.file
        for value, times in ((12345.5, 2), (-54321.5, 6)):
            holds, found = answered(file, refused[value])
            assert not holds
            np.testing.assert_array_equal(found, refused[value] * times)
        for x in (torch.rand(7, 4), -torch.rand(7, 4)):
            assert answered(file, x.numpy())[0]


class OfWeights(nn.Module):
    """A number of weights, which engines round otherwise, and one that is rounded alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 64)

    def forward(self, x: Tensor) -> Tensor:
        if {bool(torch.isnan(x).any())} == {True}:
            raise ValueError("NaN")
        y: Tensor = self.linear(x)
        norm, total = self.linear.weight.norm().item(), y.softmax(-1).sum(-1).mean().item()
        return y / float(np.float64(norm)) / float(np.float64(total))


class Tells(nn.Module):
    """Of what is larger than all samples have."""

    def forward(self, x: Tensor) -> Tensor:
        if {bool(torch.isnan(x).any())} == {True}:
            raise ValueError("NaN")
        if x.max() > 1e20:
            logging.getLogger("model").debug("large")
        print("%d are large" % int((x > 1e20).sum()), np.float64(x.max().item()))  # noqa: T201, UP031
        return x * 2


@pytest.mark.usually("OfWeights-onnx")
@pytest.mark.parametrize(
    ("kind", "format_"),
    [(OfWeights, "onnx"), (OfWeights, "torchscript"), *((Tells, format_) for format_ in BACKENDS)],
)
def test_neither_rounding_nor_a_log_is_another_way(
    kind: type[nn.Module], format_: str, tmp_path: Path
) -> None:
    module = kind()
    made = deploy.export(
        module, {"x": torch.randn(3, 8)}, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows"}},
    )  # fmt: skip  # one call
    assert not [note for note in made.notes if "makes a number" in note or "1e20" in note]
    with made.bundle.open(BACKENDS[format_]) as session:
        for scale in (1.0, 1e25):
            x = scale * torch.rand(5, 8)
            (found,) = session.run({"x": x.numpy()}).values()
            np.testing.assert_allclose(found, module(x).detach(), rtol=1e-4, atol=1e-4)


class Factors(nn.Module):
    """Both ways are the same, and both raise for what has no factor."""

    def forward(self, x: Tensor) -> Tensor:
        if {bool((x >= 0).all())} == {True}:
            x = x.abs()
        factor: Tensor = torch.linalg.cholesky(x)
        return factor


def test_what_raises_by_both_ways_keeps_no_condition() -> None:
    matrix = 3 * torch.eye(4)[None].repeat(3, 1, 1)
    source = deploy.source_of(
        "m", Factors(), {"x": matrix - 0.1}, samples=[{"x": (matrix + 0.1).numpy()}]
    )
    run: Any = with_values(source).program.module()
    torch.testing.assert_close(run(matrix + 0.2)[0], Factors()(matrix + 0.2))


def _adds_up(x: Tensor) -> Tensor:
    """Of zeros alone both ways are the same, and two conditions fail for them."""
    first, second = x[:, 0].mean(), x[:, 1].mean()
    if bool(first > 0) and {bool(second > 0)} == {True}:
        return x * 2
    return x + first.clamp(min=0)


def _all_above(x: Tensor) -> Tensor:
    """What changes nothing where the second column is not above 0 either."""
    return x + 10 if all({bool(each.mean() > 0)} == {True} for each in x.unbind(1)) else x


def _is_hidden(x: Tensor) -> Tensor:
    """What a batch of one row does not show: it is all that there is."""
    hidden = x == 0
    mask = None if {bool(hidden.all(1).any())} == {True} else hidden
    y = x.masked_fill(mask, -1.0) if mask is not None else x - hidden.float()
    return y - y.mean()


@pytest.mark.parametrize(
    ("forward", "example", "samples", "other"),
    [
        (_adds_up, [[1, 1]], [[0, 0]], [[3, -4]]),
        (_all_above, [[-1, -1]], [[0.5, -9], [0.75, 1]], [[0.5, 1]]),
        (_is_hidden, [[3, 0]], [[0, 0]], [[3, 0], [0, 0]]),
    ],
)
def test_what_a_sample_hides_stays_a_condition(
    forward: Any, example: Any, samples: Any, other: Any
) -> None:
    class Module(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = forward(x)
            return y

    given = [{"x": np.array([each], np.float32)} for each in samples]
    source = deploy.source_of(
        "m", Module(), {"x": torch.tensor(example, dtype=torch.float)}, {"x": {0: "rows"}},
        samples=given,
    )  # fmt: skip  # one call
    with quiet():
        run: Any = with_values(source).program.module()
    for x in (torch.tensor(each) for sample in given for each in sample.values()):
        torch.testing.assert_close(run(x)[0], forward(x))
    x = torch.tensor(other, dtype=torch.float)
    with contextlib.suppress(RuntimeError):  # it may be refused
        torch.testing.assert_close(run(x)[0], forward(x))
