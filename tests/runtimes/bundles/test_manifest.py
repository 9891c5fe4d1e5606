import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hostile
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeport import runtimes
from edgeport.runtimes import FormatError, Signature, TensorSpec
from edgeport.runtimes.bundles.manifest import (
    EVIDENCE_KINDS,
    KINDS,
    SCHEMA_VERSION,
    Artefact,
    Manifest,
    StoredFile,
)
from edgeport.runtimes.parity.thresholds import LARGEST_MAX_RATIO, REDUCED, Reduced, Thresholds
from edgeport.runtimes.session import FORMATS
from edgeport.runtimes.signature import DTYPES, LARGEST_DIMENSION

SCHEMA = json.loads((Path(runtimes.__file__).parent / "bundles/manifest.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

HASH = "0" * 64
SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("batch", 4)),),
    (TensorSpec("y", "float32", ("batch", 1)),),
    {"batch": runtimes.Range(1, 8)},
    {
        "dict": [
            [1, {"tuple": [{"output": "y"}, {"list": []}]}],
            ["a", {"object": "O", "fields": [["n", {"constant": 0.5}]]}],
        ]
    },
)
MANIFEST = Manifest(
    name="modèle",
    signature=SIGNATURE,
    artefacts=(
        Artefact(
            "onnx",
            "float32",
            StoredFile("model.onnx", HASH, 10),
            {"opset": 20, "ir": "10"},
            (StoredFile("model.onnx.data", HASH, 2**33),),
        ),
        Artefact("pt2", "float32", StoredFile("parts/model.pt2", HASH, 0)),
    ),
    golden=StoredFile("golden.safetensors", HASH, 5),
    samples=(("real, batch=1", "real"), ("zeros", "edge")),
    thresholds=Thresholds(8.0, ("y",), {"y": 2.0}, {**REDUCED, "float16": Reduced(50, 0.0)}),
    producer={"torch": "2.13.0"},
    source={"weights_sha256": HASH},
    evidence={"parity": StoredFile("reports/parity.json", HASH, 7)},
    notes=("ort-cpu answers -1 in x, which the module refuses",),
)
GOOD = json.loads(MANIFEST.dumps())


def test_it_reads_what_it_wrote() -> None:
    assert Manifest.loads(MANIFEST.dumps(), "m") == MANIFEST
    assert Manifest.loads(MANIFEST.dumps().encode(), "m") == MANIFEST
    names = [stored.file for stored in MANIFEST.files]
    assert names[:3] == ["model.onnx", "model.onnx.data", "parts/model.pt2"]
    assert names[3:] == ["golden.safetensors", "reports/parity.json"]


def test_version_1_is_read_with_the_defaults_it_did_not_know() -> None:
    old = copy.deepcopy(GOOD)
    old["schema_version"] = 1
    del old["source"], old["evidence"]
    old["thresholds"] = {"max_ratio": 4.0, "constant_outputs": ["y"]}
    VALIDATOR.validate(old)
    found = Manifest.loads(json.dumps(old), "m")
    assert found.thresholds == Thresholds(4.0, ("y",))
    assert json.loads(found.dumps())["schema_version"] == 2


def test_a_step_of_a_range_makes_it_version_3_and_nothing_else_does() -> None:
    assert GOOD["schema_version"] == 2
    assert GOOD["signature"]["ranges"] == {"batch": {"min": 1, "max": 8, "opt": None}}
    stepped = replace(SIGNATURE, ranges={"batch": runtimes.Range(4, 12, step=4)})
    text = replace(MANIFEST, signature=stepped).dumps()
    new = json.loads(text)
    VALIDATOR.validate(new)
    assert new["schema_version"] == SCHEMA_VERSION == 3
    assert new["signature"]["ranges"] == {"batch": {"min": 4, "max": 12, "opt": None, "step": 4}}
    assert Manifest.loads(text, "m").signature == stepped


def test_a_precision_is_reduced_where_it_is_not_the_modules() -> None:
    artefact = MANIFEST.artefacts[0]
    assert MANIFEST.reduced_precision(artefact) is None
    for precision, reduced in (("int8", "int8"), ("float64", None), ("none", None)):
        assert MANIFEST.reduced_precision(replace(artefact, precision=precision)) == reduced


@pytest.mark.parametrize("format_", ["torchscript", "pt2", "aotinductor"])
def test_what_torch_runs_in_bfloat16_is_no_narrower_than_the_module(format_: str) -> None:
    artefact = replace(MANIFEST.artefacts[0], format=format_, precision="bfloat16")
    assert MANIFEST.reduced_precision(artefact) is None


def test_the_schema_is_one_and_takes_real_manifests(packed: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(GOOD)
    VALIDATOR.validate(json.loads((packed / "manifest.json").read_text()))


def test_the_schema_lists_what_the_code_lists() -> None:
    properties = SCHEMA["properties"]
    assert properties["schema_version"]["enum"] == [*range(1, SCHEMA_VERSION + 1)]
    assert list(properties["evidence"]["properties"]) == list(EVIDENCE_KINDS)
    assert properties["artefacts"]["items"]["properties"]["format"]["enum"] == list(FORMATS)
    kinds = properties["golden"]["properties"]["samples"]["items"]["properties"]["kind"]["enum"]
    assert kinds == list(KINDS)
    assert SCHEMA["$defs"]["tensor"]["properties"]["dtype"]["enum"] == list(DTYPES)
    assert SCHEMA["$defs"]["size"]["maximum"] == LARGEST_DIMENSION
    assert SCHEMA["$defs"]["max_ratio"]["maximum"] == LARGEST_MAX_RATIO
    assert list(properties["thresholds"]["properties"]["reduced"]["properties"]) == list(REDUCED)


Change = Callable[[dict[str, Any]], object]


def put(path: str, value: object) -> Change:
    def change(manifest: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        place: Any = manifest
        for key in parents:
            place = place[int(key) if isinstance(place, list) else key]
        place[last] = value

    return change


BROKEN: list[tuple[Change, str]] = [
    (lambda m: m.pop("golden"), "'golden' is missing"),
    (lambda m: m["golden"].pop("samples"), "'samples' is missing"),
    (put("signature/url", "x"), "'url' is not a key that belongs there"),
    (put("thresholds/max_error", 1), "'max_error' is not a key that belongs there"),
    (put("schema_version", None), "schema_version is None, expected an integer"),
    (put("schema_version", True), "schema_version is True, expected an integer"),
    (put("schema_version", "1"), "schema_version is '1', expected an integer"),
    (put("schema_version", 0), "schema version 0, this edgeport reads 1 to 3\n  fix: copy the"),
    (put("schema_version", 4), "version 4, this edgeport reads 1 to 3: it is too new\n  fix: pip"),
    (put("schema_version", 1), "'outputs' is not a key that belongs there"),
    (put("name", ""), "the name '' cannot be printed"),
    (put("name", "a\x1b[2J"), r"the name 'a\\x1b\[2J' cannot be printed"),
    (put("name", 3), "the name is 3, expected a string"),
    (put("signature", []), r"not a signature: a value is \[\], expected an object"),
    (put("signature/inputs", "x"), "not a signature: inputs is 'x', expected a list"),
    (put("artefacts", []), "the artefacts are none, expected one per format"),
    (put("artefacts", {}), "artefacts is {}, expected a list"),
    (put("artefacts/0/format", "tflite"), "the artefact format 'tflite' is unknown"),
    (put("artefacts/0/format", []), r"a format is \[\], expected a string"),
    (put("artefacts/0/precision", 32), "a precision is 32, expected a string"),
    (put("artefacts/0/details", []), r"details is \[\], expected an object"),
    (put("artefacts/0/details", {"a": 1.5}), "a detail is 1.5, expected an integer or a string"),
    (put("artefacts/0/details", {"a": True}), "a detail is True, expected an integer or a string"),
    (lambda m: m["artefacts"][1].pop("external"), "'external' is missing"),
    (put("artefacts/1/external", None), "external is None, expected a list"),
    (put("artefacts/1/external", ["w.data"]), "a value is 'w.data', expected an object"),
    (lambda m: m["artefacts"][0]["external"][0].pop("sha256"), "'sha256' is missing"),
    (put("artefacts/0/external/0/sha256", ""), r"model\.onnx\.data has no sha256 or size"),
    (put("artefacts/0/external/0/size_bytes", -1), r"model\.onnx\.data has no sha256 or size"),
    (lambda m: m["signature"].pop("structure"), "'structure' is missing"),
    (put("signature/structure", {"output": 1}), "{'output': 1} is not a node"),
    (put("artefacts/0/sha256", "0" * 63), "model.onnx has no sha256 or size"),
    (put("artefacts/0/sha256", "G" * 64), "model.onnx has no sha256 or size"),
    (put("artefacts/0/sha256", None), "a sha256 is None, expected a string"),
    (put("artefacts/0/size_bytes", -1), "model.onnx has no sha256 or size"),
    (put("artefacts/0/file", 3), "a file is 3, expected a string"),
    (put("golden/samples/0/kind", "fake"), "the sample kind 'fake' is unknown"),
    (put("golden/samples/0/kind", []), r"the sample kind \[\] is unknown"),
    (put("golden/samples/0/name", ""), "the name '' cannot be printed"),
    (put("golden/samples", ["real"]), "a value is 'real', expected an object"),
    (put("thresholds/max_ratio", "8"), "max_ratio is '8', expected a number"),
    (put("thresholds/max_ratio", True), "max_ratio is True, expected a number"),
    (put("thresholds/max_ratio", 0), "the largest ratio is 0, expected more than 0"),
    (put("thresholds/max_ratio", -1.0), "the largest ratio is -1.0, expected more than 0"),
    (put("thresholds/max_ratio", 10**400), r"max_ratio is 10+\.\.\.0+, expected a number"),
    (put("thresholds/constant_outputs", "y"), "constant_outputs is 'y', expected a list"),
    (put("thresholds/constant_outputs", [1]), "constant_outputs is 1, expected a string"),
    (lambda m: m["thresholds"].pop("outputs"), "'outputs' is missing"),
    (put("thresholds/outputs/y", 0), "the largest ratio of y is 0, expected more than 0"),
    (put("thresholds/outputs/y", "2"), "outputs 'y' is '2', expected a number"),
    (put("thresholds/reduced/int4", {}), "a key of reduced is 'int4', expected one of float16, b"),
    (put("thresholds/reduced/int8", {}), "'min_snr_db' is missing"),
    (put("thresholds/reduced/int8/min_snr_db", -1), "has min_snr_db -1 and max_flips 0.1, expe"),
    (put("thresholds/reduced/int8/max_flips", 1.5), "max_flips 1.5, expected 0 to 200 and 0 to 1"),
    (put("thresholds/reduced/int8", 3), "a value is 3, expected an object"),
    (put("producer", []), r"producer is \[\], expected an object"),
    (put("producer", {"torch": 2}), "a version is 2, expected a string"),
    (put("source", None), "source is None, expected an object"),
    (put("source", {"weights_sha256": 1}), "a fact about the source is 1, expected a string"),
    (lambda m: m.pop("evidence"), "'evidence' is missing"),
    (put("notes", {}), "notes is {}, expected a list"),
    (put("notes", [1]), "a note is 1, expected a string"),
    (put("evidence", []), r"evidence is \[\], expected an object"),
    (put("evidence/parity", None), "a value is None, expected an object"),
    (put("evidence/rumours", {}), "the evidence 'rumours' is unknown"),
    (put("golden/file", "manifest.json"), "manifest.json cannot hold its own hash"),
    (put("artefacts/0/file", "manifest.sig"), "manifest.sig cannot hold its own hash"),
]

# valid under the published schema, which cannot say these
BEYOND_THE_SCHEMA: list[tuple[Change, str]] = [
    (put("artefacts/1/format", "onnx"), "the artefacts are onnx, onnx, expected one per format"),
    (put("signature/ranges", {"bach": {"min": 1, "max": 2, "opt": None}}), "is no dimension of"),
    (put("signature/ranges/batch/min", 9), "a range needs 0 <= min <= opt <= max"),
    (put("signature/structure", {"output": "z"}), "the structure holds z, the outputs"),
    (put("artefacts/0/size_bytes", 1.0), "size_bytes is 1.0, expected an integer"),
    (put("later", json.loads("[" * 300 + "]" * 300)), "it nests too deeply"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN + BEYOND_THE_SCHEMA)
def test_a_broken_manifest_is_refused(change: Change, message: str) -> None:
    broken = copy.deepcopy(GOOD)
    change(broken)
    with pytest.raises(FormatError, match=f"^m.*{message}") as caught:
        Manifest.loads(json.dumps(broken), "m")
    assert str(caught.value).count("fix: ") == 1


@pytest.mark.parametrize("change", [change for change, _ in BROKEN])
def test_the_schema_refuses_it_too(change: Change) -> None:
    broken = copy.deepcopy(GOOD)
    change(broken)
    assert not VALIDATOR.is_valid(broken)


OPEN_PLACES = ["", "artefacts/0/", "artefacts/0/external/0/", "golden/", "evidence/parity/"]


@pytest.mark.parametrize("place", OPEN_PLACES)
@pytest.mark.parametrize("value", ["x", None, {"deep": [{"er": 1.5}]}, []])
def test_what_is_unknown_is_kept(place: str, value: object) -> None:
    later = copy.deepcopy(GOOD)
    put(f"{place}later", value)(later)
    VALIDATOR.validate(later)
    found = Manifest.loads(json.dumps(later), "m")
    assert json.loads(found.dumps()) == later
    assert found.artefacts[0].details == MANIFEST.artefacts[0].details


def test_version_1_is_read_and_written_as_2() -> None:
    """A manifest as edgeport wrote it before there was version 2."""
    old = Path(__file__).with_name("manifest_v1.json").read_text()
    found = Manifest.loads(old, "m")
    assert [artefact.format for artefact in found.artefacts] == ["onnx", "torchscript", "pt2"]
    assert (found.source, found.evidence, found.extra) == ({}, {}, {})
    now = json.loads(found.dumps())
    VALIDATOR.validate(json.loads(old))
    VALIDATOR.validate(now)
    new = {"schema_version": 2, "thresholds": Thresholds().to_json(), "source": {}, "evidence": {}}
    assert now == {**json.loads(old), **new}
    assert Manifest.loads(found.dumps(), "m") == found


ESCAPES = [
    *("", ".", "..", "../x", "a/../../x", "a/..", "/etc/passwd", "//x", "a//b", "a/", "./a", ".a"),
    *("C:\\x", "C:x", "a\\..\\x", "\\\\host\\x", "a\0b", "a\nb", "a\n", "a b", "é", "~x/../y"),
    *("file:///etc/passwd", "a" * 201, "\ud800", "a/.b"),
]


@pytest.mark.parametrize("file", ESCAPES)
@pytest.mark.parametrize(
    "place", ["golden/file", "artefacts/1/file", "artefacts/0/external/0/file"]
)
def test_no_file_leads_out_of_a_bundle(place: str, file: str) -> None:
    broken = copy.deepcopy(GOOD)
    put(place, file)(broken)
    with pytest.raises(FormatError, match=r"is not the name of a file inside a bundle\n  fix: use"):
        Manifest.loads(json.dumps(broken), "m")
    with pytest.raises(FormatError, match="is not the name of a file inside a bundle"):
        StoredFile(file, HASH, 1)
    if not file.endswith("\n"):  # Python's $ stands before a last newline, JSON Schema's does not
        assert not VALIDATOR.is_valid(broken)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        (b"\xff\xfe{\x00}\x00", "'utf-8' codec"),
        ("[]", r"it is \[\], expected an object"),
        ("null", "it is None, expected an object"),
        ("{}", "schema_version is None, expected an integer"),
        ("[" * 100_000, "it nests too deeply"),
        ('{"a":' * 100_000, "it nests too deeply"),
        (MANIFEST.dumps().replace("8.0", "NaN"), "NaN is not JSON"),
        (MANIFEST.dumps().replace("8.0", "-Infinity"), "-Infinity is not JSON"),
        (MANIFEST.dumps().replace("8.0", "1e999"), "the number '1e999' is too large"),
        (MANIFEST.dumps().replace("8.0", "9" * 5000), "Exceeds the limit"),
        (MANIFEST.dumps().replace('"name"', '"producer"', 1), "the key 'producer' is there twice"),
        (MANIFEST.dumps() + "{}", "Extra data"),
    ],
)
def test_text_that_is_no_manifest(text: str | bytes, message: str) -> None:
    with pytest.raises(FormatError, match=f"^m is not a manifest: .*{message}.*\n  fix: copy"):
        Manifest.loads(text, "m")


@given(st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_put_in_place_of_a_value_is_refused_or_valid(data: st.DataObject) -> None:
    broken = copy.deepcopy(GOOD)
    hostile.put_anything(data, broken)
    try:
        found = Manifest.loads(json.dumps(broken), "m")
    except FormatError:
        return
    VALIDATOR.validate(broken)
    assert Manifest.loads(found.dumps(), "m") == found


@given(st.integers(0, len(MANIFEST.dumps()) - 1), st.characters(), st.integers(0, 3))
def test_damaged_text_is_refused_or_valid(place: int, inserted: str, removed: int) -> None:
    text = MANIFEST.dumps()
    try:
        found = Manifest.loads(text[:place] + inserted + text[place + removed :], "m")
    except FormatError:
        return
    assert Manifest.loads(found.dumps(), "m") == found


def test_a_manifest_cannot_be_made_wrong_either() -> None:
    for name, artefacts in (("", MANIFEST.artefacts), ("a", ()), ("a", MANIFEST.artefacts * 2)):
        with pytest.raises(FormatError, match=r"cannot be printed|expected one per format"):
            Manifest(name, SIGNATURE, artefacts, MANIFEST.golden, (), Thresholds(), {})
