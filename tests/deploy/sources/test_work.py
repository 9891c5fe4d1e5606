"""How much one run takes, and that sizes whose product is too much are tried apart."""

import math

import pytest
import torch
from torch import Tensor, nn

from edgeport.deploy import make_call, make_source, parse_inputs
from edgeport.deploy.sources import work
from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.samples import cells
from edgeport.deploy.sources.source import Source


class Words(nn.Module):
    """A language model of one layer: 8 x 1,000 products, and 1,000 numbers, for each word."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 8)

    def forward(self, ids: Tensor) -> Tensor:
        words: Tensor = self.embedding(ids)
        return words @ self.embedding.weight.T


class Raises(nn.Module):
    def forward(self, ids: Tensor) -> Tensor:
        raise ValueError(ids)


def _source(module: nn.Module, sizes: str) -> Source:
    declared = parse_inputs([f"ids=int64[{sizes}]"])
    call = make_call(module, (), declared.arguments)
    return make_source("m", module.eval(), call, declared.specs, declared.ranges)


def _shapes(source: Source) -> set[tuple[int, ...]]:
    return {s.inputs["ids"].shape for s in source.samples if s.kind != "edge"}


@pytest.fixture(params=["MOST_NUMBERS", "MOST_OPERATIONS"])
def _little(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if 1,000 words were too much."""
    per_word = {"MOST_NUMBERS": 1000, "MOST_OPERATIONS": 2 * 8 * 1000}[request.param]
    monkeypatch.setattr(work, request.param, 1000 * per_word)


@pytest.mark.usefixtures("_little")
def test_sizes_whose_product_is_too_much_are_tried_apart() -> None:
    source = _source(Words(), "batch,time<=512")
    assert source.most_cells == 1000
    assert _shapes(source) == {(1, 2), (2, 7), (7, 32), (32, 1), (1, 512), (1, 1)}


def test_a_size_of_nothing_leaves_the_work_of_the_others() -> None:
    assert cells({"batch": 32, "time": 1024, "past": 0}) == 32 * 1024


@pytest.mark.usefixtures("_little")
def test_one_free_size_is_tried_whatever_it_takes() -> None:
    source = _source(Words(), "2,time<=2000")
    assert source.most_cells == math.inf
    assert (2, 2000) in _shapes(source)


def test_what_is_little_is_tried_together() -> None:
    assert _shapes(_source(Words(), "batch,time<=512")) == {
        *((1, 2), (2, 7), (7, 32), (32, 512), (1, 1))
    }


def test_the_products_of_an_lstm_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "MOST_NUMBERS", 2**60)
    declared = parse_inputs(["x=float32[batch,time,8]"])
    lstm = nn.LSTM(8, 256, batch_first=True).eval()
    source = make_source("m", lstm, make_call(lstm, (), declared.arguments), declared.specs, {})
    assert source.most_cells == pytest.approx(2**37 / (2 * 4 * 256 * (8 + 256)))


def test_of_a_module_that_fails_nothing_is_known() -> None:
    declared = parse_inputs(["ids=int64[batch,time]"])
    flat = Flat(Raises(), make_call(Raises(), (), declared.arguments))
    signature = _source(Words(), "batch,time").signature
    sizes = {"batch": 2, "time": 3}
    inputs = {"ids": torch.ones(2, 3, dtype=torch.int64).numpy()}
    assert work.most_cells(flat, signature, inputs, sizes) == math.inf
