"""Places beyond an image, and those that are none, beside torch's."""

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.onnx_files.far_places import write_out_far_places

PLACES = (math.nan, math.inf, -math.inf, 1e30, -1e12, 1e8, 17.0, -16.5, 3.0, 1.0, -1.0, 0.3)
IMAGE = torch.randn(1, 2, 4, 5, generator=torch.Generator().manual_seed(0))


VOLUME = torch.randn(1, 2, 4, 5, 3, generator=torch.Generator().manual_seed(0))


def model(mode: str, padding: str, align: bool, *more: str) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    node = helper.make_node(
        "GridSample",
        ["x", "places"],
        ["y"],
        "sampled",
        mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode),
        padding_mode=padding,
        align_corners=int(align),
    )
    graph = helper.make_graph(
        [node],
        "g",
        [
            value("x", 1, ["n", 2, "h", "w", *more]),
            value("places", 1, ["n", "a", "b", *more, 2 + len(more)]),
        ],
        [value("y", 1, ["n", 2, "a", "b", *more])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_a_place_beyond_the_image_is_there(mode: str, padding: str, align: bool) -> None:
    made = model(mode, padding, align)
    write_out_far_places(made)
    onnx.checker.check_model(made, full_check=True)
    assert made.graph.node[-1].output == ["y"]
    session = onnxruntime.InferenceSession(made.SerializeToString())
    places = torch.cartesian_prod(*[torch.tensor(PLACES)] * 2).reshape(1, 12, 12, 2)
    (found,) = session.run(None, {"x": IMAGE.numpy(), "places": places.numpy()})
    expected = functional.grid_sample(
        IMAGE, places, mode=mode, padding_mode=padding, align_corners=align
    )
    np.testing.assert_allclose(np.asarray(found), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_a_place_beyond_a_volume_is_there(mode: str, padding: str, align: bool) -> None:
    made = model(mode, padding, align, "d")
    write_out_far_places(made)
    onnx.checker.check_model(made, full_check=True)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    places = torch.cartesian_prod(*[torch.tensor(PLACES)] * 3).reshape(1, 12, 12, 12, 3)
    (found,) = session.run(None, {"x": VOLUME.numpy(), "places": places.numpy()})
    expected = functional.grid_sample(
        VOLUME, places, mode=mode, padding_mode=padding, align_corners=align
    )
    np.testing.assert_allclose(np.asarray(found), expected.numpy(), atol=1e-5)


def test_without_a_type_nothing_is_changed() -> None:
    made = model("nearest", "zeros", False)
    del made.graph.input[1]
    before = made.SerializeToString()
    write_out_far_places(made)
    assert made.SerializeToString() == before


class Projected(nn.Module):
    """Points in front of a camera, or behind it."""

    def forward(self, image: Tensor, points: Tensor) -> Tensor:
        places = points[..., :2] / points[..., 2:]
        return functional.grid_sample(image, places, align_corners=False)


def test_points_without_a_depth_are_as_in_the_module(tmp_path: Path) -> None:
    module, path = Projected(), tmp_path / "m.edge"
    points = torch.randn(2, 3, 3, 3)
    example = {"image": IMAGE.repeat(2, 1, 1, 1), "points": points}
    dimensions = {name: {0: "batch"} for name in example}
    deploy.export(module, example, path, dimensions=dimensions, formats=["onnx"])
    points[0, ..., 2] = 1e-25
    points[1, ..., 2] = 0
    with runtimes.open(path) as session:
        found = session.run({name: each.numpy() for name, each in example.items()})["output"]
    np.testing.assert_allclose(found, module(**example).numpy(), atol=1e-5)
