"""Which method means what: ``inference.GRPCInferenceService`` and ``grpc.health.v1.Health``."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError

from edgeport.runtimes.errors import EdgeportError
from edgeport.runtimes.serve.core import Core
from edgeport.runtimes.serve.tasks import Tasks

from . import messages
from .calls import Call, CallError, Status, http_refusal, status_of
from .connection import Limits
from .headers import Headers, literal
from .health import Health
from .inference import Inference
from .stream import Receiver, Stream

INFERENCE: Final = "inference.GRPCInferenceService"
HEALTH: Final = "grpc.health.v1.Health"


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    Attributes:
        request: Class of what it takes.
        heard: Called with the call and its message.
        ended: Called when the client has nothing more to say, where it may send many messages.
    """

    request: Any
    heard: Callable[[Call, Any], None]
    ended: Callable[[Call], None] | None = None


class Service:
    """Begins calls.

    Args:
        core: Answers them.
        limits: What a client may take.
    """

    def __init__(self, core: Core, limits: Limits) -> None:
        self._core = core
        self._limits = limits
        self._tasks = Tasks()
        self._health = Health(core, (INFERENCE, HEALTH))
        self._inference = Inference(core)
        self._methods = self._table()

    def open(self, stream: Stream, headers: Headers) -> Receiver:
        """Begin a call."""
        if headers[b":method"] != b"POST":
            return _Refused(stream, http_refusal(405) + literal(b"allow", b"POST"))
        if not headers.get(b"content-type", b"").startswith(b"application/grpc"):
            return _Refused(stream, http_refusal(415))
        method = self._methods.get(headers[b":path"])
        if method is None:
            return _unknown(Call(stream, headers, self._limits, _deaf), headers[b":path"])
        return Call(stream, headers, self._limits, self._hear(method), method.ended)

    def end_watches(self) -> None:
        """Tell those who watch the health of something that it ends, and let them go."""
        self._health.end_watches()

    def _hear(self, method: Method) -> Callable[[Call, bytes], None]:
        parse, heard = method.request.FromString, method.heard

        def hear(call: Call, data: bytes) -> None:
            try:
                message = parse(data)
            except DecodeError as e:
                raise CallError(
                    Status.INVALID_ARGUMENT, f"not a {method.request.DESCRIPTOR.name}: {e}"
                ) from e
            try:
                heard(call, message)
            except EdgeportError as e:
                call.fail(*status_of(e, draining=self._core.draining))
            except Exception as e:  # a defect of ours costs this call, and no other
                call.break_off(e)

        return hear

    # ---- methods

    def _table(self) -> Mapping[bytes, Method]:
        core, health, inference = self._core, self._health, self._inference
        plain: dict[str, Callable[[Any], Any]] = {
            "ServerLive": lambda _: messages.ServerLiveResponse(live=True),
            "ServerReady": lambda _: messages.ServerReadyResponse(ready=core.ready),
            "ModelReady": lambda m: messages.ModelReadyResponse(
                ready=core.model_ready(m.name, m.version)
            ),
            "ServerMetadata": lambda _: messages.ServerMetadataResponse(**core.server_metadata()),
            "ModelMetadata": lambda m: messages.ModelMetadataResponse(
                **core.metadata(m.name, m.version)
            ),
            "ModelConfig": lambda m: messages.ModelConfigResponse(
                config=_config(core.config(m.name, m.version))
            ),
            "ModelStatistics": lambda m: messages.ModelStatisticsResponse(
                **core.statistics(m.name, m.version)
            ),
            "RepositoryIndex": lambda m: messages.RepositoryIndexResponse(
                models=core.index(ready=m.ready)
            ),
        }
        found = {
            _path(INFERENCE, name): self._plain(name, answer) for name, answer in plain.items()
        }
        for name, action in (
            ("Load", lambda m: core.load(m.model_name, m.parameters)),
            ("Unload", lambda m: core.unload(m.model_name)),
        ):
            found[_path(INFERENCE, f"RepositoryModel{name}")] = self._control(name, action)
        found |= {
            _path(INFERENCE, "ModelInfer"): Method(messages.ModelInferRequest, inference.infer),
            _path(INFERENCE, "ModelStreamInfer"): Method(
                messages.ModelInferRequest, inference.stream, inference.end_stream
            ),
            _path(HEALTH, "Check"): Method(messages.HealthCheckRequest, health.check),
            _path(HEALTH, "Watch"): Method(messages.HealthCheckRequest, health.watch),
            _path(HEALTH, "List"): Method(messages.HealthListRequest, health.list),
        }
        return found

    def _plain(self, name: str, answer: Callable[[Any], Any]) -> Method:
        def heard(call: Call, message: Any) -> None:
            call.answer(answer(message).SerializeToString())

        return Method(getattr(messages, f"{name}Request"), heard)

    def _control(self, name: str, action: Callable[[Any], Coroutine[Any, Any, None]]) -> Method:
        response = getattr(messages, f"RepositoryModel{name}Response")

        async def act(call: Call, message: Any) -> None:
            try:
                await action(message)
            except EdgeportError as e:
                call.fail(*status_of(e, draining=self._core.draining))
            else:
                call.answer(response().SerializeToString())

        def heard(call: Call, message: Any) -> None:
            self._tasks.start(act(call, message), call.break_off)

        return Method(getattr(messages, f"RepositoryModel{name}Request"), heard)


class _Refused:
    """Answers what is no gRPC, once it is complete."""

    def __init__(self, stream: Stream, headers: bytes) -> None:
        self._stream, self._headers = stream, headers

    def data(self, part: bytes) -> None: ...

    def end(self) -> None:
        self._stream.finish(self._headers)

    def cancel(self) -> None: ...


def _path(service: str, method: str) -> bytes:
    return f"/{service}/{method}".encode()


def _deaf(call: Call, data: bytes) -> None:
    """Hear nothing."""


def _unknown(call: Call, path: bytes) -> Call:
    name = path.decode("latin-1")
    service, _, method = name.strip("/").rpartition("/")
    if service in (INFERENCE, HEALTH):
        text = f"{service} of this server has no {method!r}; docs/serving.md tells what it has"
    else:
        text = f"nothing is at {name!r}; this server has {INFERENCE} and {HEALTH}"
    call.fail(Status.UNIMPLEMENTED, text)
    return call


def _config(found: Mapping[str, Any]) -> Any:
    """The configuration as a message."""
    from google.protobuf import json_format

    return json_format.ParseDict(dict(found), messages.ModelConfig(), ignore_unknown_fields=True)
