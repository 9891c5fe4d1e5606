from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgeport.deploy.sources import trees
from edgeport.runtimes.structure import check_structure, rebuild

Pair = namedtuple("Pair", ["left", "right"])


@dataclass(frozen=True)
class Result:
    logits: Tensor
    state: tuple[Tensor, ...] | None = None
    mode: str = "sum"


LEAVES = st.builds(lambda: torch.zeros(1)) | st.none() | st.booleans() | st.integers() | st.text()
TREES = st.recursive(
    LEAVES,
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(st.text("abc", min_size=1) | st.integers(0, 9), children, max_size=3)
        | st.builds(Pair, children, children)
        | st.builds(Result, children, children)
    ),
    max_leaves=8,
)


@given(TREES)
def test_a_tree_is_filled_and_recorded_and_rebuilt(tree: Any) -> None:
    found = list(trees.named_tensors(tree, "x"))
    assert [tensor for _, tensor in found] == list(trees.tensors(tree))
    numbers = [torch.tensor(float(index)) for index in range(len(found))]
    again = trees.filled(tree, iter(numbers))
    assert list(trees.tensors(again)) == numbers
    names = [f"t{index}" for index in range(len(found))]
    node = trees.structure(tree, iter(names))
    check_structure(node, names)
    arrays = {name: np.asarray(index) for index, name in enumerate(names)}
    assert _shape(rebuild(node, arrays)) == _shape(tree)


def _shape(tree: Any) -> Any:
    """What a device sees of a tree: objects as dicts, tensors as marks."""
    if isinstance(tree, Tensor | np.ndarray):
        return "tensor"
    if hasattr(tree, "_asdict"):
        return _shape(tree._asdict())
    if isinstance(tree, Result):
        return _shape(dict(vars(tree)))
    if isinstance(tree, dict):
        return {key: _shape(child) for key, child in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(map(_shape, tree))
    return tree


def test_names_are_readable() -> None:
    x = torch.zeros(1)
    tree = {"logits": x, "state": (x, [x]), "more": Result(x, (x,)), "pair": Pair(x, None)}
    assert [name for name, _ in trees.named_tensors(tree, "")] == [
        "logits", "state_0", "state_1_0", "more_logits", "more_state_0", "pair_left",
    ]  # fmt: skip  # one line


def test_containers_keep_their_kind() -> None:
    x = torch.zeros(1)
    tree: OrderedDict[str, Any] = OrderedDict(a=[x], b=Pair(x, 3), c=Result(x))
    new = trees.filled(tree, iter([x + 1, x + 2, x + 3]))
    assert type(new) is OrderedDict
    assert type(new["a"]) is list
    assert new["b"] == Pair(x + 2, 3)
    assert isinstance(new["c"], Result)
    assert new["c"].logits == 3
    assert tree["c"].logits == 0


class Numbers(tuple[int, ...]):
    """As the irreps of e3nn, which take part in sums and so have no length."""

    def __len__(self) -> int:
        raise NotImplementedError


def test_a_tuple_need_not_have_a_length() -> None:
    assert trees.children(Numbers((3, 4))) == [(0, 3), (1, 4)]


def test_numpy_arrays_become_tensors() -> None:
    tree = trees.with_tensors({"a": (np.ones(2), "text"), "b": torch.zeros(1)})
    assert torch.equal(tree["a"][0], torch.ones(2, dtype=torch.float64))
    assert tree["a"][1] == "text"


@pytest.mark.parametrize("strange", [slice(1), {1}, object, torch.float32])
def test_what_no_signature_can_record_is_found(strange: object) -> None:
    assert list(trees.others((torch.zeros(1), [strange, None]))) == [strange]
