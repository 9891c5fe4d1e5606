"""Sizes that follow others: a decoder with a cache and a mask of both, maps of two scales."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy, runtimes
from edgeport.deploy.sources.dimensions import observed_dimensions
from edgeport.runtimes import Bundle, InputError, ParityError, Range, SourceError, UsageError
from edgeport.runtimes.inputs import Array

BACKENDS = ("ort-cpu", "libtorch", "torch")


class Decoder(nn.Module):
    """One layer of attention over what is cached and what is new; the mask is of both."""

    def __init__(self, heads: int = 2, width: int = 8, words: int = 20) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.projected = nn.Linear(width, 3 * width)
        self.scores = nn.Linear(width, words)
        self.heads = heads

    def forward(
        self, ids: Tensor, past: tuple[Tensor, Tensor], mask: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        rows, time = ids.shape
        parts = self.projected(self.words(ids)).view(rows, time, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        seen = torch.ones(time, key.shape[2], dtype=torch.bool).tril(key.shape[2] - time)
        seen = seen & mask[:, None, None]
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return self.scores(found.transpose(1, 2).flatten(2)), (key, value)


FREE = {
    "ids": {0: "batch", 1: "time"},
    "past_0": {0: "batch", 2: "past"},
    "past_1": {0: "batch", 2: "past"},
    "mask": {0: "batch", 1: "past + time"},
}


def inputs(rows: int, time: int, past: int) -> dict[str, object]:
    ids = torch.arange(rows * time).reshape(rows, time) % 20
    cache = tuple(torch.linspace(-1, 1, rows * past * 8).view(rows, 2, past, 4) for _ in "kv")
    return {"ids": ids, "past": cache, "mask": torch.ones(rows, past + time, dtype=torch.bool)}


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder().eval()


@pytest.fixture(scope="module")
def bundle(decoder: Decoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("decoder") / "decoder.edge"
    deploy.export(decoder, inputs(2, 3, 5), path, dimensions=FREE, ranges={"past": Range(0, 40)})
    return path


@pytest.mark.slow
def test_what_follows_is_in_the_signature(bundle: Path) -> None:
    signature = Bundle.read(bundle).manifest.signature
    assert str(signature.inputs[-1]) == "mask: bool[batch, past+time]"
    assert [str(spec) for spec in signature.outputs] == [
        "output_0: float32[batch, time, 20]",
        "output_1_0: float32[batch, 2, past+time, 4]",
        "output_1_1: float32[batch, 2, past+time, 4]",
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_words_one_by_one_are_those_of_all_at_once(
    backend: str, decoder: Decoder, bundle: Path
) -> None:
    words = [3, 1, 4]
    with runtimes.open(bundle, backend=backend) as session:
        new = np.array([words])
        key, value = np.zeros((2, 1, 2, 0, 4), np.float32)
        for _ in range(4):
            mask = np.ones((1, key.shape[2] + new.shape[1]), np.bool_)
            answer = session.run({"ids": new, "past_0": key, "past_1": value, "mask": mask})
            key, value = answer["output_1_0"], answer["output_1_1"]
            words.append(int(answer["output_0"][0, -1].argmax()))
            new = np.array([words[-1:]])
    empty = torch.zeros(2, 1, 2, 0, 4).unbind()
    for count in range(3, len(words)):
        ids = torch.tensor([words[:count]])
        scores, _ = decoder(ids, empty, torch.ones(1, count, dtype=torch.bool))
        assert int(scores[0, -1].argmax()) == words[count]


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_size_is_refused(backend: str, bundle: Path) -> None:
    wrong: dict[str, Array] = {
        "ids": np.zeros((1, 2), np.int64),
        "past_0": np.zeros((1, 2, 3, 4), np.float32),
        "past_1": np.zeros((1, 2, 3, 4), np.float32),
        "mask": np.ones((1, 4), np.bool_),
    }
    message = (
        "input 'mask' has 4 on axis 1, expected past+time, which is 5 where past is 3 and "
        "time is 2\n  fix: the model takes mask: bool[batch, past+time]"
    )
    with (
        runtimes.open(bundle, backend=backend) as session,
        pytest.raises(InputError, match=re.escape(message)),
    ):
        session.run(wrong)


class Scales(nn.Module):
    """A map, one of half its size, and positions relative to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)

    def forward(self, fine: Tensor, coarse: Tensor, between: Tensor) -> Tensor:
        larger = functional.interpolate(self.coarse(coarse), scale_factor=2.0)
        found: Tensor = self.fine(fine) + larger + between[:, 1:].mean()
        return found


@pytest.mark.slow
def test_two_scales_and_a_constant(tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = {
        "fine": torch.rand(2, 3, 8, 12),
        "coarse": torch.rand(2, 3, 4, 6),
        "between": torch.rand(2, 7),
    }
    free = {
        "fine": {0: "batch", 2: "2*height", 3: "2*width"},
        "coarse": {0: "batch", 2: "height", 3: "width"},
        "between": {0: "batch", 1: "2*height-1"},
    }
    ranges = {"height": Range(2, 16, step=2), "width": Range(1, 9)}
    made = deploy.export(Scales(), example, tmp_path / "s.edge", dimensions=free, ranges=ranges)
    assert str(made.source.signature.outputs[0]) == "output: float32[batch, 4, 2*height, 2*width]"
    assert len(made.bundle.manifest.artefacts) == 3


@pytest.mark.parametrize(
    ("size", "ranges", "message"),
    [
        (
            "passed+time", {},
            "mask: bool[batch, passed+time] has a size that follows 'passed', and no input has "
            "such a dimension\n  fix: it may follow batch, time, past; give the axis a name of "
            "its own where it follows none",
        ),
        (
            "past+time-4", {},
            "mask: bool[batch, past+time-4] has a size of -2 where past is 1, time is 1\n"
            "  fix: let what it follows begin higher: past:MIN..",
        ),
        (
            "past+time", {"past+time": Range(1, 9)},
            "a range is given for 'past+time', which follows other dimensions\n"
            "  fix: give ranges to those that it follows",
        ),
        (
            "past+def", {},
            "dimensions calls an axis of 'mask' 'past+def', which is no name\n"
            "  fix: use a Python identifier, like 'batch', or a sum of such, like 'past+time'; "
            "leave a fixed axis out",
        ),
    ],
)  # fmt: skip  # a case a block
def test_what_cannot_follow(
    size: str, ranges: dict[str, Range], message: str, decoder: Decoder, tmp_path: Path
) -> None:
    free = {**FREE, "mask": {0: "batch", 1: size}}
    with pytest.raises(UsageError, match=re.escape(message)):
        deploy.export(decoder, inputs(2, 3, 5), tmp_path / "d.edge", dimensions=free, ranges=ranges)


def calls(*sizes: tuple[int, int]) -> list[dict[str, Array]]:
    return [
        {
            "ids": np.zeros((2, time), np.int64),
            "past_0": np.zeros((2, 2, past, 4), np.float32),
            "past_1": np.zeros((2, 2, past, 4), np.float32),
            "mask": np.ones((2, past + time), np.bool_),
        }
        for past, time in sizes
    ]


def test_captured_calls_show_what_follows(decoder: Decoder) -> None:
    def run(given: Mapping[str, Array]) -> list[tuple[int, ...]]:
        ids, key, value, mask = map(torch.tensor, given.values())
        with torch.no_grad():
            scores, _ = decoder(ids, (key, value), mask)
        return [tuple(scores.shape)]

    found, ranges = observed_dimensions(calls((2, 3), (5, 1), (6, 2)), run)
    assert found["mask"] == {1: "ids_1+past_0_2"}
    assert ranges == {"ids_1": Range(), "past_0_2": Range()}
    alone, _ = observed_dimensions(calls((2, 1), (3, 1), (7, 1)), run)
    assert alone == {
        "past_0": {2: "past_0_2"},
        "past_1": {2: "past_0_2"},
        "mask": {1: "past_0_2+1"},
    }


def test_calls_that_always_differ_by_as_much_are_apart_if_the_module_takes_it() -> None:
    found, _ = observed_dimensions(
        [{"x": np.zeros((n, 2)), "y": np.zeros((n + 3, 2))} for n in (2, 5)],
        lambda given: [given["x"].shape, given["y"].shape],
    )
    assert found == {"x": {0: "batch"}, "y": {0: "y_0"}}


def test_calls_of_another_kind_are_left_out(decoder: Decoder, tmp_path: Path) -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Linear(3, 3)

        def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
            scaled: Tensor = self.scale(x)
            return scaled if state is None else scaled + state

    def generate(module: nn.Module) -> None:
        state = None
        for rows in (2, 3):
            module(torch.rand(rows, 3), state=None)
            state = torch.rand(rows, 3)
            module(torch.rand(rows, 3), state=state)

    module = Optional()
    with deploy.capture(module) as every:
        generate(module)
    with pytest.raises(
        SourceError,
        match=re.escape(
            "calls[1] has 'state', which calls[0] has not\n  fix: capture calls that pass the same "
            "arguments: capture(module, only=...) says which"
        ),
    ):
        deploy.export(module, every, tmp_path / "every.edge", formats="torchscript")
    with deploy.capture(module, only=lambda x, state: state is not None) as some:
        generate(module)
    assert (some.count, some.left_out, len(some.calls)) == (4, 2, 2)
    made = deploy.export(module, some, tmp_path / "some.edge", formats="torchscript")
    assert [*made.source.example] == ["x", "state"]
    with deploy.capture(module, only=lambda x, state: x.ndim > 4) as none:
        generate(module)
    with pytest.raises(
        SourceError,
        match=re.escape(
            "`only` left out each of the 4 calls of Optional\n"
            "  fix: let it return True for the calls that are to be captured"
        ),
    ):
        _ = none.calls


def test_what_is_as_long_by_chance_is_not_followed() -> None:
    def run(given: Mapping[str, Array]) -> list[tuple[int, ...]]:
        both = np.concatenate([given["past"], given["time"]]) * given["mask"]
        return [both.shape, given["other"].shape]

    shown = [
        {
            "past": np.zeros(past),
            "other": np.zeros(time + 3),  # by chance
            "time": np.zeros(time),
            "mask": np.zeros(past + time),
        }
        for past, time in ((2, 3), (5, 1), (6, 2))
    ]
    found, _ = observed_dimensions(shown, run)
    assert found["mask"] == {0: "batch+time_0"}


class Streaming(nn.Module):
    """A convolution over what was left of the last chunk, and this one."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(2, 3, 5)

    def forward(self, state: Tensor, chunk: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([state, chunk], 2)
        return self.convolution(both), both


def test_what_a_convolution_leaves_of_a_sum(tmp_path: Path) -> None:
    example = {"state": torch.rand(1, 2, 6), "chunk": torch.rand(1, 2, 9)}
    free = {"state": {2: "state"}, "chunk": {2: "chunk"}}
    made = deploy.export(
        Streaming().eval(), example, tmp_path / "s.edge", dimensions=free,
        ranges={"state": Range(4, 32)}, formats="torchscript",
    )  # fmt: skip  # in two lines
    convolved, both = made.source.signature.outputs
    assert (convolved.shape, both.shape) == ((1, 3, "state+chunk-4"), (1, 2, "state+chunk"))


class Longer(nn.Module):
    """As many rows as the longer of two has."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(2, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        found: Tensor = self.scale(torch.ones(max(a.shape[0], b.shape[0]), 2)) * a.sum()
        return found


def test_the_longer_of_two_is_not_their_sum_less_some(tmp_path: Path) -> None:
    ranges = {"a": Range(2, 3), "b": Range(2, 3)}
    made = deploy.export(
        Longer().eval(), {"a": torch.rand(2), "b": torch.rand(3)}, tmp_path / "l.edge",
        dimensions={"a": {0: "a"}, "b": {0: "b"}}, ranges=ranges, formats="torchscript",
    )  # fmt: skip  # in two lines
    assert made.source.signature.outputs[0].shape == ("output_0", 2)


class Chosen(nn.Module):
    """Rows of the past and the present, by their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(4, 4)

    def forward(self, past: Tensor, now: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
        both = torch.cat([past, now]) * mask[:, None]
        found: Tensor = self.scale(both)[rows]
        return found


def test_a_table_may_be_as_long_as_a_sum(tmp_path: Path) -> None:
    example = {
        "past": torch.rand(5, 4), "now": torch.rand(3, 4), "mask": torch.rand(8),
        "rows": torch.tensor([0, 7, 1, 2, 3, 3]),
    }  # fmt: skip  # in two lines
    free = {
        "past": {0: "past"}, "now": {0: "sum_0"}, "mask": {0: "past+sum_0"}, "rows": {0: "rows"},
    }  # fmt: skip  # one line
    made = deploy.export(Chosen().eval(), example, tmp_path / "c.edge", dimensions=free)
    assert str(made.source.signature.outputs[0]) == "output: float32[rows, 4]"


class Shifted(nn.Module):
    """What was, and one more: there may be nothing before."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(4, 4)

    def forward(self, whole: Tensor, before: Tensor) -> Tensor:
        found: Tensor = self.scale(whole) + torch.cat([before, whole[:1]])
        return found


@pytest.mark.slow
def test_a_pt2_file_takes_no_size_of_0_behind_one_that_follows_it(tmp_path: Path) -> None:
    example = {"whole": torch.rand(6, 4), "before": torch.rand(5, 4)}
    message = (
        "  fix: a .pt2 file takes no size of 0 that one of an input before it follows: pass the "
        "input whose size it is first, or let its range begin at 1; or leave the format out with "
        "--format: another may hold it"
    )
    with pytest.raises(ParityError, match=re.escape(message)):
        deploy.export(
            Shifted().eval(), example, tmp_path / "s.edge", formats="pt2",
            dimensions={"whole": {0: "past+1"}, "before": {0: "past"}},
            ranges={"past": Range(0, 9)},
        )  # fmt: skip  # in four lines
