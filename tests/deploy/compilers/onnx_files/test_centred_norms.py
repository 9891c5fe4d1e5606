"""A normalisation of values that are all alike, or nearly, beside torch's."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from torch import nn

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.onnx_files.centred_norms import centre


def model(*shape: int | str) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    channels = [helper.make_tensor(name, 1, [3], [of] * 3) for name, of in (("w", 1.0), ("b", 0.0))]
    node = helper.make_node("InstanceNormalization", ["x", "w", "b"], ["y"], "normalised")
    graph = helper.make_graph([node], "g", [value("x", 1, shape)], [value("y", 1, shape)], channels)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("axes", [(20_000,), (150, 150), (20, 30, 40)])
@pytest.mark.parametrize("spread", [0.0, 1e-5, 0.3])
def test_what_is_left_of_nearly_equal_values_is_as_exact_as_torch_has_it(
    axes: tuple[int, ...], spread: float
) -> None:
    made = model("n", 3, *(f"a{axis}" for axis in range(len(axes))))
    centre(made)
    onnx.checker.check_model(made, full_check=True)
    assert (made.graph.node[-1].name, *made.graph.node[-1].output) == ("normalised", "y")
    noise = torch.randn(2, 3, *axes, generator=torch.Generator().manual_seed(0))
    x = 3.7 + spread * noise
    session = onnxruntime.InferenceSession(made.SerializeToString())
    (found,) = session.run(None, {"x": x.numpy()})
    truth = nn.functional.instance_norm(x.double())
    floor = (nn.functional.instance_norm(x) - truth).square().mean().sqrt()
    assert (torch.from_numpy(found) - truth).square().mean().sqrt() < 4 * floor


@pytest.mark.slow
def test_a_volume_of_one_value_is_in_the_file_as_in_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv3d(1, 4, 1), nn.InstanceNorm3d(4, affine=True), nn.Tanh()).eval()
    example = torch.randn(2, 1, 24, 24, 24)
    deploy.export(
        module,
        {"input": example},
        tmp_path / "a.edge",
        dimensions={"input": {0: "batch"}},
        formats=["onnx"],
    )
    grey = torch.full((1, 1, 24, 24, 24), 0.37)
    with runtimes.open(tmp_path / "a.edge", "ort-cpu") as session:
        (found,) = session.run({"input": grey.numpy()}).values()
    truth = module.double()(grey.double()).detach().numpy()
    assert np.abs(found - truth).max() < 1e-5
