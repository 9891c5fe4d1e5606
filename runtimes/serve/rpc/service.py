"""Which method means what: ``inference.GRPCInferenceService`` and ``grpc.health.v1.Health``."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from google.protobuf.message import DecodeError

from edgeport.runtimes.errors import EdgeportError, InputError
from edgeport.runtimes.serve.core import Core
from edgeport.runtimes.serve.reading import LARGE_BYTES
from edgeport.runtimes.serve.requests import InferRequest, InferResponse
from edgeport.runtimes.serve.tasks import Tasks
from edgeport.runtimes.serve.work import Result

from . import messages
from .calls import Call, CallError, Status, http_refusal, status_of
from .connection import Limits
from .encoding import encode
from .headers import Headers, literal
from .stream import Receiver, Stream
from .tensors import read_request

INFERENCE: Final = "inference.GRPCInferenceService"
HEALTH: Final = "grpc.health.v1.Health"

MOST_PENDING: Final = 256
"""Requests of one stream that wait for their answers; a client that sends more is sent away."""

WATCH_S: Final = 0.5
"""How often it is looked whether those who watch the health of something must be told."""

Reader: TypeAlias = Callable[
    [Call, Any, Callable[[InferRequest], None], Callable[[EdgeportError], None]],
    asyncio.Task[None] | None,
]

Answer: TypeAlias = Callable[[Any], Any] | Callable[[Any], Coroutine[Any, Any, Any]]


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
        self._watchers: dict[Call, tuple[str, int]] = {}  # what, and what they heard last
        self._looking = False
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
        self._tell_watchers()
        watchers, self._watchers = self._watchers, {}
        for call in watchers:
            call.finish()

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
                call.fail(*self._status(e))
            except Exception as e:  # a defect of ours costs this call, and no other
                _defect(call, e)

        return hear

    def _status(self, error: EdgeportError) -> tuple[Status, str]:
        return status_of(error, draining=self._core.draining)

    # ---- methods

    def _table(self) -> Mapping[bytes, Method]:
        core = self._core
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
        found[_path(INFERENCE, "ModelInfer")] = Method(messages.ModelInferRequest, self._infer)
        found[_path(INFERENCE, "ModelStreamInfer")] = self._stream_infer()
        found[_path(HEALTH, "Check")] = Method(messages.HealthCheckRequest, self._check)
        found[_path(HEALTH, "Watch")] = Method(messages.HealthCheckRequest, self._watch)
        found[_path(HEALTH, "List")] = Method(messages.HealthListRequest, self._list)
        return found

    def _plain(self, name: str, answer: Callable[[Any], Any]) -> Method:
        def heard(call: Call, message: Any) -> None:
            call.answer(_message(answer(message)))

        return Method(getattr(messages, f"{name}Request"), heard)

    def _control(self, name: str, action: Callable[[Any], Coroutine[Any, Any, None]]) -> Method:
        response = getattr(messages, f"RepositoryModel{name}Response")

        async def act(call: Call, message: Any) -> None:
            try:
                await action(message)
            except EdgeportError as e:
                call.fail(*self._status(e))
            else:
                call.answer(_message(response()))

        def heard(call: Call, message: Any) -> None:
            self._tasks.start(act(call, message), partial(_defect, call))

        return Method(getattr(messages, f"RepositoryModel{name}Request"), heard)

    # ---- inference

    def _infer(self, call: Call, message: Any) -> None:
        def done(result: Result) -> None:
            if isinstance(result, InferResponse):
                call.answer(encode(result))
            else:
                call.fail(*self._status(result))

        def read(request: InferRequest) -> None:
            call.left = self._core.submit(request, done).cancel

        def failed(error: EdgeportError) -> None:
            call.fail(*self._status(error))

        task = self._read(call, message, read, failed)
        if task is not None:
            call.left = task.cancel

    def _read(
        self,
        call: Call,
        message: Any,
        read: Callable[[InferRequest], None],
        failed: Callable[[EdgeportError], None],
    ) -> asyncio.Task[None] | None:
        """Read a request: at once, or in a thread if it takes long.

        Returns:
            What will call one of the two functions, and may be cancelled; ``None`` if ``read`` was
            called.

        Raises:
            EdgeportError: It was read at once, and is refused.
        """
        scheduler = self._core.repository.serving(message.model_name, message.model_version)
        model, size = scheduler.model, message.ByteSize()
        parse = partial(read_request, message, call.deadline)
        if size <= LARGE_BYTES or (message.raw_input_contents and not model.takes_strings):
            try:
                request = parse()
            except InputError as e:
                scheduler.count_refused(e)
                raise
            if not model.decodes_long(request):
                read(request)
                return None
            parse = partial(InferRequest._replace, request)

        async def act() -> None:
            try:
                found = await self._core.reading.read(size, lambda: model.decoded(parse()))
            except EdgeportError as e:
                scheduler.count_refused(e)
                failed(e)
                return
            try:
                read(found)
            except EdgeportError as e:
                failed(e)

        return self._tasks.start(act(), partial(_defect, call))

    def _stream_infer(self) -> Method:
        open_ones: dict[Call, _Answers] = {}

        def heard(call: Call, message: Any) -> None:
            if call not in open_ones:
                open_ones[call] = _Answers(self._status, call, lambda: open_ones.pop(call, None))
            open_ones[call].ask(message, self._core, self._read)

        def ended(call: Call) -> None:
            if call in open_ones:
                open_ones[call].end()
            else:
                call.finish()

        return Method(messages.ModelInferRequest, heard, ended)

    # ---- health

    def _health(self, service: str) -> int:
        if service not in ("", INFERENCE, HEALTH):
            return _SERVICE_UNKNOWN
        return _SERVING if self._core.ready else _NOT_SERVING

    def _check(self, call: Call, message: Any) -> None:
        status = self._health(message.service)
        if status == _SERVICE_UNKNOWN:
            call.fail(Status.NOT_FOUND, f"no service is named {message.service!r}")
        else:
            call.answer(_message(messages.HealthCheckResponse(status=status)))

    def _watch(self, call: Call, message: Any) -> None:
        self._watchers[call] = (message.service, _UNTOLD)
        if not self._looking:
            self._look_later()
        call.left = partial(self._unwatch, call)
        self._tell_watchers()

    def _look(self) -> None:
        """Models come and go by many ways: looking is simpler than being told."""
        self._tell_watchers()
        self._looking = False
        if self._watchers:
            self._look_later()

    def _look_later(self) -> None:
        self._looking = True
        asyncio.get_running_loop().call_later(WATCH_S, self._look)

    def _tell_watchers(self) -> None:
        """Tell those for whom something is new."""
        for call, (service, told) in list(self._watchers.items()):
            status = self._health(service)
            if status != told:
                self._watchers[call] = (service, status)
                call.send(_message(messages.HealthCheckResponse(status=status)))

    def _unwatch(self, call: Call) -> None:
        self._watchers.pop(call, None)

    def _list(self, call: Call, message: Any) -> None:
        statuses = {
            service: {"status": self._health(service)} for service in ("", INFERENCE, HEALTH)
        }
        call.answer(_message(messages.HealthListResponse(statuses=statuses)))


_UNTOLD, _SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = range(4)


class _Answers:
    """The requests of one ``ModelStreamInfer``, answered in their order."""

    def __init__(
        self,
        status: Callable[[EdgeportError], tuple[Status, str]],
        call: Call,
        gone: Callable[[], object],
    ) -> None:
        self._status = status
        self._call = call
        self._gone = gone
        self._waiting: deque[_Asked] = deque()
        self._ending = False
        call.left = self._leave

    def ask(self, message: Any, core: Core, reader: Reader) -> None:
        """Ask the model."""
        if len(self._waiting) >= MOST_PENDING or self._call.waiting_bytes > 2**24:
            self._leave()
            self._call.fail(
                Status.RESOURCE_EXHAUSTED, f"{MOST_PENDING} requests of this stream wait already"
            )
            return
        asked = _Asked(message.id)
        self._waiting.append(asked)

        def done(result: Result) -> None:
            asked.result = result
            self._flush()

        def read(request: InferRequest) -> None:
            asked.cancel = core.submit(request, done).cancel

        try:
            task = reader(self._call, message, read, done)
        except EdgeportError as e:
            done(e)
        else:
            if task is not None:
                asked.cancel = task.cancel

    def end(self) -> None:
        """The client has nothing more to ask."""
        self._ending = True
        self._flush()

    def _flush(self) -> None:
        while self._waiting and (result := self._waiting[0].result) is not None:
            asked = self._waiting.popleft()
            if isinstance(result, InferResponse):
                found = messages.ModelStreamInferResponse()
                found.infer_response.ParseFromString(encode(result))
            else:
                text = self._status(result)[1]
                found = messages.ModelStreamInferResponse(
                    error_message=text, infer_response={"id": asked.id}
                )
            self._call.send(_message(found))
        if self._ending and not self._waiting:
            self._gone()
            self._call.finish()

    def _leave(self) -> None:
        self._gone()
        for asked in self._waiting:
            if asked.cancel is not None:
                asked.cancel()
        self._waiting.clear()


@dataclass(slots=True)
class _Asked:
    id: str
    result: Result | None = None
    cancel: Callable[[], object] | None = None


class _Refused:
    """Answers what is no gRPC, once it is complete."""

    def __init__(self, stream: Stream, headers: bytes) -> None:
        self._stream, self._headers = stream, headers

    def data(self, part: bytes) -> None: ...

    def end(self) -> None:
        self._stream.finish(self._headers)

    def cancel(self) -> None: ...


def _defect(call: Call, error: Exception) -> None:
    """End a call for a defect of ours: the client gets an answer, the log the trace."""
    context = {"message": "a call failed", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
    call.fail(Status.INTERNAL, "internal error; the server's log says more")


def _path(service: str, method: str) -> bytes:
    return f"/{service}/{method}".encode()


def _deaf(call: Call, data: bytes) -> None:
    """Hear nothing."""


def _unknown(call: Call, path: bytes) -> Call:
    name = path.decode("latin-1")
    text = f"nothing is at {name!r}; this server has {INFERENCE} and {HEALTH}"
    call.fail(Status.UNIMPLEMENTED, text)
    return call


def _message(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _config(found: Mapping[str, Any]) -> Any:
    """The configuration as a message."""
    from google.protobuf import json_format

    return json_format.ParseDict(dict(found), messages.ModelConfig(), ignore_unknown_fields=True)
