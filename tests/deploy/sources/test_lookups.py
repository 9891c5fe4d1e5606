from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport.deploy.sources.drawing import Table, Values
from edgeport.deploy.sources.flat import Call, Flat
from edgeport.deploy.sources.lookups import with_tables
from edgeport.runtimes import Signature, TensorSpec


class Looks(nn.Module):
    def __init__(self, forward: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.looks = forward

    def forward(self, ids: Tensor, x: Tensor) -> Tensor:
        return self.looks(ids, x)


def tables(module: nn.Module) -> dict[str, Table]:
    return dict(values_of(module).tables)


def values_of(module: nn.Module) -> Values:
    declared = Signature(
        (
            TensorSpec("ids", "int64", ("batch", "time")),
            TensorSpec("x", "float32", ("batch", "time")),
        ),
        (),
    )
    example = {"ids": torch.zeros(2, 3, dtype=torch.int64), "x": torch.zeros(2, 3)}
    flat = Flat(module, Call.of(example, by_position=2))
    return with_tables(flat, declared, Values())


TABLE = torch.arange(30.0)


@pytest.mark.parametrize(
    "looks",
    [
        lambda ids, x: functional.embedding(ids, TABLE[:, None]),
        lambda ids, x: functional.embedding(ids.view(-1).int(), TABLE[:, None]),
        lambda ids, x: functional.embedding(ids[:, :1], TABLE[:, None]),
        lambda ids, x: functional.embedding_bag(ids, TABLE[:, None]),
        lambda ids, x: TABLE[ids],
        lambda ids, x: TABLE.index_select(0, ids.flatten()),
        lambda ids, x: TABLE.expand(len(ids), 30).gather(1, ids),
        lambda ids, x: functional.one_hot(ids, 30),
        lambda ids, x: torch.zeros(30).scatter_add(0, ids.flatten(), x.flatten()),
        lambda ids, x: torch.zeros(30).index_put((ids,), x, accumulate=True),
        lambda ids, x: torch.stack([TABLE[each] for each in ids.unbind(1)]),
        lambda ids, x: TABLE[ids] + TABLE.repeat(2)[ids],  # the shorter one
        lambda ids, x: TABLE[ids] / [][0],  # fails, but later
        lambda ids, x: TABLE[ids % 30] + TABLE[ids.clamp(0, 29)],
        lambda ids, x: TABLE[ids.masked_fill(ids < 0, 0)],
        lambda ids, x: TABLE[torch.cat([ids[ids != 3], torch.arange(30)])],
        lambda ids, x: torch.arange(40.0)[ids[:, :1] + torch.tensor([0, 10])],  # fields
        lambda ids, x: torch.arange(31.0)[1 + ids],
    ],
)
def test_a_table_of_30(looks: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert tables(Looks(looks)) == {"ids": 30}


def test_a_table_as_long_as_a_free_dimension() -> None:
    assert tables(Looks(lambda ids, x: x.gather(1, ids))) == {"ids": "time"}


@pytest.mark.parametrize(
    "looks",
    [
        lambda ids, x: x * ids,
        lambda ids, x: TABLE[ids * 2],  # what is looked up is another tensor
        lambda ids, x: x[x > 0] + TABLE[(x > 0).long()].sum(),
        lambda ids, x: TABLE.repeat(len(x) * 2)[ids],  # as long as nothing that is declared
        lambda ids, x: TABLE[ids.clone().mul_(2)],
    ],
)
def test_what_is_not_looked_up(looks: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert tables(Looks(looks)) == {}


def test_the_first_and_the_last_index_are_moved_by_what_is_added() -> None:
    found = values_of(Looks(lambda ids, x: TABLE[ids - 1900]))
    assert (found.firsts, found.tables) == ({"ids": 1900}, {"ids": 1930})


def test_what_comes_after_a_failed_lookup_is_found_too() -> None:
    found = values_of(Looks(lambda ids, x: TABLE[ids[:, :1] - 5] + TABLE[:20][ids - 3]))
    assert (found.firsts, found.tables) == ({"ids": 5}, {"ids": 23})


def test_a_length_that_is_looked_up_less_one_stays_a_length() -> None:
    class Last(nn.Module):
        def forward(self, ids: Tensor, x: Tensor) -> Tensor:
            return x.gather(1, ids[:, None] - 1)

    specs = (TensorSpec("ids", "int64", ("batch",)), TensorSpec("x", "float32", ("batch", 5)))
    example = {"ids": torch.ones(2, dtype=torch.int64), "x": torch.zeros(2, 5)}
    flat = Flat(Last(), Call.of(example, by_position=2))
    assert with_tables(flat, Signature(specs, ()), Values()).tables == {}


def test_what_a_remainder_brings_back_is_drawn_too() -> None:
    assert tables(Looks(lambda ids, x: TABLE[ids % 30])) == {"ids": 120}


def test_tables_that_one_later_run_misses_stay_known() -> None:
    runs = iter(range(100))

    def looks(ids: Tensor, x: Tensor) -> Tensor:  # a first lookup, while another one fails
        if next(runs) < 2:
            return TABLE[ids] / [][0]
        return TABLE[x.long()[:0] + 40]

    assert tables(Looks(looks)) == {"ids": 30}
