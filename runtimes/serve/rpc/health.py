"""``grpc.health.v1.Health``: whether a service answers, told once or again at every change.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from edgeport.runtimes.serve.core import Core

from . import messages
from .calls import Call, Status

WATCH_S: Final = 0.5
"""How often it is looked whether those who watch the health of something must be told."""

_UNTOLD, _SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = range(4)


class Health:
    """Answers about all services together: they have the same models.

    Args:
        core: Knows whether it is ready.
        services: Their names.
    """

    def __init__(self, core: Core, services: Sequence[str]) -> None:
        self._core = core
        self._services = ("", *services)  # the empty one is the server
        self._watchers: dict[Call, tuple[str, int]] = {}  # what, and what they heard last
        self._looking = False

    def check(self, call: Call, message: Any) -> None:
        """Answer ``Check``."""
        status = self._status(message.service)
        if status == _SERVICE_UNKNOWN:
            call.fail(Status.NOT_FOUND, f"no service is named {message.service!r}")
        else:
            call.answer(messages.HealthCheckResponse(status=status).SerializeToString())

    def list(self, call: Call, message: Any) -> None:
        """Answer ``List``."""
        statuses = {name: {"status": self._status(name)} for name in self._services}
        call.answer(messages.HealthListResponse(statuses=statuses).SerializeToString())

    def watch(self, call: Call, message: Any) -> None:
        """Begin to answer ``Watch``."""
        self._watchers[call] = (message.service, _UNTOLD)
        if not self._looking:
            self._look_later()
        call.left = partial(self._watchers.pop, call, None)
        self._tell()

    def end_watches(self) -> None:
        """Tell those who watch that it ends, and let them go."""
        self._tell()
        watchers, self._watchers = self._watchers, {}
        for call in watchers:
            call.finish()

    def _status(self, service: str) -> int:
        if service not in self._services:
            return _SERVICE_UNKNOWN
        return _SERVING if self._core.ready else _NOT_SERVING

    def _look(self) -> None:
        """Models come and go by many ways: looking is simpler than being told."""
        self._tell()
        self._looking = False
        if self._watchers:
            self._look_later()

    def _look_later(self) -> None:
        self._looking = True
        asyncio.get_running_loop().call_later(WATCH_S, self._look)

    def _tell(self) -> None:
        """Tell those for whom something is new."""
        for call, (service, told) in list(self._watchers.items()):
            status = self._status(service)
            if status != told:
                self._watchers[call] = (service, status)
                call.send(messages.HealthCheckResponse(status=status).SerializeToString())
