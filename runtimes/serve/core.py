"""A server without a network: models by name and version, and what may be asked of them.

Every transport (HTTP, gRPC, somebody else's server) calls these functions in the event loop in
which the core was made, and answers what they return or raise in its own words:

* InputError, UsageError: the client's mistake (HTTP 400, gRPC INVALID_ARGUMENT);
* UnknownModelError: 404, NOT_FOUND;
* ForbiddenError: 403, PERMISSION_DENIED;
* OverloadedError: 503 with Retry-After, RESOURCE_EXHAUSTED;
* UnavailableError: 503, UNAVAILABLE;
* DeadlineError: 504, DEADLINE_EXCEEDED;
* any other EdgeportError: 500, INTERNAL.

Descriptions are plain values with the protocol's own names of fields.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeAlias

from edgeport import __version__
from edgeport.runtimes.errors import ForbiddenError, InputError, UnknownModelError

from .describe import config, metadata, statistics
from .reading import Reading
from .repository import Repository
from .requests import InferRequest
from .work import Done, Work

_LONGEST_NAME: Final = 1000
"""Longer ones are no model's, and would not fit between two processes."""

Control: TypeAlias = Callable[[Literal["load", "unload"], str], Awaitable[None]]

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository",
              "statistics")  # fmt: skip


class Core:
    """What a server can do.

    Args:
        repository: The models.
        control: Loads or unloads a model in every process of the server; ``None`` where clients
            may not.

    Attributes:
        draining: Whether the server is shutting down: what is accepted is answered, and new
            requests should go elsewhere.
        starting: Whether models are still being opened for the first time.
        reading: Reads and writes for every transport what takes long.
    """

    def __init__(self, repository: Repository, control: Control | None = None) -> None:
        self.repository = repository
        self.draining = False
        self.starting = False
        self.reading = Reading(repository.bounds.deadline_s)
        self._control = control

    def close(self) -> None:
        """End the threads that read and write."""
        self.reading.close()

    # ---- inference

    def submit(self, request: InferRequest, done: Done) -> Work:
        """Let a request wait for its turn: ``done`` gets the response or the error, once, later.

        Returns:
            What to ``cancel()`` when the client has left.

        Raises:
            InputError: The request does not fit the model.
            UnknownModelError: There is no such model or version.
            UnavailableError: The model is not ready.
            OverloadedError: Too much is waiting.
        """
        return self.repository.serving(request.model, request.version).submit(request, done)

    # ---- descriptions

    @property
    def ready(self) -> bool:
        """Whether requests are welcome: not at the start or the end, nor if no model answers."""
        known = self.repository.is_empty or self.repository.names()
        return not self.draining and not self.starting and bool(known)

    def model_ready(self, name: str, version: str = "") -> bool:
        """Whether a model, or a version of it, answers; ``False`` for one that is not there."""
        return not self.draining and self.repository.find(name, version) is not None

    def server_metadata(self) -> dict[str, Any]:
        """Name, version and extensions of the server."""
        return {"name": "edgeport", "version": __version__, "extensions": list(EXTENSIONS)}

    def metadata(self, name: str, version: str = "") -> dict[str, Any]:
        """Name, versions, platform, inputs and outputs of a model; a free dimension is -1.

        Raises:
            UnknownModelError: There is no such model or version.
            UnavailableError: It is not ready.
        """
        model = self.repository.serving(name, version).model
        return metadata(model, self.repository.versions(name))

    def config(self, name: str, version: str = "") -> dict[str, Any]:
        """The ``ModelConfig`` that a Triton client knows, in the JSON of protocol buffers.

        Raises:
            UnknownModelError: There is no such model or version.
            UnavailableError: It is not ready.
        """
        return config(self.repository.serving(name, version).model)

    def statistics(self, name: str = "", version: str = "") -> dict[str, Any]:
        """What happened since the start, of one model or of all: ``{"model_stats": [...]}``.

        Raises:
            UnknownModelError: There is no such model or version.
        """
        return {
            "model_stats": [
                statistics(entry.name, entry.version, self.repository.board.total(entry.slot))
                for entry in self.repository.entries(name, version)
            ]
        }

    def index(self, *, ready: bool = False) -> list[dict[str, str]]:
        """Name, version, state and reason of every model in the repository.

        Args:
            ready: Only those that are ready.
        """
        rows = [(entry, *entry.condition()) for entry in self.repository.entries()]
        return [
            {"name": entry.name, "version": entry.version, "state": state, "reason": reason}
            for entry, state, reason in rows
            if not ready or state == "READY"
        ]

    # ---- control

    async def load(self, name: str, parameters: object = None) -> None:
        """Load a model, or load it again: the old one answers until the new one is proved.

        Args:
            name: Which.
            parameters: Of the request; none is known here.

        Raises:
            InputError: There are parameters.
            ForbiddenError: Clients may not.
            UnknownModelError: The repository holds no such model.
            EdgeportError: It cannot be opened, or does not compute what its module computed.
        """
        if parameters:
            raise InputError(
                "this server loads models as they are, without parameters",
                remedy="leave 'parameters' out; change the bundle, and load it again",
            )
        await self._controlled("load", name)

    async def unload(self, name: str) -> None:
        """Unload all versions of a model; what waits for them is still answered.

        Raises:
            ForbiddenError: Clients may not.
            UnknownModelError: The repository holds no such model.
        """
        await self._controlled("unload", name)

    async def _controlled(self, action: Literal["load", "unload"], name: str) -> None:
        if self._control is None:
            raise ForbiddenError(
                f"clients of this server may not {action} models",
                remedy="start it with --repository-control, where only trusted clients reach it",
            )
        if len(name) > _LONGEST_NAME:
            raise UnknownModelError(
                f"no model has a name of {len(name)} characters",
                remedy="ask for one that the repository's index lists",
            )
        await self._control(action, name)
