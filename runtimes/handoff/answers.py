"""A bundle's model behind somebody else's HTTP server: requests in, answers out, no sockets."""

import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgeport.runtimes.serve.messages import Request
from edgeport.runtimes.serve.models import open_models
from edgeport.runtimes.serve.routes import Routes
from edgeport.runtimes.session import Options


class Answers:
    """Answers requests of the Open Inference Protocol v2, as ``edgeport serve`` does."""

    def __init__(self, bundle: Path, backend: str = "ort-cpu", threads: int | None = 1) -> None:
        """Open the model; it repeats its golden samples first.

        Args:
            bundle: What to serve.
            backend: Which engine.
            threads: As in ``Options``; one, because servers of this kind run many processes.

        Raises:
            ParityError: The model does not compute what its module computed.
            EdgeportError: The bundle cannot be opened: see ``Bundle``.
        """
        self._stack = contextlib.ExitStack()
        pool = self._stack.enter_context(ThreadPoolExecutor(1))
        models = open_models([bundle], backend, Options(threads=threads), self._stack)
        self._routes = Routes(models, pool)

    async def __call__(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Answer one request; a client's mistake is a 4xx that says what is wrong.

        Args:
            method: ``"GET"``, ``"POST"``.
            path: ``"/v2/models/NAME/infer"``.
            headers: Names in lower case.
            body: JSON.

        Returns:
            Status, headers and JSON.
        """
        found = await self._routes(Request(method, path, headers, body, keep_alive=True))
        return found.status, {"content-type": "application/json", **found.headers}, found.body
