"""A bundle's model behind somebody else's HTTP server: requests in, answers out, no sockets."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from edgeport.runtimes.serve.core import Core
from edgeport.runtimes.serve.counters import Board
from edgeport.runtimes.serve.http import Exchange
from edgeport.runtimes.serve.http_messages import Limits, Request, Response
from edgeport.runtimes.serve.repository import Catalogue, Repository, opener
from edgeport.runtimes.serve.routes import Routes
from edgeport.runtimes.serve.work import Bounds
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
        catalogue = Catalogue([bundle])
        self._places = catalogue.places(catalogue.names()[0])
        self._open = opener(backend, Options(threads=threads), None)
        self._backend = backend
        self._models = [self._open(place, lambda _: None) for place in self._places]
        self._routes: Routes | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Answer one request; a client's mistake is a 4xx that says what is wrong.

        Args:
            method: ``"GET"``, ``"POST"``.
            path: ``"/v2/models/NAME/infer"``.
            headers: Names in lower case.
            body: As it came.

        Returns:
            Status, headers and body.
        """
        loop = asyncio.get_running_loop()
        if self._routes is None or self._loop is not loop:
            if self._routes is not None:
                self._routes.close()
            self._routes, self._loop = self._in_this_loop(), loop
        raw = {name.encode("latin-1"): value.encode("latin-1") for name, value in headers.items()}
        request = Request(method, path.encode("latin-1"), raw, body, keep_alive=True)
        exchange = _Answered(request)
        try:
            self._routes(exchange)
            found = await exchange.response
        except asyncio.CancelledError:
            if exchange.work is not None:
                exchange.work.cancel()
            raise
        return found.status, {"content-type": found.content_type, **found.headers}, found.body

    def _in_this_loop(self) -> Routes:
        repository = Repository(self._open, Bounds(), Board())
        for place, model in zip(self._places, self._models, strict=True):
            repository.adopt(place, model)
        return Routes(Core(repository), self._backend, Limits())


class _Answered(Exchange):
    """An exchange whose answer is waited for."""

    __slots__ = ("response",)

    def __init__(self, request: Request) -> None:
        self.request = request
        self.work = None
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def respond(self, response: Response) -> None:
        if not self.response.done():
            self.response.set_result(response)
