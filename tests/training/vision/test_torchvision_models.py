import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgeport.runtimes import (
    BackendMissingError,
    FormatError,
    MissingFileError,
    SourceError,
    UsageError,
)
from edgeport.training.vision import check_size, freeze_all_but, load_weights, make_network


class Network(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Linear(6, 8)
        self.fc = nn.Linear(8, classes)


def test_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(BackendMissingError, match="vision models come with torchvision") as caught:
        make_network("resnet18", 2)
    assert caught.value.remedy == "pip install 'edgeport[vision]'"


@pytest.mark.skipif(not find_spec("torchvision"), reason="the extra 'vision' is not installed")
def test_a_name_that_torchvision_has_not() -> None:
    for name, remedy in (("resnet81", "did you mean 'resnet18'?"), ("?", "use one of resnet18, ")):
        with pytest.raises(UsageError, match="no classification model") as caught:
            make_network(name, 2)
        assert remedy in caught.value.remedy


def test_a_size_that_a_network_takes_is_known_before_a_training() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 5), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    check_size(network, 5)
    assert network[1].num_batches_tracked == 0
    for side, reason in ((4, "Calculated padded input size"), (6, "(addmm: )?mat1 and mat2")):
        with pytest.raises(SourceError, match=f"takes no images of {side}x{side}: {reason}"):
            check_size(network, side)


class Silent(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError


def test_a_network_may_refuse_a_size_without_a_word() -> None:
    with pytest.raises(SourceError, match="Silent takes no images of 5x5: AssertionError"):
        check_size(Silent(), 5)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_other_classes_are_taken_but_for_the_last_layer(
    tmp_path: Path, suffix: str
) -> None:
    pretrained, network = Network(10), Network(3)
    file = tmp_path / f"weights{suffix}"
    state = pretrained.state_dict()
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    left = load_weights(network, file)
    assert left == ["fc.weight", "fc.bias"]
    assert torch.equal(network.body.weight, pretrained.body.weight)
    freeze_all_but(network, left)
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert trained == ["fc.weight", "fc.bias"]


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("made-by-a-pickle"),))


def test_files_that_hold_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "weights.pth"
    with pytest.raises(MissingFileError, match="no such file"):
        load_weights(Network(3), file)
    file.write_bytes(b"no")
    with pytest.raises(FormatError, match=re.escape(f"{file} holds no weights: ")) as told:
        load_weights(Network(3), file)
    assert "weights_only" not in str(told.value), "torch advises to set it to False"
    torch.save({"a": Evil()}, file)
    with pytest.raises(FormatError, match="holds no weights: it is no plain state_dict, and not"):
        load_weights(Network(3), file)
    assert not (tmp_path / "made-by-a-pickle").exists()
    torch.save([1, 2], file)
    with pytest.raises(FormatError, match="is no state_dict"):
        load_weights(Network(3), file)
    torch.save(nn.Conv2d(1, 1, 1).state_dict(), file)
    with pytest.raises(SourceError, match="has 0 of the 4 tensors of Network"):
        load_weights(Network(3), file)
