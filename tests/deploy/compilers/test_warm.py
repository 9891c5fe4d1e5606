"""What is loaded before the fork, and left as it was."""

import sys
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from edgeport.deploy.compilers import warm
from edgeport.deploy.compilers.upstream import quiet
from edgeport.deploy.compilers.warm import operators_kept, warm_up


def test_the_table_of_operators_is_the_exporters_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with operators_kept():
        kept, older, newest = (
            ONNXRegistry().from_torchlib(20),
            ONNXRegistry.from_torchlib(18),
            ONNXRegistry.from_torchlib(),
        )
        assert warm._operators(20) is warm._operators(20)  # read once
        kept.functions["aten::add.Tensor"].clear()  # as a translation of a caller's own may
        again = ONNXRegistry().from_torchlib(20)
    assert [each.opset_version for each in (kept, older, newest)] == [
        *(20, 18),
        ONNXRegistry().opset_version,
    ]
    own = ONNXRegistry().from_torchlib(20)
    assert {name: len(found) for name, found in own.functions.items()} == {
        name: len(found) for name, found in again.functions.items()
    }
    before = warm._operators(20)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    assert warm._operators(20) is not before  # its operators may be there now


def test_what_is_loaded_is_what_an_export_loads(capfd: pytest.CaptureFixture[str]) -> None:
    warm_up(["torchscript", "onnx", "pt2"], 20)
    assert capfd.readouterr() == ("", "")
    there = set(sys.modules)
    with quiet(), operators_kept():
        torch.onnx.export(nn.Linear(3, 2), (torch.ones(2, 3),), opset_version=20, dynamo=True)
    assert len(set(sys.modules) - there) < 40


def test_torchscript_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "import_module", pytest.fail)
    warm_up(["torchscript"], 20)
