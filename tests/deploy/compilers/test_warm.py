"""What is loaded before the fork, and left as it was."""

import sys

import torch
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from edgeport.deploy.compilers.upstream import quiet
from edgeport.deploy.compilers.warm import operators_kept, warm_up


def test_the_table_of_operators_is_read_once_and_is_the_exporters_own() -> None:
    with operators_kept():
        first, again, older = (ONNXRegistry().from_torchlib(n) for n in (20, 20, 18))
    assert first is again
    assert (first.opset_version, older.opset_version) == (20, 18)
    own = ONNXRegistry().from_torchlib(20)
    assert own is not first
    assert own.functions.keys() == first.functions.keys()


def test_an_export_leaves_the_table_as_it_was() -> None:
    with operators_kept(), quiet():
        before = {
            name: len(found) for name, found in ONNXRegistry().from_torchlib(20).functions.items()
        }
        torch.onnx.export(nn.LogSoftmax(-1), (torch.ones(2, 3),), opset_version=20, dynamo=True)
        after = ONNXRegistry().from_torchlib(20).functions
    assert {name: len(found) for name, found in after.items()} == before


def test_what_is_loaded_is_what_an_export_loads() -> None:
    warm_up(["torchscript", "onnx", "pt2"], 20)
    there = set(sys.modules)
    with quiet(), operators_kept():
        torch.onnx.export(nn.Linear(3, 2), (torch.ones(2, 3),), opset_version=20, dynamo=True)
    assert len(set(sys.modules) - there) < 10
