"""``edgeport diff`` of bundles that hold every format."""

import json
from pathlib import Path
from typing import Any

import handmade
import hostile
import numpy as np
import pytest
from hostile_pickles import BAD_KEYS, archive, keyed, many, one, view

from edgeport.__main__ import main
from edgeport.commands.diff import _render
from edgeport.runtimes.bundles.difference import Change, Difference, WeightChange, Weights
from edgeport.runtimes.weights.of_artefact import READABLE, read_weights

SUFFIXES = {"onnx": "onnx", "pt2": "pt2", "torchscript": "ts"}


def told(capsys: pytest.CaptureFixture[str], *paths: Path) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert main(["diff", *map(str, paths), "--json"]) == 0
    weights: dict[str, dict[str, Any]] = json.loads(capsys.readouterr().out)["weights"]
    return weights


def test_one_model_has_one_set_of_weights(mlp_bundle: Path) -> None:
    assert SUFFIXES.keys() == {*READABLE}
    found = []
    for format_, suffix in SUFFIXES.items():
        weights = read_weights(mlp_bundle / f"model.{suffix}", format_).values()
        found.append(sorted((w.dtype, w.shape, w.data) for w in weights))
    assert found[0]
    assert found[0] == found[1] == found[2]


def test_the_same_weights(
    mlp_bundle: Path, own_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = told(capsys, mlp_bundle, own_bundle)
    assert {name: each["changed"] for name, each in weights.items()} == {
        name: [] for name in READABLE
    }
    assert main(["diff", str(mlp_bundle), str(own_bundle)]) == 0
    out = capsys.readouterr().out
    assert "the manifests say the same" in out
    for format_ in READABLE:
        assert (
            f"weights of {format_}: all {weights[format_]['tensors']} tensors are the same" in out
        )


@pytest.mark.parametrize(("format_", "file"), [("pt2", "weight_0"), ("torchscript", "constants/0")])
def test_other_weights_of_one_torch_archive(
    mlp_bundle: Path,
    own_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    format_: str,
    file: str,
) -> None:
    data = hostile.artefact_bytes(own_bundle, format_)
    old = hostile.zip_member(data, file)
    new = (np.frombuffer(old, "<f4") * 2).tobytes()
    handmade.replace_artefact(own_bundle, format_, data.replace(old, new))
    weights = told(capsys, mlp_bundle, own_bundle)
    (change,) = weights[format_].pop("changed")
    assert change["relative"] == pytest.approx(1.0)
    assert change["before"] == change["after"]
    assert [name for name, each in weights.items() if each.get("changed")] == []
    assert main(["diff", str(mlp_bundle), str(own_bundle)]) == 0
    assert f"weights of {format_}: 1 differ\ntensor" in capsys.readouterr().out


def test_a_long_value_is_shown_where_it_differs() -> None:
    names = [f"class {number}" for number in range(100)]
    other = [*names[:70], "a cat", *names[71:]]
    change = Change("labels", ", ".join(names), ", ".join(other))
    lines = _render(Difference((change, Change("b", None, "x" * 99)), {})).splitlines()
    assert "…class 69, class 70, class 71, class 72, …  …class 69, a cat, class 71" in lines[2]
    assert max(map(len, lines[:4])) < 100


def test_what_changed_is_counted() -> None:
    changes = (
        WeightChange("a", "float32[1]", "float32[1]", 1.0, 0.5),
        WeightChange("b", "float32[1]", None),
        WeightChange("c", None, "float32[2]"),
        WeightChange("d", None, "float32[2]"),
    )
    sides = {"source weights_sha256": ("0" * 64, "1" * 64)}
    found = Difference(
        tuple(Change(what, *each) for what, each in sides.items()), {"onnx": Weights(changes, 1)}
    )
    text = _render(found)
    assert "weights of onnx: 1 differ, 1 only before, 2 only after\ntensor" in text
    assert f"source weights_sha256  {'0' * 16}  {'1' * 16}\n" in text


def test_a_change_of_precision_is_told_in_one_line() -> None:
    changes = (
        WeightChange("a", "float32[9]", "int8[9]", 1.0, 0.5),
        WeightChange("b", "float32[9]", "int8[9]", 1.0, 0.25),
        WeightChange("c", "float32[9]", "int32[9]", 1.0, 0.125),
        WeightChange("relu_scale", None, "float32[]"),
        WeightChange("relu_zero_point", None, "uint8[]"),
    )
    lines = _render(Difference((), {"onnx": Weights(changes, 0)})).splitlines()
    assert lines[2] == (
        "weights of onnx: 2 from float32 to int8, 1 from float32 to int32, 2 scales and zero points"
    )
    assert [line.split()[0] for line in lines[5:]] == ["a", "b", "c"]


@pytest.mark.parametrize("format_", ["pt2", "torchscript"])
def test_a_torch_archive_that_cannot_be_read(
    mlp_bundle: Path, own_bundle: Path, capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    data = hostile.artefact_bytes(own_bundle, format_)
    handmade.replace_artefact(own_bundle, format_, data.replace(b"little", b"big   "))
    assert main(["diff", str(mlp_bundle), str(own_bundle)]) == 2
    file = own_bundle / f"model.{SUFFIXES[format_]}"
    problem, remedy = capsys.readouterr().err.splitlines()
    assert problem == (
        f"edgeport: the weights of {file} cannot be read: its bytes are in 'big   ' order"
    )
    assert "export the model again" in remedy


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        *((archive(keyed(key)), "a key is no text and no number") for key in BAD_KEYS.values()),
        (one((1,), (2**70,)), "strides (1180591620717411303424,) and offset 0"),
        (many([view((2**24 - n,), (0,)) for n in range(60)]), "does not fit into 64 bytes"),
    ],
)
def test_torchscript_of_an_attacker(
    mlp_bundle: Path,
    own_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    data: bytes,
    problem: str,
) -> None:
    handmade.replace_artefact(own_bundle, "torchscript", data)
    refused(capsys, problem, mlp_bundle, own_bundle)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b'"dtype": 7', b'"dtype": [7]', "has the dtype [7]"),
        (b'"strides": [', b'"strides": [{"as_int": %d}, ' % 2**70, "a tensor has shape ("),
        (b'"storage_offset": {"as_int": 0', b'"storage_offset": {"as_int": %d' % 2**70, "offset"),
    ],
)
def test_a_program_of_an_attacker(
    mlp_bundle: Path,
    own_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    old: bytes,
    new: bytes,
    problem: str,
) -> None:
    data = hostile.artefact_bytes(own_bundle, "pt2")
    name = "data/weights/model_weights_config.json"
    changed = hostile.json_member(name, old, new, data)
    assert new in hostile.zip_member(changed, name)
    handmade.replace_artefact(own_bundle, "pt2", changed)
    refused(capsys, problem, mlp_bundle, own_bundle)


def refused(capsys: pytest.CaptureFixture[str], problem: str, *paths: Path) -> None:
    capsys.readouterr()
    assert main(["diff", *map(str, paths)]) == 2
    out, err = capsys.readouterr()
    said, remedy = err.splitlines()
    assert not out
    assert said.startswith(f"edgeport: the weights of {paths[1]}/model.")
    assert problem in said
    assert "export the model again" in remedy
