"""What is loaded before the fork, and left as it was."""

import sys
from types import ModuleType

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry

from edgeport.deploy.compilers import warm
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


def test_what_is_loaded_is_what_an_export_loads(
    loaded_late: set[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(loaded_late) < 40
    warm._read.cache_clear()  # as in a process that has exported nothing
    warm_up(["torchscript", "onnx", "pt2"], 20)
    assert capfd.readouterr() == ("", "")


def test_torchscript_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "import_module", pytest.fail)
    warm_up(["torchscript"], 20)
