from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport.deploy import capture
from edgeport.deploy.exporter import model_name, source_of
from edgeport.runtimes import Range, SourceError, UsageError

BATCH = {"x": {0: "batch"}}
X = {"x": torch.ones(2, 4)}


class NeedsFour(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 4:
            raise RuntimeError("at most four rows")
        return x.sin()


class NeedsGpu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("Found no NVIDIA driver on your system")


class Exits(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise SystemExit(3)


class TakesDict(nn.Module):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["x"] + batch["y"]


@pytest.mark.parametrize(
    ("module", "problem", "remedy"),
    [
        (NeedsFour(), 'raise RuntimeError("at most four rows")', "batch:MIN..MAX"),
        (nn.Sequential(nn.ReLU(), nn.Linear(5, 2)), "  layer     1 (Linear)", "declared inputs"),
        (NeedsGpu(), "NeedsGpu fails on x [2, 4]", "on the CPU: make new tensors with device=x"),
        (Exits(), "SystemExit: 3", "declared inputs"),
    ],
)
def test_a_module_that_fails_in_eager_mode_says_where(
    module: nn.Module, problem: str, remedy: str
) -> None:
    with pytest.raises(SourceError) as caught:
        source_of("m", module, X, BATCH)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


def test_arguments_that_are_parts_of_one_say_so() -> None:
    with pytest.raises(SourceError, match="too many positional arguments") as caught:
        source_of("m", TakesDict(), {"x": torch.ones(1), "y": torch.ones(1)})
    assert "{'batch': {'ids': tensor}}" in caught.value.remedy


@dataclass
class Pair:
    x: Tensor
    y: Tensor


class TakesPair(nn.Module):
    def forward(self, pair: Pair) -> Tensor:
        return pair.x + pair.y


def test_one_argument_needs_no_brackets() -> None:
    array = np.ones((3, 4), np.float32)
    assert [*source_of("m", nn.Linear(4, 2), array).example] == ["input"]
    pair: Any = Pair(torch.ones(1), torch.ones(1))
    assert [*source_of("m", TakesPair(), pair).example] == ["pair_x", "pair_y"]


@pytest.mark.parametrize("example", [None, "image.png", np.array(["text"])])
def test_an_example_without_a_tensor(example: Any) -> None:
    with pytest.raises(SourceError, match="there is no example input"):
        source_of("m", nn.Linear(4, 2), example)


class TakesNothing(nn.Module):
    def forward(self) -> Tensor:
        return torch.ones(2)


def test_a_module_without_inputs() -> None:
    with pytest.raises(
        SourceError, match=r"^forward takes no input: what it returns is a constant"
    ) as e:
        source_of("m", TakesNothing(), {})
    assert e.value.remedy == "save that, as with numpy.save, or give forward an input"


@pytest.mark.parametrize(
    ("dimensions", "ranges", "problem"),
    [
        ("auto", None, "dimensions is 'auto'"),
        ({"x": ["batch"]}, None, "dimensions gives 'x' a list, expected a dict"),
        ({"x": {-1: "n"}}, None, r"'x' with axes \[-1\], which the example has not"),
        ({"x": {"0": "n"}}, None, r"'x' with axes \['0'\], which the example has not"),
        ({"x": {0: "batch size"}}, None, "an axis of 'x' 'batch size', which is no name"),
        ({"x": {0: "for"}}, None, "an axis of 'x' 'for', which is no name"),
        ({"x": {0: 7}}, None, "an axis of 'x' 7, which is no name"),
        (BATCH, {"batch": (1, 8)}, r"the range of 'batch' is \(1, 8\)"),
    ],
)
def test_dimensions_that_make_no_sense(dimensions: Any, ranges: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        source_of("m", nn.Linear(4, 2), X, dimensions, ranges)


class Frames(nn.Module):
    """As many frames as steps of 8 fit in, and each sample's own mean."""

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        return wave.unfold(1, 16, 8).mean(2), wave.mean(1)


def test_two_sizes_may_be_too_near_to_show_that_a_third_is_other() -> None:
    source = source_of(
        "frames",
        Frames(),
        torch.zeros(2, 16),
        {"wave": {0: "batch", 1: "time"}},
        {"time": Range(16)},
    )
    assert [spec.shape for spec in source.signature.outputs] == [
        ("batch", "output_0_1"),
        ("batch",),
    ]


class Chosen(nn.Module):
    """As many as are large, which is none of most samples."""

    def forward(self, x: Tensor) -> Tensor:
        return x[x > 50]


def test_values_may_decide_how_large_an_output_is() -> None:
    source = source_of("chosen", Chosen(), torch.linspace(-1, 1, 6))
    assert source.signature.outputs[0].shape == ("output_0",)


class Sixths(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, 6).sum(1)


@pytest.mark.parametrize(
    ("sizes", "ranges", "step", "told"),
    [
        ((12, 24), {}, 12, ["x_1 is taken in steps of 12, which divides its size in every call"]),
        ((12, 24, 18), {}, 6, ["x_1 is taken in steps of 6, which divides its size in every call"]),
        ((12, 24), {"x_1": Range(6, step=6)}, 6, []),
    ],
)
def test_a_step_that_calls_show_is_told(
    sizes: tuple[int, ...], ranges: dict[str, Range], step: int, told: list[str]
) -> None:
    module = Sixths()
    with capture(module) as calls:
        for size in sizes:
            module(torch.ones(2, size))
    source = source_of("sixths", module, calls, ranges=ranges)
    assert source.signature.range_of("x_1") == Range(step, step=step)
    notes = [note for note in source.notes if "step" in note]
    assert [note.partition(":")[0] for note in notes] == told
    assert all("ranges={'x_1': Range(STEP, step=STEP)}" in note for note in notes)


def test_calls_of_one_size_are_told() -> None:
    module = nn.Linear(4, 2)
    for sizes, told in (((3, 3), 1), ((3, 5), 0)):
        with capture(module) as calls:
            for size in sizes:
                module(torch.ones(size, 4))
        source = source_of("linear", module, calls)
        assert sum("so every size is fixed: call the" in note for note in source.notes) == told


class Squeezes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1) if x.shape[0] < 20 else x


def test_a_rank_that_only_a_large_sample_has() -> None:
    problem = (
        r"output 'output' has 1 axes for {'batch': 2}, 2 for {'batch': 32}\n  fix: let forward"
    )
    with pytest.raises(SourceError, match=problem):
        source_of("squeezes", Squeezes(), torch.zeros(2, 3), {"x": {0: "batch"}})


class Scales(nn.Module):
    def forward(self, x: Tensor, mode: str = "mean", by: float = 1.0) -> Tensor:
        return (x.mean(-1) if mode == "mean" else x.sum(-1)) * by


@pytest.mark.parametrize(("first", "second"), [(1, True), (False, 0.0)])
def test_a_number_is_no_truth_value(first: float, second: float) -> None:
    module = Scales()
    with capture(module) as calls:
        module(torch.ones(2, 4), by=first)
        module(torch.ones(3, 4), by=second)

    with pytest.raises(SourceError) as caught:
        source_of("m", module, calls)

    assert caught.value.problem == (
        f"'by' is {first!r} in calls[0], {second!r} in calls[1], and an artefact holds one constant"
    )


def test_captured_calls_pass_the_same_constants() -> None:
    module = Scales()
    with capture(module) as calls:
        module(torch.ones(2, 4))
        module(torch.ones(3, 4), mode="sum")

    with pytest.raises(SourceError) as caught:
        source_of("m", module, calls)

    assert str(caught.value) == (
        "'mode' is 'mean' in calls[0], 'sum' in calls[1], and an artefact holds one constant\n"
        "  fix: capture calls that pass the same; what changes from call to call is passed as a "
        "tensor"
    )


def test_a_constant_is_the_same_by_position_by_name_and_by_default() -> None:
    module = Scales()
    with capture(module) as calls:
        module(torch.ones(2, 4))
        module(torch.ones(3, 4), "mean", 1)
        module(x=torch.ones(4, 4), by=1.0)

    assert str(source_of("m", module, calls).signature.inputs[0]) == "x: float32[batch, 4]"


def test_an_example_in_another_byte_order() -> None:
    source = source_of("m", Scales(), {"x": np.full((2, 4), 3, ">f4")})

    assert source.example["x"].dtype == np.float32
    assert (source.example["x"] == 3).all()


@pytest.mark.parametrize("name", ["", "a\u3000b", "a\nb", "\udcff"])
def test_a_name_that_cannot_be_printed_is_refused_before_anything_is_compiled(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"called '.*', as its bundle.*\n  fix: name the bundle oth"
    ):
        model_name(Path(f"{name}.edge"))
