"""``ModelInfer`` and ``ModelStreamInfer``: read, asked, answered."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from edgeport.runtimes.errors import EdgeportError, InputError
from edgeport.runtimes.serve.core import Core
from edgeport.runtimes.serve.reading import LARGE_BYTES
from edgeport.runtimes.serve.requests import InferRequest, InferResponse
from edgeport.runtimes.serve.tasks import Tasks
from edgeport.runtimes.serve.work import Result

from . import messages
from .calls import Call, Status, status_of
from .encoding import encode
from .tensors import read_request

MOST_PENDING: Final = 256
"""Requests of one stream that wait for their answers; a client that sends more is sent away."""

_MOST_UNREAD_BYTES: Final = 2**24
"""Of answers that the client of a stream has not made room for."""

_Reader: TypeAlias = Callable[
    [Call, Any, Callable[[InferRequest], None], Callable[[EdgeportError], None]],
    asyncio.Task[None] | None,
]


class Inference:
    """Asks models.

    Args:
        core: Has them.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tasks = Tasks()
        self._streams: dict[Call, _Answers] = {}

    def infer(self, call: Call, message: Any) -> None:
        """Answer ``ModelInfer``.

        Raises:
            EdgeportError: It is refused.
        """

        def done(result: Result) -> None:
            if isinstance(result, InferResponse):
                call.answer(encode(result))
            else:
                failed(result)

        def read(request: InferRequest) -> None:
            call.left = self._core.submit(request, done).cancel

        def failed(error: EdgeportError) -> None:
            call.fail(*status_of(error, draining=self._core.draining))

        task = self._read(call, message, read, failed)
        if task is not None:
            call.left = task.cancel

    def stream(self, call: Call, message: Any) -> None:
        """Take the next message of a ``ModelStreamInfer``."""
        answers = self._streams.get(call)
        if answers is None:
            answers = _Answers(self._core, call, lambda: self._streams.pop(call, None))
            self._streams[call] = answers
        answers.ask(message, self._read)

    def end_stream(self, call: Call) -> None:
        """The client of a ``ModelStreamInfer`` has nothing more to ask."""
        answers = self._streams.get(call)
        if answers is None:
            call.finish()
        else:
            answers.end()

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

        return self._tasks.start(act(), call.break_off)


class _Answers:
    """The requests of one ``ModelStreamInfer``, answered in their order."""

    def __init__(self, core: Core, call: Call, gone: Callable[[], object]) -> None:
        self._core = core
        self._call = call
        self._gone = gone
        self._waiting: deque[_Asked] = deque()
        self._ending = False
        call.left = self._leave

    def ask(self, message: Any, reader: _Reader) -> None:
        """Ask the model."""
        if len(self._waiting) >= MOST_PENDING or self._call.waiting_bytes > _MOST_UNREAD_BYTES:
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
            asked.cancel = self._core.submit(request, done).cancel

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
            asked = self._waiting[0]  # until its message is there: who fails to write it says so
            if isinstance(result, InferResponse):
                found = messages.ModelStreamInferResponse()
                found.infer_response.ParseFromString(encode(result))
            else:
                text = status_of(result, draining=self._core.draining)[1]
                found = messages.ModelStreamInferResponse(
                    error_message=text, infer_response={"id": asked.id}
                )
            message = found.SerializeToString()
            self._waiting.popleft()
            self._call.send(message)
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
