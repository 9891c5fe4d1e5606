"""What eager torch answers beside what files compute, where a mask hides the ends of rows."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.upstream import inference_only
from edgeport.deploy.proof.fused_attention import NOTE, _filled_up, check_fused
from edgeport.deploy.sources.running import run_module
from edgeport.runtimes import SourceError

PAD = 3


class Reads(nn.Module):
    """An encoder over words, hidden where they are ``PAD``."""

    def __init__(self, how: str, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(10, 8, padding_idx=PAD)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, **options)
        self.how = how

    def forward(self, ids: Tensor) -> Tensor:
        keep = (ids != PAD)[..., None]
        found: Tensor = self.encoder(self.table(ids), src_key_padding_mask=~keep[..., 0])
        if self.how == "tokens":
            return found
        if self.how == "mean":
            return found.mean(1)
        if self.how == "turned":
            return found.permute(2, 1, 0)
        if self.how == "joined":
            return found.flatten(0, 1)
        if self.how == "infinite":
            return found.index_fill(2, torch.tensor([0]), -torch.inf)
        if self.how == "found":
            return found[found.abs().sum(-1) > 0]
        return (found * keep).sum(1) / keep.sum(1)


class Hides(nn.Module):
    """An encoder over numbers, and a mask of them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.how = how

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        mask = {
            "lengths": lambda: torch.arange(x.shape[1]) >= rows[:, None],
            "kept": lambda: rows == 0,
            "added": lambda: rows,
        }[self.how]()
        found: Tensor = self.encoder(x, src_key_padding_mask=mask).mean(1)
        return found


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(10, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        found: Tensor = self.attention(x, x, x, key_padding_mask=ids == 0, need_weights=False)[0]
        return found


def told(module: nn.Module) -> str | None:
    source = deploy.source_of("m", module, {"ids": np.arange(4, 10).reshape(2, 3)})
    return check_fused(source.flat, source.example)


def test_a_mean_over_hidden_places_is_refused() -> None:
    with pytest.raises(SourceError) as raised:
        told(Reads("mean"))
    assert raised.value.problem == (
        "where a mask hides the ends of rows, eager torch answers otherwise than any file: "
        "nn.TransformerEncoder gives 0 at hidden places, and the result hangs on them"
    )
    assert raised.value.remedy == (
        "make it with enable_nested_tensor=False, and eager computes what files and torch.compile "
        "do; or leave hidden places out of the result"
    )


@pytest.mark.parametrize(
    ("how", "rows"),
    [
        ("lengths", torch.tensor([3, 3])),
        ("lengths", torch.tensor([3])),
        ("kept", torch.ones(2, 3)),
        ("added", torch.zeros(2, 3)),
    ],
)
def test_lengths_and_masks_of_floats_hide_too(how: str, rows: Tensor) -> None:
    example = {"x": torch.randn(len(rows), 3, 8), "rows": rows}
    source = deploy.source_of("m", Hides(how), example)
    with pytest.raises(SourceError, match="the result hangs on them"):
        check_fused(source.flat, source.example)


def test_results_whose_number_hangs_on_hidden_places_are_refused() -> None:
    with pytest.raises(SourceError, match="the result hangs on them"):
        told(Reads("found"))


def test_nothing_is_printed_of_how_it_was_asked() -> None:
    """torch warns of nested tensors, once in a process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
        mask = torch.zeros(2, 3, dtype=torch.bool)
        inputs = {"src": torch.randn(2, 3, 8), "src_key_padding_mask": mask}
        source = deploy.source_of("m", module, inputs)
    torch.set_warn_always(True)
    try:
        assert check_fused(source.flat, source.example) is not None  # a warning is an error here
    finally:
        torch.set_warn_always(False)


@pytest.mark.parametrize("how", ["tokens", "turned", "joined", "infinite"])
def test_what_differs_at_hidden_places_alone_is_told(how: str) -> None:
    assert told(Reads(how)) == NOTE


def test_a_padding_is_at_the_ends_of_rows_alone() -> None:
    ids = np.array([[3, 3, 5], [3, 7, 3], [3, 3, 3]])
    np.testing.assert_equal(_filled_up(ids, 3), [[5, 5, 3], [5, 3, 3], [5, 5, 3]])
    np.testing.assert_equal(_filled_up(ids[2:], 3), [[0, 0, 3]])
    hidden = np.array([[True, False, True, True]])
    np.testing.assert_equal(_filled_up(hidden, True), [[False, False, False, True]])
    np.testing.assert_equal(_filled_up(hidden, False), [[True, True, True, False]])
    np.testing.assert_equal(_filled_up(np.array([[4]]), 1), [[4]])


def test_what_hangs_on_no_hidden_place_is_fine() -> None:
    assert told(Reads("kept")) is None
    assert told(Reads("mean", enable_nested_tensor=False)) is None


@pytest.mark.slow
def test_rows_that_are_hidden_whole_are_0_as_with_gradients(tmp_path: Path) -> None:
    """In eager torch without gradients they are NaN, which no file has."""
    example = {"ids": torch.tensor([[1, 2, 3], [4, 5, 6]])}
    free = {"ids": {0: "batch", 1: "time"}}
    deploy.export(Attends(), example, tmp_path / "m.edge", dimensions=free, formats=["onnx"])
    with runtimes.open(tmp_path / "m.edge", backend="ort-cpu") as session:
        (output,) = session.run({"ids": np.array([[0, 0]])}).values()
    assert np.isfinite(output).all()


def test_the_choice_of_a_process_is_left_as_it_was() -> None:
    source = deploy.source_of("m", Reads("kept"), {"ids": np.arange(4, 10).reshape(2, 3)})
    assert torch.backends.mha.get_fastpath_enabled()
    with inference_only():
        run_module(source.flat, source.example)
    assert torch.backends.mha.get_fastpath_enabled()
