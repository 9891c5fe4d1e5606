import hashlib
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import handmade
import hostile
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeport.runtimes import Bundle, FormatError, IntegrityError
from edgeport.runtimes.bundles.difference import Difference, WeightChange, Weights, compare
from edgeport.runtimes.bundles.packing import pack
from edgeport.runtimes.inputs import Array


@pytest.fixture
def other(packed: Path) -> Path:
    return Path(shutil.copytree(packed, packed.with_name("other.edge")))


def change_weights(path: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(path / "model.onnx")
    change(model)
    handmade.replace_artefact(path, "onnx", model.SerializeToString())


def append(tensor: onnx.TensorProto, model: onnx.ModelProto) -> None:
    model.graph.initializer.append(tensor)


def set_weight(model: onnx.ModelProto, name: str, array: Array) -> None:
    (weight,) = (w for w in model.graph.initializer if w.name == name)
    weight.CopyFrom(numpy_helper.from_array(array, name))


def found(a: Path, b: Path) -> Difference:
    return compare(Bundle.peek(a), Bundle.peek(b))


def changed(a: Path, b: Path, format_: str = "onnx") -> dict[str, WeightChange]:
    return {weight.name: weight for weight in found(a, b).weights[format_].changed}


def test_a_bundle_is_like_itself(packed: Path, tmp_path: Path) -> None:
    one = pack(packed, tmp_path / "one.edge", zipped=True).path
    assert found(packed, one) == Difference((), {"onnx": Weights((), 4)})


def test_what_a_manifest_says(packed: Path, other: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["producer"] = {"edgeport": "1", "torch": "3"}
        manifest["signature"]["ranges"]["batch"]["max"] = 8
        manifest["thresholds"]["max_ratio"] = 4
        manifest["artefacts"].pop()

    handmade.edit(other, change)
    told = {each.what: (each.before, each.after) for each in found(packed, other).changes}
    assert told.keys() == {
        *("range of batch", "null bytes", "null precision", "largest ratio"),
        *("producer edgeport", "producer torch"),
    }
    assert told["producer torch"] == (None, "3")
    assert told["range of batch"] == ("1..64", "1..8")


def test_what_a_person_reads(packed: Path, other: Path) -> None:
    """Names of classes, bars and nesting in words, and no order of names that were told as new."""
    classes = [f"class {number}" for number in range(100)]

    def before(manifest: dict[str, Any]) -> None:
        manifest["labels"] = {"logits": ["ham", "spam", "eggs"]}

    def after(manifest: dict[str, Any]) -> None:
        manifest["labels"] = {"logits": classes}
        manifest["golden"]["gap"] = "it has no float64"
        manifest["thresholds"]["outputs"] = {"logits": 2.5}
        manifest["thresholds"]["constant_outputs"] = ["label"]
        manifest["thresholds"]["reduced"]["int8"]["max_flips"] = 0.25
        manifest["signature"]["outputs"][1]["name"] = "kind"
        manifest["signature"]["structure"] = {
            "dict": [["scores", {"output": "logits"}], ["kind", {"output": "kind"}]]
        }

    handmade.edit(packed, before)
    handmade.edit(other, after)
    told = {each.what: (each.before, each.after) for each in found(packed, other).changes}
    names, digest = str(told.pop("labels of logits")[1]).split(", sha256 ")
    assert (names, len(digest)) == ("100 names", 12)
    assert told == {
        "output label": ("int64[batch]", None),
        "output kind": (None, "int64[batch]"),
        "nesting of outputs": (None, "{'scores': logits, 'kind': kind}"),
        "no oracle": (None, "it has no float64"),
        "largest ratio of logits": (None, "2.5"),
        "constant outputs": (None, "label"),
        "bars of int8": ("20 dB, 10 % flips", "20 dB, 25 % flips"),
    }


def test_what_is_new_stands_beside_its_like(packed: Path, other: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["signature"]["outputs"][1]["name"] = "kind"
        manifest["producer"]["torch"] = "3"

    handmade.edit(other, change)
    told = [each.what for each in found(packed, other).changes]
    assert told == ["output label", "output kind", "producer torch"]


def test_a_rounded_weight_is_compared_with_what_it_was(packed: Path, other: Path) -> None:
    def into_int8(model: onnx.ModelProto) -> None:
        whole = next(w for w in model.graph.initializer if len(w.dims) == 2)
        values = numpy_helper.to_array(whole)
        step = np.abs(values).max() / 63
        name = whole.name
        set_weight(model, name, np.round(values / step).astype(np.int8))
        whole.name = f"{name}_quantized"
        append(numpy_helper.from_array(np.asarray(step), f"{name}_scale"), model)
        append(numpy_helper.from_array(np.zeros((), np.int8), f"{name}_zero_point"), model)

    change_weights(other, into_int8)
    for pair in ((packed, other), (other, packed)):
        (change,) = changed(*pair).values()
        dtypes = {text and text.partition("[")[0] for text in (change.before, change.after)}
        assert dtypes == {"float32", "int8"}
        assert change.relative is not None
        assert 0 < change.relative < 0.05


def test_another_width_is_subtracted_too(packed: Path, other: Path) -> None:
    def into_half(model: onnx.ModelProto) -> None:
        for weight in list(model.graph.initializer):
            array = numpy_helper.to_array(weight)
            if array.dtype == np.float32:
                set_weight(model, weight.name, array.astype(np.float16))

    change_weights(other, into_half)
    found = changed(packed, other)
    assert found
    assert all(0 < (change.relative or 0) < 1e-3 for change in found.values())


def test_another_order(packed: Path, other: Path) -> None:
    handmade.edit(other, lambda manifest: manifest["signature"]["outputs"].reverse())
    (change,) = found(packed, other).changes
    assert (change.what, change.before, change.after) == (
        *("order of outputs", "logits, label", "label, logits"),
    )


def test_one_class_of_many(packed: Path, other: Path) -> None:
    """What is told in short differs where the whole does."""
    names = [f"class {number}" for number in range(100)]
    handmade.edit(packed, lambda manifest: manifest.update(labels={"logits": names}))
    changed_names = [*names[:50], "other", *names[51:]]
    handmade.edit(other, lambda manifest: manifest.update(labels={"logits": changed_names}))
    assert [change.what for change in found(packed, other).changes] == ["labels of logits"]


def test_weights_tensor_by_tensor(packed: Path, other: Path) -> None:
    old = {
        w.name: numpy_helper.to_array(w) for w in onnx.load(packed / "model.onnx").graph.initializer
    }

    def change(model: onnx.ModelProto) -> None:
        set_weight(model, "w1", old["w1"] * np.float32(1.01))
        set_weight(model, "b1", np.zeros(17, np.float32))
        set_weight(model, "b2", np.full(3, np.inf, np.float32))
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.int64), "new"))

    change_weights(other, change)
    difference = found(packed, other)
    assert difference.weights["onnx"].tensors == 4
    weights = {weight.name: weight for weight in difference.weights["onnx"].changed}
    assert weights.keys() == {"w1", "b1", "b2", "new"}
    assert weights["w1"].relative == pytest.approx(0.01, rel=1e-3)
    assert weights["w1"].largest == pytest.approx(np.abs(old["w1"]).max() * 0.01, rel=1e-3)
    assert (weights["b1"].before, weights["b1"].after) == ("float32[16]", "float32[17]")
    assert weights["b1"].largest is None
    assert weights["b2"].largest is None
    assert (weights["new"].before, weights["new"].after) == (None, "int64[2]")
    json.dumps(difference.to_json(), allow_nan=False)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "int32", "uint64", "bool"])
def test_weights_of_every_kind(packed: Path, other: Path, dtype: str) -> None:
    for path, value in ((packed, 0), (other, 1)):
        tensor = numpy_helper.from_array(np.full((2, 3), value, dtype), "n")
        change_weights(path, partial(append, tensor))
    (weight,) = changed(packed, other).values()
    assert (weight.before, weight.largest) == (f"{dtype}[2, 3]", 1.0)


def test_weights_as_numbers_and_in_bfloat16(packed: Path, other: Path) -> None:
    for path, value in ((packed, 1.0), (other, 3.0)):

        def change(model: onnx.ModelProto, value: float = value) -> None:
            for name, kind in (("f", 1), ("d", 11), ("b", 16), ("i", 7)):
                tensor = onnx.helper.make_tensor(name, kind, [2], [value, 1.0])
                model.graph.initializer.append(tensor)

        change_weights(path, change)
    weights = changed(packed, other)
    assert {name: weight.before for name, weight in weights.items()} == {
        "f": "float32[2]",
        "d": "float64[2]",
        "b": "bfloat16[2]",
        "i": "int64[2]",
    }
    assert [weights[name].largest for name in "fdbi"] == [2.0] * 4


def test_no_onnx_no_weights(packed: Path, tmp_path: Path) -> None:
    small = pack(packed, tmp_path / "small.edge", ["null"]).path
    difference = found(packed, small)
    assert difference.weights == {}
    assert ("onnx precision", "float32", None) in [
        (each.what, each.before, each.after) for each in difference.changes
    ]


def test_damage_is_told(packed: Path, other: Path) -> None:
    (other / "model.onnx").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"other\.edge/model\.onnx is not the file that was"):
        found(packed, other)


@pytest.mark.parametrize(("offset", "size_bytes"), [(-4, 256), (2**70, 256), (4, 256), (0, 0)])
def test_external_weights_that_are_nowhere(
    packed: Path, other: Path, offset: int, size_bytes: int
) -> None:
    store_external(other, hostile.external("w.data", offset), bytes(size_bytes))
    with pytest.raises(
        FormatError, match=r"the weights of .*other\.edge/model\.onnx cannot be read: w\.data is"
    ):
        found(packed, other)


def test_external_weights_that_are_read_again_and_again(packed: Path, other: Path) -> None:
    model = onnx.load_model_from_string(hostile.external("w.data"))
    weights = list(model.graph.initializer)
    for number in range(4):
        model.graph.initializer.extend(weights)
        model.graph.initializer[-1].name = f"more {number}"
    store_external(other, model.SerializeToString(), bytes(256))
    with pytest.raises(FormatError, match=r"cannot be read: w\.data is read more than 4 times"):
        found(packed, other)


def store_external(path: Path, model: bytes, data: bytes) -> None:
    (path / "w.data").write_bytes(data)
    handmade.replace_artefact(path, "onnx", model)
    digest = hashlib.sha256(data).hexdigest()
    stored = {"file": "w.data", "sha256": digest, "size_bytes": len(data)}
    handmade.edit(path, lambda m: m["artefacts"][0].update(external=[stored]))


def test_a_tensor_in_more_than_one_part(packed: Path, other: Path) -> None:
    count = 2**20 + 3
    for path, value in ((packed, 2), (other, 3)):
        array = np.full(count, 2, np.int8)
        array[-1] = value
        change_weights(path, partial(append, numpy_helper.from_array(array, "n")))
    (weight,) = changed(packed, other).values()
    assert weight.largest == 1.0
    assert weight.relative == pytest.approx(0.5 / count**0.5)
