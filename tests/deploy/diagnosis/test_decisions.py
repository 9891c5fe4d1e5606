import torch
from torch import Tensor, nn

from edgeport.deploy.diagnosis.decisions import (
    Decision,
    describe,
    record_decisions,
    taken_both_ways,
    unexercised,
)


class Chooser(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x + 1
        return x - 1


class Reader(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.sum() < 1e9
        count = int(x.abs().sum())
        largest = x.max().item()
        listed = x[0].tolist()
        positive = x[x > 0]
        rows = torch.where(x > 0)[0]
        start = x[: torch.tensor(1)]
        return x + count + largest + len(listed) + len(positive) + len(rows) + len(start)


def code(decision: Decision) -> str:
    return decision.source.partition("  ")[2]


def test_a_branch_that_went_both_ways_is_exercised() -> None:
    module = nn.Sequential(nn.Identity(), Chooser())
    with record_decisions(module) as decisions:
        module(torch.ones(2))
        module(-torch.ones(2))
    (found,) = decisions
    assert (found.kind, found.layer, found.values) == ("bool", "1 (Chooser)", (True, False))
    assert found.source.startswith("tests/deploy/diagnosis/test_decisions.py:")
    assert code(found) == "if x.sum() > 0:"
    assert unexercised(decisions) == ()
    assert taken_both_ways(decisions) == (found,)
    assert "went both ways in the samples, and the file has one, which is proved" in describe(found)


def test_a_branch_that_went_one_way_is_told() -> None:
    with record_decisions(module := Chooser()) as decisions:
        module(torch.ones(2))
        module(torch.ones(3))
    (found,) = unexercised(decisions)
    assert taken_both_ways(decisions) == ()
    sentence = describe(found)
    assert "`if x.sum() > 0:`, in Chooser, went one way in every sample" in sentence
    assert "what the other branch computes is not proved: give a sample" in sentence
    assert "so the file refuses inputs that take the other: give a sample" in describe(
        found, is_refused=True
    )


def test_what_is_read_and_how() -> None:
    with record_decisions(module := Reader()) as decisions:
        module(torch.tensor([[1.0, 2.0], [-3.0, 4.0]]))
    assert [(code(found).split(" = ")[0], found.kind, found.values) for found in decisions] == [
        ("assert x.sum() < 1e9", "bool", (True,)),
        ("count", "number", (10,)),
        ("largest", "number", (4.0,)),
        ("listed", "array", (2,)),
        ("positive", "chosen", (3,)),
        ("rows", "chosen", (3,)),
        ("start", "size", (1,)),
    ]
    told = unexercised(decisions)  # the other way of an assert computes nothing
    assert [code(found).split(" = ")[0] for found in told] == ["positive", "rows"]
    assert "chose something in every sample, so what is answered where nothing" in describe(told[0])


def test_what_chose_nothing_too_is_exercised() -> None:
    with record_decisions(module := Reader()) as decisions:
        for rows in (*range(1, 12), 0):
            x = torch.full((20, 2), -1.0)
            x[:rows] = 1.0
            module(x)
    assert unexercised(decisions) == ()


def test_a_module_without_decisions_has_none() -> None:
    with record_decisions(module := nn.Linear(2, 2)) as decisions:
        x = module(torch.ones(1, 2))
    assert len(decisions) == 0
    assert not decisions.failed
    assert torch.equal(x, module(torch.ones(1, 2)))


def test_what_the_caller_reads_is_no_decision_of_the_module() -> None:
    with record_decisions(module := nn.Identity()) as decisions:
        assert module(torch.ones(2)).sum() > 0
    assert len(decisions) == 0


def test_a_run_that_fails_leaves_no_record() -> None:
    with record_decisions(module := Chooser()) as decisions:
        module(torch.ones(2))
        module("text")
    assert decisions.failed
    assert list(decisions) == []


def test_many_values_are_not_kept() -> None:
    with record_decisions(module := Reader()) as decisions:
        for size in range(1, 30):
            module(torch.full((1, 2), float(size)))
    assert all(len(found.values) <= 8 for found in decisions)


class Held(nn.Module):
    """Reads what it holds, and what it prints."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("ready", torch.tensor(True))

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            return x
        if x.max() > 50:
            print("large", x.max().item())  # noqa: T201
        return x / self.scale.item()


def test_what_is_held_or_told_to_people_is_no_decision() -> None:
    with record_decisions(module := Held()) as decisions:
        module(torch.ones(2))
    assert not decisions.failed
    assert [*decisions] == []


class Counts(nn.Module):
    calls: Tensor
    known: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("known", torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 1:
            return x
        return x * int(self.calls) if torch.equal(self.known, x) else x


def test_what_forward_writes_to_or_compares_with_is_a_decision() -> None:
    with record_decisions(module := Counts()) as decisions:
        module(torch.ones(2))
    assert [decision.kind for decision in decisions] == ["bool", "bool", "number"]
