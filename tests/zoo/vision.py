"""The families of torchvision, with random weights, at small sizes. Needs ``torchvision``."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from edgeport.runtimes import Range

from .entry import Entry, calibrated, rows, widened

_KEPT: list[torch.library.Library] = []  # a definition lives as long as its library


def torchvision_models() -> Any:
    """``torchvision.models``, also where the wheel was built for another torch.

    Such a wheel's compiled operators do not load, and its import fails over two that it wants to
    describe. No model here calls them, so that declaring them is enough.
    """
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError:
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
        return importlib.import_module("torchvision.models")


def _model(name: str, side: int, *, widen: float = 1.0, **options: Any) -> Callable[[], nn.Module]:
    """Build it by name; residual branches that start at nothing are given a size."""

    def make() -> nn.Module:
        options_ = {"weights": None, "num_classes": 10} | options
        function = torchvision_models().get_model_builder(name)
        module = widened(function(**options_), widen)
        with torch.no_grad():
            for key, parameter in module.named_parameters():
                if key.endswith("layer_scale"):
                    parameter.uniform_(0.2, 1.0)
        return calibrated(module, lambda: (torch.randn(4, 3, side, side),))

    return make


def _entry(make: Callable[[], nn.Module], side: int, name: str = "x", **options: Any) -> Entry:
    return Entry(
        make,
        lambda batch: {name: torch.randn(batch, 3, side, side)},
        "vision",
        rows(name),
        ranges={"batch": Range(1, 4)},  # a larger batch proves nothing more, and costs minutes
        needs=("torchvision",),
        **options,
    )


def _vit() -> nn.Module:
    vit = torchvision_models().vision_transformer.VisionTransformer(
        32, 8, 2, 4, 32, 64, num_classes=10
    )
    nn.init.normal_(vit.heads.head.weight)
    module: nn.Module = vit
    return module


def _maxvit() -> nn.Module:
    maxvit = torchvision_models().maxvit.MaxVit(
        input_size=(64, 64), stem_channels=8, partition_size=2, block_channels=[8, 16],
        block_layers=[1, 1], head_dim=4, stochastic_depth_prob=0.0, num_classes=10,
    )  # fmt: skip
    return calibrated(widened(maxvit, 3.0), lambda: (torch.randn(4, 3, 64, 64),))


def _video() -> nn.Module:
    module = torchvision_models().video.r3d_18(weights=None, num_classes=10)
    return calibrated(module, lambda: (torch.randn(2, 3, 4, 16, 16),))


_SEGMENT: dict[str, Any] = {"weights_backbone": None}

ENTRIES: Mapping[str, Entry] = {
    "resnet18": _entry(_model("resnet18", 64), 64),
    "mobilenet v3 small": _entry(_model("mobilenet_v3_small", 64), 64),
    "efficientnet b0": _entry(_model("efficientnet_b0", 64), 64),
    "densenet121": _entry(_model("densenet121", 64), 64),
    "squeezenet": _entry(_model("squeezenet1_1", 64), 64),
    "shufflenet": _entry(_model("shufflenet_v2_x0_5", 64), 64),
    "mnasnet": _entry(_model("mnasnet0_5", 64), 64),
    "googlenet": _entry(_model("googlenet", 64, aux_logits=False, init_weights=True), 64),
    "inception v3": _entry(_model("inception_v3", 96, aux_logits=False, init_weights=True), 96),
    "regnet": _entry(_model("regnet_y_400mf", 64), 64),
    "convnext": _entry(_model("convnext_tiny", 64, widen=2.0), 64),
    "swin": _entry(_model("swin_t", 64, widen=2.0), 64),
    "vision transformer": _entry(_vit, 32),
    "maxvit": _entry(_maxvit, 64),
    "alexnet": _entry(_model("alexnet", 64), 64),
    "lraspp": _entry(_model("lraspp_mobilenet_v3_large", 64, **_SEGMENT), 64, "input"),
    "deeplab": _entry(_model("deeplabv3_mobilenet_v3_large", 64, **_SEGMENT), 64),
    "fcn": _entry(_model("fcn_resnet50", 64, **_SEGMENT), 64),
    "video resnet": Entry(
        _video,
        lambda batch: {"x": torch.randn(batch, 3, 4, 16, 16)},
        "vision",
        rows("x"),
        ranges={"batch": Range(1, 4)},
        needs=("torchvision",),
    ),
}
