"""What the server answers, as an OpenAPI 3.1 document; a test holds every answer against it.

https://spec.openapis.org/oas/v3.1.0.html
"""

from typing import Any, Final

from .core import Core
from .requests import DATATYPES

_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_ANY_OBJECT: Final = {"type": "object"}


def document(core: Core) -> dict[str, Any]:
    """Describe every path of a server."""
    about = core.server_metadata()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgeport",
            "version": about["version"],
            "description": "Open Inference Protocol v2 with the extensions "
            + ", ".join(about["extensions"]),
        },
        "paths": _PATHS,
        "components": {"schemas": _SCHEMAS, "parameters": _PARAMETERS},
    }


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties}


def _list(of: Any) -> dict[str, Any]:
    return {"type": "array", "items": of}


def _ref(name: str, kind: str = "schemas") -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


_DATA: Final = {
    "type": "array",
    "description": "values in row-major order, flat or nested into the shape",
    "items": {"type": ["number", "boolean", "string", "array"]},
}

_DATATYPE: Final = {"enum": list(DATATYPES.values())}

_TENSORS: Final = _list(
    _object(
        "name datatype shape",
        name=_TEXT,
        datatype=_DATATYPE,
        shape=_list(_COUNT),
        data=_DATA,
        parameters=_ref("Parameters"),
    )
)

_SCHEMAS: Final[dict[str, Any]] = {
    "Error": _object("error", error=_TEXT),
    "Live": _object("live", live={"type": "boolean"}),
    "Ready": _object("ready", ready={"type": "boolean"}, name=_TEXT, error=_TEXT),
    "Server": _object(
        "name version extensions", name=_TEXT, version=_TEXT, extensions=_list(_TEXT)
    ),
    "Models": _object("models", models=_list(_TEXT)),
    "Tensor": _object(
        "name datatype shape",
        name=_TEXT,
        datatype=_DATATYPE,
        shape=_list({"type": "integer", "minimum": -1}),
    ),
    "Model": _object(
        "name versions platform inputs outputs",
        name=_TEXT,
        versions=_list(_TEXT),
        platform=_TEXT,
        inputs=_list(_ref("Tensor")),
        outputs=_list(_ref("Tensor")),
    ),
    "Config": _object(
        "name platform max_batch_size input output",
        name=_TEXT,
        platform=_TEXT,
        max_batch_size=_COUNT,
        input=_list(_ANY_OBJECT),
        output=_list(_ANY_OBJECT),
    ),
    "Duration": _object("count ns", count=_COUNT, ns=_COUNT),
    "Statistics": _object(
        "model_stats",
        model_stats=_list(
            _object(
                "name version last_inference inference_count execution_count inference_stats "
                "batch_stats",
                name=_TEXT,
                version=_TEXT,
                last_inference=_COUNT,
                inference_count=_COUNT,
                execution_count=_COUNT,
                inference_stats={"type": "object", "additionalProperties": _ref("Duration")},
                batch_stats=_list(_ANY_OBJECT),
            )
        ),
    ),
    "Index": _list(
        _object(
            "name version state reason",
            name=_TEXT,
            version=_TEXT,
            state={"enum": ["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]},
            reason=_TEXT,
        )
    ),
    "Parameters": {
        "type": ["object", "null"],
        "additionalProperties": {"type": ["string", "number", "boolean"]},
    },
    "InferRequest": _object(
        "inputs",
        id={"type": ["string", "null"]},
        parameters=_ref("Parameters"),
        inputs=_TENSORS,
        outputs={
            "type": ["array", "null"],
            "items": _object("name", name=_TEXT, parameters=_ref("Parameters")),
        },
    ),
    "InferResponse": _object(
        "model_name model_version outputs",
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        outputs=_TENSORS,
    ),
}


def _path_parameter(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT, "description": text}


_PARAMETERS: Final = {
    "Model": _path_parameter("model", "name of the model"),
    "Version": _path_parameter("version", "a number"),
    "JsonLength": {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "pattern": "^[0-9]{1,12}$"},
        "description": "bytes of JSON in front of binary tensors; 0: the body is the one input",
    },
}

_REFUSALS: Final = {
    "400": "the request is wrong, and the text says how",
    "403": "clients of this server may not do that",
    "404": "there is no such model, version or path",
    "405": "another verb is needed",
    "413": "the body is too long",
    "500": "the engine failed",
    "501": "the server lacks the library that decodes images",
    "503": "too much is waiting, the model is not ready, or the server is shutting down",
    "504": "the request waited, or its model ran, longer than it may",
}


def _json(schema: str, text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": _ref(schema)}}}


def _answers(good: dict[str, Any], *refusals: int, ready: bool = False) -> dict[str, Any]:
    found = {"200": good}
    for status in refusals:
        schema = "Ready" if ready and status == 503 else "Error"
        found[str(status)] = _json(schema, _REFUSALS[str(status)])
    return found


def _get(summary: str, schema: str, *refusals: int, **more: Any) -> dict[str, Any]:
    answers = _answers(_json(schema, summary), *refusals, ready=schema == "Ready")
    return {"get": {"summary": summary, "responses": answers}, **more}


def _text(summary: str, content_type: str) -> dict[str, Any]:
    good = {"description": summary, "content": {content_type: {"schema": _TEXT}}}
    return {"get": {"summary": summary, "responses": {"200": good}}}


def _post(summary: str, good: dict[str, Any], *refusals: int, **more: Any) -> dict[str, Any]:
    body = {"required": False, "content": {"application/json": {"schema": _ANY_OBJECT}}}
    answers = _answers(good, 400, 413, *refusals)
    return {"post": {"summary": summary, "requestBody": body, "responses": answers}, **more}


_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}

_INFER: Final = {
    "summary": "compute outputs",
    "parameters": [_ref("JsonLength", "parameters")],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _ref("InferRequest")},
            "application/octet-stream": _BINARY,
        },
    },
    "responses": _answers(
        {
            "description": "the outputs",
            "content": {
                "application/json": {"schema": _ref("InferResponse")},
                "application/octet-stream": _BINARY,
            },
        },
        *(400, 404, 413, 500, 501, 503, 504),
    ),
}


def _model_paths() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for where, names in (("", ["Model"]), ("/versions/{version}", ["Model", "Version"])):
        path = f"/v2/models/{{model}}{where}"
        at = {"parameters": [_ref(name, "parameters") for name in names]}
        found |= {
            path: _get("inputs and outputs of the model", "Model", 404, 503, **at),
            f"{path}/ready": _get("whether the model answers", "Ready", 404, 503, **at),
            f"{path}/config": _get("the model as Triton describes it", "Config", 404, 503, **at),
            f"{path}/stats": _get("what has happened to the model", "Statistics", 404, **at),
            f"{path}/infer": {"post": _INFER, **at},
        }
    return found


_DONE: Final = {
    "description": "it is done",
    "content": {"application/json": {"schema": {"type": "object", "maxProperties": 0}}},
}
_AT_MODEL: Final = {"parameters": [_ref("Model", "parameters")]}

_PATHS: Final[dict[str, Any]] = {
    "/": _text("a page for people", "text/html"),
    "/openapi.json": {
        "get": {
            "summary": "this document",
            "responses": {
                "200": {
                    "description": "OpenAPI 3.1",
                    "content": {"application/json": {"schema": _ANY_OBJECT}},
                }
            },
        }
    },
    "/metrics": _text("counters for Prometheus", "text/plain"),
    "/v2": _get("name, version and extensions of the server", "Server"),
    "/v2/health/live": _get("whether the process answers", "Live"),
    "/v2/health/ready": _get("whether new requests are welcome", "Ready", 503),
    "/v2/models": _get("names of the models that are ready", "Models"),
    "/v2/models/stats": _get("what has happened to all models", "Statistics"),
    **_model_paths(),
    "/v2/repository/index": _post(
        "every version of every model, and its state", _json("Index", "the repository")
    ),
    "/v2/repository/models/{model}/load": _post(
        "load a model, or load it again; the old one answers until the new one is proved",
        _DONE, 403, 404, **_AT_MODEL,
    ),
    "/v2/repository/models/{model}/unload": _post(
        "unload all versions of a model", _DONE, 403, 404, **_AT_MODEL
    ),
}  # fmt: skip
