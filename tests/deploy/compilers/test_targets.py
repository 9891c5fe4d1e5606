import importlib.metadata

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgeport.deploy.compilers import targets
from edgeport.deploy.compilers.targets import (
    DEFAULT_OPSET,
    DYNAMO_OPSETS,
    OPSETS,
    TARGETS,
    OnnxRequest,
    check_dtypes,
    find_target,
    negotiate,
)
from edgeport.runtimes import Signature, TensorSpec, UsageError
from edgeport.runtimes.signature import DTYPES

INSTALLED = "ort-" + ".".join(importlib.metadata.version("onnxruntime").split(".")[:2])


def one_node(
    operator: str = "Identity", dtype: int = TensorProto.FLOAT, opset: int = 13, ir_version: int = 7
) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"])],
        "g",
        [value("x", dtype, ["n"])],
        [value("y", dtype, ["n"])],
    )
    opsets = [helper.make_opsetid("", opset)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    return model


def opens(model: onnx.ModelProto) -> bool:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options)
    except Exception:  # its exceptions have no common base
        return False
    return True


def test_the_row_of_the_installed_runtime_is_true() -> None:
    target = find_target(INSTALLED)
    assert opens(one_node(opset=target.newest_opset))
    assert not opens(one_node(opset=target.newest_opset + 1))
    assert opens(one_node(ir_version=target.newest_ir))
    assert not opens(one_node(ir_version=target.newest_ir + 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_installed_runtime_passes_every_dtype(dtype: str) -> None:
    model = one_node(dtype=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    x = np.ones(3, dtype)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (y,) = map(np.asarray, session.run(None, {"x": x}))
    assert y.dtype == x.dtype
    assert (y == x).all()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_rows_agree_with_the_releases_of_onnx(target: targets.Target) -> None:
    if target.name.startswith("ort-"):
        assert target.newest_ir >= helper.OP_SET_ID_VERSION_MAP["ai.onnx", target.newest_opset]
    assert set(target.dtypes) <= set(DTYPES)
    assert target.source


def test_there_is_a_row_for_every_minor_release() -> None:
    names = [target.name for target in TARGETS]
    tensorrt = ["tensorrt-10", "tensorrt-11", "tensorrt-rtx-1"]
    assert names == [*(f"ort-1.{minor}" for minor in range(14, 33)), *tensorrt]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_is_negotiated_is_read_by_the_target_and_written_by_dynamo(
    target: targets.Target,
) -> None:
    request = negotiate(target=target)
    assert request.opset in DYNAMO_OPSETS
    assert request.opset == min(20, target.newest_opset)
    assert request.ir_version == min({18: 8, 19: 9, 20: 10}[request.opset], target.newest_ir)
    assert request.target == target.name
    newest = min(OPSETS[-1], target.newest_opset)
    for opset in range(OPSETS.start, newest + 1):
        assert negotiate(opset, target).opset == opset
        assert negotiate(opset, target).ir_version <= target.newest_ir
    with pytest.raises(UsageError, match=rf"asked for ONNX opset {newest + 1}, .* to {newest}"):
        negotiate(newest + 1, target)


def test_without_a_target() -> None:
    assert negotiate() == OnnxRequest(20, 10, None)
    assert negotiate() == negotiate(DEFAULT_OPSET)
    assert [negotiate(opset).ir_version for opset in OPSETS] == [7, 7, *[8] * 4, 9, *[10] * 5]


@pytest.mark.parametrize(
    ("opset", "name", "problem"),
    [
        (12, None, "asked for ONNX opset 12, we write 13 to 24"),
        (25, None, "asked for ONNX opset 25, we write 13 to 24"),
        (12, "ort-1.16", "asked for ONNX opset 12, we write 13 to 24"),
        (20, "ort-1.16", "asked for ONNX opset 20, ort-1.16 reads up to 19"),
        (25, "ort-1.31", "asked for ONNX opset 25, we write 13 to 24"),
        (21, "tensorrt-10", "asked for ONNX opset 21, tensorrt-10 reads up to 20"),
    ],
)
def test_an_opset_that_cannot_be(opset: int, name: str | None, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        negotiate(opset, find_target(name) if name else None)
    assert caught.value.problem == problem
    newest = {"ort-1.16": 19, "tensorrt-10": 20}.get(name or "", 24)
    assert caught.value.remedy == f"use --opset 13 to {newest}, or leave it out"


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("ort-1.20.1", "ort-1.20"),
        ("tensorrt10", "tensorrt-10"),
        ("nothing", ""),
        ("ort-1.13", ""),  # ort-1.32 is spelled alike, and means another
    ],
)
def test_an_unknown_target(name: str, close: str) -> None:
    with pytest.raises(UsageError, match=f"there is no target '{name}'") as caught:
        find_target(name)
    assert caught.value.remedy.startswith(f"did you mean {close!r}? " if close else "the targets")
    assert "ort-1.14, " in caught.value.remedy
    assert "tensorrt-11" in caught.value.remedy


def test_a_dtype_that_the_target_cannot_take() -> None:
    x, y = TensorSpec("x", "float32", ("n",)), TensorSpec("y", "float64", ("n",))
    check_dtypes(find_target("ort-1.14"), Signature((x,), (y,)))
    check_dtypes(find_target("tensorrt-10"), Signature((x,), (x,)))
    with pytest.raises(UsageError, match="the output 'y' is float64, tensorrt-10 takes bool, ui"):
        check_dtypes(find_target("tensorrt-10"), Signature((x,), (y,)))
    with pytest.raises(UsageError, match="the input 'y' is float64"):
        check_dtypes(find_target("tensorrt-11"), Signature((y,), (x,)))
