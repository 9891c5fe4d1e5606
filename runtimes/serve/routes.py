"""Which request means what: the Open Inference Protocol v2 over HTTP, JSON only.

A client's mistake is a 4xx that says what is wrong; 500 is for an engine that failed.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any
from urllib.parse import unquote

from edgeport import __version__
from edgeport.runtimes.errors import EdgeportError, EngineError, InputError

from .messages import Request, Response, error
from .models import Model
from .protocol import VERSION, dumps, model_metadata

_BINARY_HEADER = "inference-header-content-length"


class Routes:
    """Answers requests.

    Args:
        models: By name.
        pool: Where engines run, so that health is answered while they do.

    Attributes:
        ready: Whether to say that new requests are welcome.
    """

    def __init__(self, models: Mapping[str, Model], pool: Executor) -> None:
        self.ready = True
        self._models = models
        self._pool = pool

    async def __call__(self, request: Request) -> Response:
        """Answer one request; nothing is raised for a client's mistake."""
        match [unquote(part) for part in request.path.strip("/").split("/")]:
            case ["v2"]:
                return _get(request, {"name": "edgeport", "version": __version__, "extensions": []})
            case ["v2", "health", "live"]:
                return _get(request, {"live": True})
            case ["v2", "health", "ready"]:
                return self._get_ready(request, {})
            case ["v2", "models"]:
                return _get(request, {"models": list(self._models)})
            case ["v2", "models", name, *rest] if name in self._models:
                return await self._ask(request, self._models[name], rest)
            case ["v2", "models", name, *_]:
                names = ", ".join(map(repr, self._models))
                return error(404, f"no model is named {name!r}; this server has {names}")
        return _unknown(request)

    async def _ask(self, request: Request, model: Model, rest: Sequence[str]) -> Response:
        match rest:
            case ["versions", version, *_] if version != VERSION:
                text = f"model {model.name!r} has no version {version!r}; it has {VERSION!r}"
                return error(404, text)
            case [] | ["versions", _]:
                signature = model.session.signature
                return _get(request, model_metadata(model.name, model.platform, signature))
            case ["ready"] | ["versions", _, "ready"]:
                return self._get_ready(request, {"name": model.name})
            case ["infer"] | ["versions", _, "infer"]:
                return await self._infer(request, model)
        return _unknown(request)

    def _get_ready(self, request: Request, about: Mapping[str, str]) -> Response:
        if self.ready:
            return _get(request, {**about, "ready": True})
        answer = {**about, "ready": False, "error": "the server is shutting down"}
        return _get(request, answer, status=503)

    async def _infer(self, request: Request, model: Model) -> Response:
        if request.method != "POST":
            return _wrong_verb(request, "POST")
        if _BINARY_HEADER in request.headers:
            return error(400, f"{_BINARY_HEADER} announces binary tensors; this server takes JSON")
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            return error(400, f"the body is encoded as {encoding!r}; this server takes plain JSON")
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._pool, model.infer, request.body)
        except InputError as e:
            return error(400, _text(e))
        except EngineError as e:
            return error(500, _text(e))
        return Response(200, answer)


def _get(request: Request, value: Mapping[str, Any], status: int = 200) -> Response:
    if request.method not in ("GET", "HEAD"):
        return _wrong_verb(request, "GET")
    return Response(status, dumps(value))


def _wrong_verb(request: Request, allowed: str) -> Response:
    text = f"{request.method} is not allowed on {request.path}; use {allowed}"
    return error(405, text, {"Allow": allowed})


def _unknown(request: Request) -> Response:
    return error(404, f"nothing is at {request.path}; GET /v2/models lists the models")


def _text(error: EdgeportError) -> str:
    return f"{error.problem}; fix: {error.remedy}"
