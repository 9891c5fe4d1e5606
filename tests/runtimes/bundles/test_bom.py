import json
from pathlib import Path
from typing import Any

import cyclonedx
import jsonschema
import pytest
import referencing

from edgeport.runtimes import Bundle
from edgeport.runtimes.bundles.bom import bill_of_materials
from edgeport.runtimes.bundles.packing import pack

SCHEMAS = Path(cyclonedx.__file__).parent / "schema" / "_res"


@pytest.fixture(scope="module")
def validator() -> Any:
    """Of CycloneDX itself, as its own library packs it."""
    names = {
        "bom-1.6.SNAPSHOT.schema.json": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "spdx.SNAPSHOT.schema.json": "http://cyclonedx.org/schema/spdx.schema.json",
        "jsf-0.82.SNAPSHOT.schema.json": "http://cyclonedx.org/schema/jsf-0.82.schema.json",
    }
    schemas = {url: json.loads((SCHEMAS / name).read_text("utf-8")) for name, url in names.items()}
    resources = [
        (url, referencing.Resource.from_contents(schema)) for url, schema in schemas.items()
    ]
    registry: referencing.Registry[Any] = referencing.Registry()
    registry = registry.with_resources(resources)
    schema = schemas["http://cyclonedx.org/schema/bom-1.6.schema.json"]
    return jsonschema.Draft7Validator(schema, registry=registry)


def test_it_is_a_bill_that_cyclonedx_takes(packed: Path, validator: Any) -> None:
    bill = bill_of_materials(Bundle.peek(packed))
    validator.validate(bill)
    names = [component["name"] for component in bill["components"]]
    assert names == ["model.onnx", "model.null", "golden.safetensors"]
    model = bill["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    parameters = model["modelCard"]["modelParameters"]
    assert parameters["inputs"] == [{"format": "x: float32[batch, 8]"}]


def test_the_same_bundle_has_the_same_bill(packed: Path, tmp_path: Path) -> None:
    bill = bill_of_materials(Bundle.peek(packed))
    one = pack(packed, tmp_path / "one.edge", zipped=True).path
    assert bill_of_materials(Bundle.peek(one)) == bill
    small = pack(packed, tmp_path / "small.edge", ["onnx"]).path
    assert bill_of_materials(Bundle.peek(small))["serialNumber"] != bill["serialNumber"]
