"""What Python looks through before it ends."""

import gc
import sys
from types import ModuleType

import pytest

from edgeport.runtimes.collector import end_quickly


@pytest.mark.parametrize("has_triton", [False, True])
def test_it_looks_through_torch_only_beside_triton(
    has_triton: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "triton._C.libtriton"
    monkeypatch.delitem(sys.modules, name, raising=False)
    if has_triton:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    gc.freeze()
    try:
        end_quickly()
        assert (gc.get_freeze_count() == 0) == has_triton
    finally:
        gc.unfreeze()
