"""An InferenceService, read back as YAML and held against KServe's own schema."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes import Bundle, ExistingFileError, UsageError
from edgeport.runtimes.handoff.kserve import STORAGES, dumps, emit, inference_service

SCHEMA = json.loads(
    Path(__file__).with_name("kserve_inferenceservice.schema.json").read_text("utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)  # made once: it takes long


def read(text: str) -> Any:
    value = yaml.safe_load(text)
    VALIDATOR.validate(value)
    return value


def test_it_serves_the_repository_with_triton(packed: Path, tmp_path: Path) -> None:
    emit(Bundle.read(packed), tmp_path / "mlp.yaml", "s3://models/repo")
    value = read((tmp_path / "mlp.yaml").read_text())
    assert value["metadata"]["name"] == "mlp"
    model = value["spec"]["predictor"]["model"]
    assert model["runtime"] == "kserve-tritonserver"
    assert model["modelFormat"] == {"name": "triton", "version": "2"}
    assert model["storageUri"] == "s3://models/repo"
    assert model["protocolVersion"] == "v2"
    with pytest.raises(ExistingFileError, match=r"mlp\.yaml exists already"):
        emit(Bundle.read(packed), tmp_path / "mlp.yaml", "s3://models/repo")


def test_the_schema_refuses_a_field_that_kserve_lacks() -> None:
    VALIDATOR.check_schema(SCHEMA)
    value = inference_service("m", "s3://a")
    value["spec"]["predictor"]["model"]["storageURI"] = "s3://a"
    with pytest.raises(jsonschema.ValidationError, match="storageURI"):
        read(dumps(value))


@given(st.text(min_size=1), st.sampled_from(STORAGES), st.text(min_size=1))
def test_any_name_and_place_make_a_valid_resource(name: str, storage: str, place: str) -> None:
    try:
        value = inference_service(name, storage + place)
    except UsageError as e:
        assert "wants a letter from a to z" in e.problem  # noqa: PT017  # many names have one
        return
    assert read(dumps(value)) == value


@pytest.mark.parametrize("uri", ["", "repo", "/mnt/models", "ftp://a", "s3://"])
def test_a_storage_that_kserve_lacks(uri: str, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"KServe takes one of gs://, s3://"):
        emit(Bundle.read(packed), tmp_path / "mlp.yaml", uri)
    assert not list(tmp_path.glob("*.yaml"))


def test_a_bundle_that_no_repository_can_hold(packed: Path, tmp_path: Path) -> None:
    """KServe runs Triton over what ``emit triton`` wrote, which would refuse the same."""
    bundle = Bundle.read(packed)
    odd = replace(bundle, manifest=replace(bundle.manifest, name="größe 2"))
    with pytest.raises(UsageError, match="is named 'größe 2', and Triton takes the name for that"):
        emit(odd, tmp_path / "mlp.yaml", "s3://models/repo")
    assert not (tmp_path / "mlp.yaml").exists()
