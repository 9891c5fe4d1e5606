"""Which HTTP request means what: the Open Inference Protocol v2 with Triton's extensions.

A client's mistake is a 4xx that says what is wrong; 500 is for an engine that failed. The paths
that are described in ``openapi.py`` are those that are answered here; a test compares them.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import unquote

from edgeport.runtimes.errors import (
    BackendMissingError,
    DeadlineError,
    EdgeportError,
    ForbiddenError,
    InputError,
    OverloadedError,
    UnavailableError,
    UnknownModelError,
    UsageError,
)

from . import metrics, openapi, page
from .compression import MOST_EXPANSION, SMALLEST_BYTES, TooLong, accepted, compress, decompress
from .core import Core
from .http import Exchange
from .http_messages import JSON, Limits, Request, Response, error, json_response
from .json_text import loads
from .reading import LARGE_BYTES
from .requests import InferResponse
from .scheduler import Scheduler
from .tasks import Tasks
from .wire import Parsed, render_response
from .work import Result

_MOST_CACHED: Final = 1024
_BINARY: Final = "application/octet-stream"
_JSON_LENGTH_NAME: Final = "Inference-Header-Content-Length"
_JSON_LENGTH: Final = _JSON_LENGTH_NAME.lower().encode()

_STATUS: Final[tuple[tuple[type[EdgeportError], int], ...]] = (  # the first that fits
    (UnknownModelError, 404),
    (ForbiddenError, 403),
    (InputError, 400),
    (UsageError, 400),
    (OverloadedError, 503),
    (UnavailableError, 503),
    (DeadlineError, 504),
    (BackendMissingError, 501),
    (EdgeportError, 500),
)


class Route(NamedTuple):
    """What a path means."""

    verb: str
    answer: Callable[[Exchange, str, str], None]
    model: str = ""
    version: str = ""


class Routes:
    """Answers exchanges.

    Args:
        core: Does the work.
        backend: Of the models, for the metrics.
        limits: Of a body, when it is decompressed.
    """

    def __init__(self, core: Core, backend: str, limits: Limits) -> None:
        self._core = core
        self._backend = backend
        self._limits = limits
        self._cache: dict[bytes, Route | None] = {}
        self._tasks = Tasks()

    def __call__(self, exchange: Exchange) -> None:
        """Answer one exchange; nothing is raised for a client's mistake."""
        request = exchange.request
        try:
            route = self._cache[request.target]
        except KeyError:
            route = self._find(request.target)
            if len(self._cache) >= _MOST_CACHED:
                self._cache.clear()
            self._cache[request.target] = route
        if route is None:
            remedy = "/openapi.json lists the paths, /v2/models the models"
            exchange.respond(error(404, f"nothing is at {_path(request)}; fix: {remedy}"))
        elif request.method != route.verb and (request.method, route.verb) != ("HEAD", "GET"):
            text = f"{request.method} is not allowed on {_path(request)}; fix: use {route.verb}"
            exchange.respond(error(405, text, {"Allow": route.verb}))
        else:
            try:
                route.answer(exchange, route.model, route.version)
            except EdgeportError as e:
                exchange.respond(refusal(e))

    def close(self) -> None:
        """End what the core has begun."""
        self._core.close()

    def _find(self, target: bytes) -> Route | None:
        path = target.decode("latin-1").partition("?")[0]
        if path.startswith(("http://", "https://")):  # as to a proxy: RFC 9112, 3.2.2
            path = "/" + path.partition("://")[2].partition("/")[2]
        if not path.startswith("/"):
            return None
        match [unquote(part) for part in path.strip("/").split("/")]:
            case [""]:
                return Route("GET", self._page)
            case ["openapi.json"]:
                return Route("GET", self._openapi)
            case ["metrics"]:
                return Route("GET", self._metrics)
            case ["v2"]:
                return Route("GET", self._server)
            case ["v2", "health", "live"]:
                return Route("GET", self._live)
            case ["v2", "health", "ready"]:
                return Route("GET", self._ready)
            case ["v2", "models"]:
                return Route("GET", self._models)
            case ["v2", "models", "stats"]:
                return Route("GET", self._statistics)
            case ["v2", "models", model, *rest]:
                return self._find_model(model, rest)
            case ["v2", "repository", "index"]:
                return Route("POST", self._index)
            case ["v2", "repository", "models", model, "load"]:
                return Route("POST", self._load, model)
            case ["v2", "repository", "models", model, "unload"]:
                return Route("POST", self._unload, model)
        return None

    def _find_model(self, model: str, rest: list[str]) -> Route | None:
        version = ""
        if len(rest) >= 2 and rest[0] == "versions":
            version, rest = rest[1], rest[2:]
        match rest:
            case []:
                return Route("GET", self._metadata, model, version)
            case ["ready"]:
                return Route("GET", self._model_ready, model, version)
            case ["config"]:
                return Route("GET", self._config, model, version)
            case ["stats"]:
                return Route("GET", self._statistics, model, version)
            case ["infer"]:
                return Route("POST", self._infer, model, version)
        return None

    # ---- descriptions

    def _page(self, exchange: Exchange, _model: str, _version: str) -> None:
        exchange.respond(Response(200, (page.read(),), page.CONTENT_TYPE, page.HEADERS))

    def _openapi(self, exchange: Exchange, _model: str, _version: str) -> None:
        exchange.respond(json_response(openapi.document(self._core)))

    def _metrics(self, exchange: Exchange, _model: str, _version: str) -> None:
        text = metrics.render(self._core.repository, self._backend)
        exchange.respond(Response(200, (text,), metrics.CONTENT_TYPE))

    def _server(self, exchange: Exchange, _model: str, _version: str) -> None:
        exchange.respond(json_response(self._core.server_metadata()))

    def _live(self, exchange: Exchange, _model: str, _version: str) -> None:
        exchange.respond(json_response({"live": True}))

    def _ready(self, exchange: Exchange, _model: str, _version: str) -> None:
        exchange.respond(_readiness({}, self._core.ready, self._why_not()))

    def _model_ready(self, exchange: Exchange, model: str, version: str) -> None:
        entry = self._core.repository.entries(model, version)[-1]
        ready = self._core.model_ready(model, version)
        why = entry.condition()[1] or self._why_not()
        exchange.respond(_readiness({"name": model}, ready, why))

    def _why_not(self) -> str:
        if self._core.draining:
            return "the server is shutting down"
        return "models are being loaded" if self._core.starting else "no model is ready"

    def _models(self, exchange: Exchange, _model: str, _version: str) -> None:
        exchange.respond(json_response({"models": self._core.repository.names()}))

    def _metadata(self, exchange: Exchange, model: str, version: str) -> None:
        exchange.respond(json_response(self._core.metadata(model, version)))

    def _config(self, exchange: Exchange, model: str, version: str) -> None:
        exchange.respond(json_response(self._core.config(model, version)))

    def _statistics(self, exchange: Exchange, model: str, version: str) -> None:
        exchange.respond(json_response(self._core.statistics(model, version)))

    # ---- the repository

    def _index(self, exchange: Exchange, _model: str, _version: str) -> None:
        asked = self._json_object(exchange.request)
        ready = asked.get("ready", False)
        if type(ready) is not bool:
            raise InputError("'ready' is no bool", remedy='send {"ready": true}, or nothing')
        exchange.respond(json_response(self._core.index(ready=ready)))

    def _load(self, exchange: Exchange, model: str, _version: str) -> None:
        parameters = self._json_object(exchange.request).get("parameters")
        self._later(exchange, lambda: self._core.load(model, parameters))

    def _unload(self, exchange: Exchange, model: str, _version: str) -> None:
        self._json_object(exchange.request)
        self._later(exchange, lambda: self._core.unload(model))

    def _later(self, exchange: Exchange, action: Callable[[], Awaitable[None]]) -> None:
        _refuse_strange_pages(exchange.request)

        async def act() -> None:
            try:
                await action()
            except EdgeportError as e:
                status = _status(e)
                exchange.respond(refusal(e, 400 if status == 500 else status))
            else:
                exchange.respond(json_response({}))

        self._tasks.start(act(), exchange.fail)

    def _json_object(self, request: Request) -> Mapping[str, object]:
        body = self._decoded(request)
        if len(body) > LARGE_BYTES:
            raise InputError(
                f"the request has {len(body)} bytes, expected a small JSON object",
                remedy="send {}, or nothing",
            )
        value = loads(body) if body.strip() else {}
        if not isinstance(value, dict):
            raise InputError("the request is no JSON object", remedy="send {}, or nothing")
        return value

    # ---- inference

    def _infer(self, exchange: Exchange, model: str, version: str) -> None:
        scheduler = self._core.repository.serving(model, version)
        scheduler.refuse_overload()  # before anything is read: it must cost next to nothing
        request = exchange.request
        headers, size = request.headers, len(request.body)
        binary = _JSON_LENGTH in headers
        if (size > LARGE_BYTES and (not binary or scheduler.model.takes_strings)) or (
            b"content-encoding" in headers and size > LARGE_BYTES // MOST_EXPANSION
        ):
            self._infer_later(
                exchange, scheduler, version, lambda: self._parse(request, scheduler, version)
            )
            return
        try:
            parsed = self._parse(request, scheduler, version)
        except InputError as e:
            scheduler.count_refused(e)
            raise
        if scheduler.model.decodes_long(parsed.request):
            self._infer_later(exchange, scheduler, version, lambda: parsed)
        else:
            self._submit(exchange, scheduler, parsed)

    def _infer_later(
        self, exchange: Exchange, scheduler: Scheduler, version: str, parse: Callable[[], Parsed]
    ) -> None:
        """Read it in a thread, where texts and images are decoded too."""
        model, core = scheduler.model, self._core

        def read() -> Parsed:
            parsed = parse()
            return parsed._replace(request=model.decoded(parsed.request))

        async def act() -> None:
            try:
                parsed = await core.reading.read(len(exchange.request.body), read)
            except EdgeportError as e:
                scheduler.count_refused(e)
                exchange.respond(refusal(e))
                return
            try:  # the model may have been replaced meanwhile
                self._submit(exchange, core.repository.serving(model.name, version), parsed)
            except EdgeportError as e:
                exchange.respond(refusal(e))

        exchange.work = self._tasks.start(act(), exchange.fail)

    def _parse(self, request: Request, scheduler: Scheduler, version: str) -> Parsed:
        body, length = request.body, request.headers.get(_JSON_LENGTH)
        if b"content-encoding" in request.headers:
            body = self._decoded(request)
        return scheduler.reader.read(body, version, None if length is None else _number(length))

    def _submit(self, exchange: Exchange, scheduler: Scheduler, parsed: Parsed) -> None:
        def done(result: Result) -> None:
            if not isinstance(result, InferResponse):
                exchange.respond(refusal(result))
            elif sum([array.nbytes for array in result.outputs.values()]) > LARGE_BYTES:
                exchange.work = self._tasks.start(later(result), exchange.fail)
            else:
                exchange.respond(self._answer(exchange.request, parsed, result))

        async def later(result: InferResponse) -> None:
            write = partial(self._answer, exchange.request, parsed, result)
            exchange.respond(await self._core.reading.write(write))

        exchange.work = scheduler.submit(parsed.request, done)

    def _answer(self, request: Request, parsed: Parsed, result: InferResponse) -> Response:
        parts, json_length = render_response(parsed, result)
        headers = {} if json_length is None else {_JSON_LENGTH_NAME: str(json_length)}
        content_type = JSON if json_length is None else _BINARY
        header = request.headers.get(b"accept-encoding")
        if header is not None and sum(map(len, parts)) >= SMALLEST_BYTES:
            encoding = accepted(header)
            if encoding:
                headers = {**headers, "Content-Encoding": encoding, "Vary": "Accept-Encoding"}
                parts = [compress(b"".join(parts), encoding)]
        return Response(200, parts, content_type, headers)

    def _decoded(self, request: Request) -> bytes:
        encoding = request.headers.get(b"content-encoding", b"").decode("latin-1")
        try:
            return decompress(request.body, encoding, self._limits.body_bytes)
        except TooLong:
            raise _BodyError(
                f"the body is longer than {self._limits.body_bytes} bytes once it is decompressed",
                remedy="send less at a time",
            ) from None


class _BodyError(InputError):
    """The one mistake with a status of its own."""


def refusal(error_: EdgeportError, status: int | None = None) -> Response:
    """The answer to an error."""
    if status is None:
        status = _status(error_)
    headers = {"Retry-After": "1"} if isinstance(error_, OverloadedError) else {}
    return error(status, f"{error_.problem}; fix: {error_.remedy}", headers)


def _status(error_: EdgeportError) -> int:
    if isinstance(error_, _BodyError):
        return 413
    return next(status for kind, status in _STATUS if isinstance(error_, kind))


def _refuse_strange_pages(request: Request) -> None:
    """A page of any site may let its reader's browser send a POST to this machine."""
    origin = request.headers.get(b"origin")  # of a browser alone
    if origin is not None and origin.partition(b"://")[2] != request.headers.get(b"host"):
        raise ForbiddenError(
            f"a page of {origin.decode('latin-1')} may not load or unload models",
            remedy="ask without a browser, or from a page of this server",
        )


def _readiness(about: Mapping[str, str], ready: bool, why: str) -> Response:
    if ready:
        return json_response({**about, "ready": True})
    return json_response({**about, "ready": False, "error": why}, 503)


def _number(header: bytes) -> int:
    if not header.isdigit() or len(header) > 12:
        raise InputError(
            f"Inference-Header-Content-Length is {header.decode('latin-1')!r}",
            remedy="send the number of bytes of the JSON",
        )
    return int(header)


def _path(request: Request) -> str:
    return request.target.decode("latin-1").partition("?")[0]
