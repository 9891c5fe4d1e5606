"""The transformations that keep a module's meaning are those that an export makes."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgeport.deploy import make_call, make_source
from edgeport.deploy.compilers.upstream import inference_only, quiet
from edgeport.runtimes import TensorSpec
from scripts.faults.meaning_kept import _dynamo


def test_the_first_way_is_that_of_an_export(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    x = torch.randn(2, 4)
    spec = TensorSpec("x", "float32", ("batch", 4))
    source = make_source("net", module, make_call(module, (), {"x": x}), [spec], {})
    with quiet(), inference_only():
        way = next(iter(_dynamo(source, tmp_path)))
    assert way.name == "dynamo, opset 18, level none, 1 threads"
    with way.open() as session:
        (found,) = session.run({"x": x.numpy()}).values()
    np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-5, atol=1e-6)
