"""A Triton model repository, read back and held against the rules that Triton documents."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeport.runtimes import (
    Bundle,
    ExistingFileError,
    IntegrityError,
    Range,
    Signature,
    TensorSpec,
    UsageError,
)
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.handoff.pbtxt import dumps
from edgeport.runtimes.handoff.triton import LAYOUTS, configuration, emit
from edgeport.runtimes.signature import DTYPES

# Messages of Triton's model_config.proto that are used, field by field (BSD-3-Clause,
# https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto). A field
# that is not there, or a value of another type, is an error when the text is parsed.
PROTO: dict[str, dict[str, str]] = {
    "ModelConfig": {
        "name": "string", "backend": "string", "platform": "string",
        "default_model_filename": "string", "max_batch_size": "int32", "input": "ModelInput*",
        "output": "ModelOutput*", "instance_group": "ModelInstanceGroup*",
        "dynamic_batching": "ModelDynamicBatching", "model_warmup": "ModelWarmup*",
    },
    "ModelInput": {
        "name": "string", "data_type": "DataType", "dims": "int64*",
        "reshape": "ModelTensorReshape",
    },
    "ModelOutput": {
        "name": "string", "data_type": "DataType", "dims": "int64*",
        "reshape": "ModelTensorReshape",
    },
    "ModelTensorReshape": {"shape": "int64*"},
    "ModelInstanceGroup": {"name": "string", "kind": "Kind", "count": "int32"},
    "ModelDynamicBatching": {"preferred_batch_size": "int32*"},
    "ModelWarmup": {"name": "string", "batch_size": "uint32", "inputs": "InputsEntry*"},
    "InputsEntry": {"key": "string", "value": "Input"},
    "Input": {"data_type": "DataType", "dims": "int64*", "input_data_file": "string"},
}  # fmt: skip
ENUMS = {
    "Kind": ["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"],
    "DataType": [
        "TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64",
        "TYPE_INT8", "TYPE_INT16", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32",
        "TYPE_FP64", "TYPE_STRING", "TYPE_BF16",
    ],
}  # fmt: skip


def model_config() -> Any:
    """The class of ``ModelConfig``, made from the table above."""
    field = descriptor_pb2.FieldDescriptorProto
    scalars = {
        "string": field.TYPE_STRING,
        "int32": field.TYPE_INT32,
        "int64": field.TYPE_INT64,
        "uint32": field.TYPE_UINT32,
    }
    file = descriptor_pb2.FileDescriptorProto(name="m.proto", package="inference", syntax="proto3")
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, members in PROTO.items():
        message = file.message_type.add(name=name)
        for number, (member, kind) in enumerate(members.items(), 1):
            plain = kind.removesuffix("*")
            many = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
            entry = message.field.add(name=member, number=number, label=many)
            if plain in scalars:
                entry.type = scalars[plain]
            else:
                entry.type = field.TYPE_ENUM if plain in ENUMS else field.TYPE_MESSAGE
                entry.type_name = f".inference.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


MODEL_CONFIG = model_config()

TYPES = {  # Triton's table of datatypes: what each backend takes
    "onnxruntime": set(ENUMS["DataType"][1:14]),
    "pytorch": {
        "TYPE_BOOL", "TYPE_UINT8", "TYPE_INT8", "TYPE_INT16", "TYPE_INT32", "TYPE_INT64",
        "TYPE_FP16", "TYPE_FP32", "TYPE_FP64",
    },
    "tensorrt": {
        "TYPE_BOOL", "TYPE_UINT8", "TYPE_INT8", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16",
        "TYPE_FP32", "TYPE_BF16",
    },
}  # fmt: skip
SIZES = {"BOOL": 1, "8": 1, "16": 2, "32": 4, "64": 8}
FILES = {"onnxruntime": "model.onnx", "pytorch": "model.pt", "tensorrt": "model.plan"}


def check_config(config: Any) -> None:
    """What model_configuration.md and the comments of model_config.proto demand."""
    assert config.name
    assert config.max_batch_size >= 0
    assert config.input
    assert config.output
    names = [[tensor.name for tensor in side] for side in (config.input, config.output)]
    assert all(len(set(side)) == len(side) for side in names)
    for tensor in (*config.input, *config.output):
        assert tensor.name
        assert ENUMS["DataType"][tensor.data_type] in TYPES[config.backend]
        assert tensor.dims, "the empty shape [ ] is not allowed"
        assert all(size == -1 or size >= 1 for size in tensor.dims)
        if tensor.HasField("reshape"):
            shapes = [[s for s in side if s != 1] for side in (tensor.dims, tensor.reshape.shape)]
            assert shapes[0] == shapes[1], "a reshape keeps the number of elements"
    if config.HasField("dynamic_batching"):
        assert config.max_batch_size > 0, "only a model that batches has a dynamic batcher"
    if config.backend == "pytorch":
        assert names == [
            [f"{kind}__{i}" for i in range(len(side))]
            for kind, side in zip(("INPUT", "OUTPUT"), names, strict=True)
        ]
    for warmup in config.model_warmup:
        assert warmup.batch_size >= 1
        assert warmup.batch_size == 1 or config.max_batch_size >= warmup.batch_size
        assert {entry.key for entry in warmup.inputs} == set(names[0])
        declared = {tensor.name: tensor for tensor in config.input}
        for entry in warmup.inputs:
            tensor = declared[entry.key]
            assert entry.value.data_type == tensor.data_type
            assert len(entry.value.dims) == len(tensor.dims)
            for size, wanted in zip(entry.value.dims, tensor.dims, strict=True):
                assert size >= 1
                assert wanted in (-1, size)


def check_repository(repository: Path) -> dict[str, Any]:
    """What model_repository.md demands; the configurations by name."""
    found = {}
    for folder in repository.iterdir():
        config = text_format.Parse((folder / "config.pbtxt").read_text(), MODEL_CONFIG())
        check_config(config)
        assert config.name == folder.name
        assert config.default_model_filename == FILES[config.backend]
        versions = [place for place in folder.iterdir() if place.name.isdecimal()]
        assert versions
        for version in versions:
            assert int(version.name) > 0, "folders that begin with 0 are ignored"
            assert (version / FILES[config.backend]).is_file()
        for warmup in config.model_warmup:
            for entry in warmup.inputs:
                bits = ENUMS["DataType"][entry.value.data_type]
                size = next(s for end, s in SIZES.items() if bits.endswith(end))
                file = folder / "warmup" / entry.value.input_data_file
                assert file.stat().st_size == size * int(np.prod(entry.value.dims))
        found[config.name] = config
    return found


def test_an_onnx_model_that_batches(packed: Path, tmp_path: Path) -> None:
    version = emit(Bundle.read(packed), tmp_path / "repo")
    assert version == tmp_path / "repo" / "mlp" / "1"
    assert (version / "model.onnx").read_bytes() == (packed / "model.onnx").read_bytes()
    (config,) = check_repository(tmp_path / "repo").values()
    assert config.max_batch_size == 64  # the declared range
    assert [(t.name, [*t.dims]) for t in config.input] == [("x", [8])]
    assert [(t.name, [*t.dims]) for t in config.output] == [("logits", [3]), ("label", [1])]
    assert not config.output[1].reshape.shape  # [batch] is [batch, 1] to clients
    assert config.HasField("dynamic_batching")
    assert len(config.model_warmup) == 1  # one row is one row, whatever the sample's batch
    raw = (tmp_path / "repo" / "mlp" / "warmup" / "sample_0_input_0").read_bytes()
    golden = Bundle.read(packed).golden()[0].inputs["x"]
    np.testing.assert_array_equal(np.frombuffer(raw, np.float32), golden[0])


@pytest.mark.parametrize(
    ("format_", "file", "names"),
    [
        ("torchscript", "model.pt", (["INPUT__0"], ["OUTPUT__0", "OUTPUT__1"])),
        ("tensorrt", "model.plan", (["x"], ["logits", "label"])),
    ],
)
def test_the_other_layouts(
    format_: str,
    file: str,
    names: tuple[list[str], list[str]],
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from edgeport.runtimes import session
    from edgeport.runtimes.bundles import manifest

    formats = {**session.FORMATS, "tensorrt": ".engine"}
    monkeypatch.setattr(manifest, "FORMATS", formats)  # no backend opens it yet
    data = torchscript() if format_ == "torchscript" else b"an engine"
    retyped(packed, format_, data)
    version = emit(Bundle.read(packed), tmp_path / "repo")
    assert [entry.name for entry in version.iterdir()] == [file]
    (config,) = check_repository(tmp_path / "repo").values()
    assert ([t.name for t in config.input], [t.name for t in config.output]) == names
    kind = ENUMS["Kind"][config.instance_group[0].kind]
    assert kind == ("KIND_GPU" if format_ == "tensorrt" else "KIND_CPU")


def retyped(bundle: Path, format_: str, data: bytes) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    digest = hashlib.sha256(data).hexdigest()
    (bundle / "model.onnx").write_bytes(data)
    manifest["artefacts"][0] |= {"format": format_, "sha256": digest, "size_bytes": len(data)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def torchscript() -> bytes:
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")  # torch deprecates torch.jit
        script: Any = torch.jit.script
        data: bytes = script(torch.nn.Linear(8, 3)).save_to_buffer()
    return data


def test_a_second_export_is_the_next_version(packed: Path, tmp_path: Path) -> None:
    bundle = Bundle.read(packed)
    numbers = [emit(bundle, tmp_path / "repo").name for _ in range(3)]
    assert numbers == ["1", "2", "3"]
    check_repository(tmp_path / "repo")
    (tmp_path / "repo" / "mlp" / "config.pbtxt").write_text("edited")
    with pytest.raises(ExistingFileError, match="holds a model with another configuration"):
        emit(bundle, tmp_path / "repo")


def test_a_damaged_bundle_leaves_nothing(packed: Path, tmp_path: Path) -> None:
    (packed / "model.onnx").write_bytes(b"other")
    with pytest.raises(IntegrityError, match="is not the file that was packed"):
        emit(Bundle.read(packed), tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize("name", ["../mlp", "a/b", ".hidden", "größe", "two words"])
def test_a_name_that_is_no_folder(name: str, packed: Path, tmp_path: Path) -> None:
    manifest = json.loads((packed / "manifest.json").read_text())
    manifest["name"] = name
    (packed / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="Triton takes the name for that of a folder"):
        emit(Bundle.read(packed), tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def test_a_format_that_is_not_there(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds onnx, null, Triton is to get torchscript"):
        emit(Bundle.read(packed), tmp_path, "torchscript")


def test_an_engine_that_triton_would_not_ask_whether_it_answers(
    packed: Path, tmp_path: Path
) -> None:
    manifest = json.loads((packed / "manifest.json").read_text())
    engine = next(each for each in manifest["artefacts"] if each["format"] == "null")
    engine["format"], engine["details"] = "tensorrt", {"refuses_by": "edgeport.answered"}
    (packed / "manifest.json").write_text(json.dumps(manifest))
    bundle = Bundle.read(packed)
    with pytest.raises(
        UsageError, match=r"by its output 'edgeport\.answered' what it refuses"
    ) as e:
        emit(bundle, tmp_path / "repo", "tensorrt")
    assert e.value.remedy.endswith("--format onnx")
    assert (emit(bundle, tmp_path / "repo") / "model.onnx").exists()


def spec(name: str, *shape: int | str, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, dtype, shape)


@pytest.mark.parametrize(
    ("signature", "batch", "dims"),
    [
        (Signature((spec("x", "n", 4),), (spec("y", "n"),)), 7, ([4], [1])),
        (Signature((spec("x", "n", 4),), (spec("y", "n"),), {"n": Range(1, 9)}), 9, ([4], [1])),
        (
            Signature((spec("x", "n", 4),), (spec("y", "n"),), {"n": Range(2, 9)}),
            0,
            ([-1, 4], [-1]),
        ),
        (Signature((spec("x", 5, 4),), (spec("y", 5),)), 0, ([5, 4], [5])),
        (Signature((spec("x", "n", "n"),), (spec("y", "n"),)), 0, ([-1, -1], [-1])),
        (Signature((spec("x", "n", "t"),), (spec("y", "t", "n"),)), 0, ([-1, -1], [-1, -1])),
        (Signature((spec("x", "n", "t"),), (spec("y", "n", "t"),)), 7, ([-1], [-1])),
        (Signature((spec("x", "n"),), (spec("y"),)), 0, ([-1], [1])),
    ],
)
def test_when_triton_may_batch(
    signature: Signature, batch: int, dims: tuple[list[int], list[int]]
) -> None:
    shape = [{"n": 7, "t": 5}.get(str(size), size) for size in signature.inputs[0].shape]
    sample = Golden("s", "real", {"x": np.zeros([int(s) for s in shape], np.float32)}, {}, {})
    text = dumps(configuration(signature, [sample], "m", LAYOUTS["onnx"]))
    config = text_format.Parse(text, MODEL_CONFIG())
    check_config(config)
    assert config.max_batch_size == batch
    assert ([*config.input[0].dims], [*config.output[0].dims]) == dims


def test_what_a_backend_lacks_is_told() -> None:
    signature = Signature((spec("x", 1, dtype="uint16"),), (spec("y", 1),))
    with pytest.raises(UsageError, match="'x' is uint16, which Triton's pytorch backend lacks"):
        configuration(signature, [], "m", LAYOUTS["torchscript"])
    with pytest.raises(UsageError, match="is always empty, and Triton takes no size of 0"):
        configuration(Signature((spec("x", 0),), ()), [], "m", LAYOUTS["onnx"])


sizes = st.one_of(st.integers(1, 3), st.sampled_from(["n", "t"]))


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(DTYPES), st.lists(sizes, max_size=3)), min_size=2, max_size=4
    ),
    st.integers(1, 3),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=5),
)
def test_every_configuration_keeps_the_rules(
    tensors: list[tuple[str, list[int | str]]], split: int, name: str
) -> None:
    specs = [TensorSpec(f"{name}{i}", d, tuple(s)) for i, (d, s) in enumerate(tensors)]
    split = min(split, len(specs) - 1)
    signature = Signature(tuple(specs[:split]), tuple(specs[split:]))
    known = {"n": 5, "t": 2}
    inputs = {
        s.name: np.zeros([known[x] if isinstance(x, str) else x for x in s.shape], s.dtype)
        for s in signature.inputs
    }
    text = dumps(
        configuration(signature, [Golden(name, "real", inputs, {}, {})], "m", LAYOUTS["onnx"])
    )
    config = text_format.Parse(text, MODEL_CONFIG())
    check_config(config)
    assert [t.name for t in (*config.input, *config.output)] == [s.name for s in specs]
    assert config.model_warmup[0].name == name
    for tensor, declared in zip((*config.input, *config.output), specs, strict=True):
        full = [-1] * (config.max_batch_size > 0) + [*tensor.dims]
        whole = [s if isinstance(s, int) else -1 for s in declared.shape]
        assert full == whole or (tensor.HasField("reshape") and full == [*whole, 1])
