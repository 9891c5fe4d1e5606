"""A source draws what its module answers; the rest of it is seen through ``deploy.export``."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from edgeport.deploy import make_call, make_source, parse_inputs
from edgeport.deploy.sources.drawing import Values
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import SourceError
from edgeport.runtimes.inputs import Array


class Attention(nn.Module):
    def __init__(self, *, hides: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(1000, 16)
        self.layer = nn.MultiheadAttention(16, 2, batch_first=True)
        self.hides = hides

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.table(ids)
        found: Tensor = self.layer(x, x, x, key_padding_mask=mask if self.hides else ~mask)[0]
        return found


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(3, 4, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True)
        found: Tensor = pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0]
        return found


class Takes(nn.Module):
    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.takes = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.takes(x)


def source(module: nn.Module, *inputs: str, values: Values | None = None) -> Source:
    declared = parse_inputs(inputs)
    call = make_call(module, (), declared.arguments)
    return make_source("m", module.eval(), call, declared.specs, declared.ranges, values=values)


def usual(found: Source, name: str) -> list[Array]:
    return [sample.inputs[name] for sample in found.samples if sample.kind == "random"]


@pytest.mark.parametrize("hides", [True, False])
def test_no_row_is_hidden_and_every_token_is_tried(hides: bool) -> None:
    found = source(Attention(hides=hides), "ids=int64[batch,time]", "mask=bool[batch,time]")
    for mask in usual(found, "mask"):
        assert not (mask == hides).all(1).any()
    assert max(ids.max() for ids in usual(found, "ids")) > 900
    assert found.example["ids"].max() > 1
    assert any("every valid index, 0 to 999" in note for note in found.notes)
    told = any("mask: tried with 0 and 1, a 0 in each row" in note for note in found.notes)
    assert told == hides


def test_lengths_are_those_of_a_packed_sequence() -> None:
    found = source(Packed(), "x=float32[batch,time,3]", "lengths=int64[batch]")
    for x, lengths in zip(usual(found, "x"), usual(found, "lengths"), strict=True):
        assert 1 <= lengths.min() <= lengths.max() <= x.shape[1]


def test_lengths_like_an_example_that_is_too_long_for_other_sizes() -> None:
    values = Values(like={"x": np.ones((3, 5, 3), np.float32), "lengths": np.array([5, 4, 2])})
    found = source(Packed(), "x=float32[batch,time,3]", "lengths=int64[batch]", values=values)
    assert "lengths: tried with lengths from 1 on" in found.notes[0]


def test_real_lengths_are_cut_with_what_they_measure() -> None:
    real = [
        {"x": np.ones((3, n, 3), np.float32), "lengths": np.array([n, n - 2, 1])} for n in (9, 5)
    ]
    found = source(Packed(), "x=float32[batch,time,3]", "lengths=int64[batch]", values=Values(real))
    samples = [sample.inputs for sample in found.samples if sample.kind == "real"]
    for inputs in samples:
        assert 1 <= inputs["lengths"].min() <= inputs["lengths"].max() <= inputs["x"].shape[1]
    assert {inputs["x"].shape[1] for inputs in samples} > {5, 9}


class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(50, 4, mode="mean")

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        found: Tensor = self.table(ids, offsets)
        return found


@pytest.mark.parametrize("is_real", [True, False])
def test_bags_begin_inside_of_what_they_hold(is_real: bool) -> None:
    real = [{"ids": np.arange(n), "offsets": np.array([0, 2, n - 1])} for n in (7, 9)]
    values = Values(real if is_real else ())
    found = source(Bags(), "ids=int64[n]", "offsets=int64[bags]", values=values)
    samples = [sample.inputs for sample in found.samples if sample.kind != "edge"]
    for inputs in samples:
        offsets = inputs["offsets"]
        assert offsets[0] == 0
        assert (np.diff(offsets) >= 0).all()
        assert offsets.max() <= len(inputs["ids"])
    assert is_real or max(inputs["ids"].max() for inputs in samples) > 30


def test_edges_of_a_graph_that_is_smaller_than_the_example() -> None:
    def sends(nodes: Tensor, edges: Tensor) -> Tensor:
        return torch.zeros_like(nodes).index_add(0, edges[1], nodes[edges[0]])

    class Graph(nn.Module):
        def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
            return sends(nodes, edges)

    edges = np.array([[0, 6, 1], [3, 5, 2]])
    real = [{"nodes": np.ones((n, 2), np.float32), "edges": edges} for n in (7, 9)]
    for values in (Values(like={"edges": edges}), Values(real)):
        found = source(Graph(), "nodes=float32[n,2]", "edges=int64[2,e]", values=values)
        samples = [sample.inputs for sample in found.samples if sample.kind != "edge"]
        for inputs in samples:
            assert inputs["edges"].max() < len(inputs["nodes"])
    assert any(np.array_equal(inputs["edges"], edges) for inputs in samples)


@pytest.mark.parametrize(
    ("takes", "what"),
    [
        (lambda x: x.exp(), None),
        (lambda x: x.log(), "positive values"),
        (lambda x: (1 - x).sqrt() + x.sqrt(), "values between 0 and 1"),
        (lambda x: x / 0, None),  # nothing helps
    ],
)
def test_floats_that_the_module_answers(
    takes: Callable[[Tensor], Tensor], what: str | None
) -> None:
    notes = source(Takes(takes), "x=float32[batch,50]").notes
    assert what in notes[0] if what else not notes


def test_a_module_that_fails_whatever_is_drawn_is_told_with_the_first_failure() -> None:
    def fails(x: Tensor) -> Tensor:
        raise ValueError("negative" if (x < 0).any() else "positive")

    with pytest.raises(SourceError, match="ValueError: negative"):
        source(Takes(fails), "x=float32[batch,50]")


def test_other_styles_are_tried_quickly_and_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    runs = itertools.count()

    def nan(x: Tensor) -> Tensor:
        next(runs)
        print("forward")  # noqa: T201
        return x / 0

    source(Takes(nan), "x=float32[batch,50]")
    assert next(runs) < 20
    assert capsys.readouterr().out == "forward\n"


def test_no_other_style_for_real_samples() -> None:
    module = Takes(torch.log)
    call = make_call(module, (), {"x": torch.ones(2)})
    real = Values([{"x": -np.ones(2, np.float32)}])
    found = make_source(
        "m", module.eval(), call, parse_inputs(["x=float32[2]"]).specs, {}, values=real
    )
    assert not found.notes
