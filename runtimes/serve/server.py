"""Serve bundles: the port, the rehearsals, and the processes behind it."""

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.cpus import available_cpus
from edgeport.runtimes.errors import BackendMissingError, StorageError, UsageError
from edgeport.runtimes.parity.verification import proving_samples
from edgeport.runtimes.rehearsal import rehearse
from edgeport.runtimes.safety.isolation import Limits
from edgeport.runtimes.session import probe

from .offer import Offer
from .port import listen
from .repository import Catalogue, Place
from .supervisor import Supervisor
from .worker import Settings

MOST_FILES: Final = 2**16
"""Open files of a process, where the system's hard limit allows them."""

LEAST_FILES: Final = 28
FILES_PER_WORKER: Final = 4
"""What must be allowed. A worker has 20 open, 24 with gRPC, and one for each client; the process
that watches has 8, and 3 for each worker."""

MOST_WORKERS_PER_CPU: Final = 16
"""A mistyped number is no reason to take all the memory of a machine."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served, and where."""

    models: tuple[str, ...]
    url: str
    backend: str


def serve(
    bundles: Sequence[Path],
    *,
    model_dir: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    settings: Settings | None = None,
    rehearsal: Limits | None = None,
    ready: Callable[[Serving], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve bundles until SIGINT, SIGTERM or SIGHUP. Call it in the main thread.

    Every model repeats its golden samples first, in every process that will run it.

    Args:
        bundles: What to serve, each under the name in its manifest. One that cannot be served is an
            error.
        model_dir: A folder of more: ``NAME.edge``, or ``NAME/VERSION.edge``. One that cannot be
            served is left out, and listed with the reason.
        host: The address to listen on; the default is seen by this machine alone.
        port: 0 for a free one.
        workers: Processes that answer, each with all models.
        settings: What each of them does.
        rehearsal: What a child process may use that runs each model before this server does, for
            bundles of somebody else; ``None`` for no such rehearsal.
        ready: Called once requests are answered.
        tell: Called with what an operator should know: a worker that died, a model left out, loaded
            or unloaded, the end.

    Raises:
        UsageError: The port or address cannot be had, two models have one name, there is nothing
            to serve, or there would be too many workers.
        ParityError: A model does not compute what its module computed.
        BackendMissingError: The backend's library is not installed.
        StorageError: The system allows too few open files.
        EdgeportError: A bundle cannot be opened: see ``Bundle``.
    """
    settings = settings or Settings()
    most = MOST_WORKERS_PER_CPU * available_cpus()
    if workers > most:
        raise UsageError(
            f"{workers} workers are too many: each is a process that holds all models",
            remedy=f"one for each CPU is enough; at most {most} here",
        )
    if not bundles and model_dir is None:
        raise UsageError("there is nothing to serve", remedy="name a bundle, or --model-dir FOLDER")
    _allow_connections(workers)
    catalogue = Catalogue(bundles, model_dir)
    required = catalogue.names()[: len(bundles)]
    # its library is imported here, once for all processes
    available = probe(settings.backend, settings.options.device)
    if not available.usable:
        raise BackendMissingError(
            f"{settings.backend} cannot be used here: {available.reason}",
            remedy=available.remedy or "choose another one with --backend",
        )
    listeners = listen(host, port, workers)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listeners[0].getsockname()[1]}"
    attempt = partial(_rehearse, settings, rehearsal)
    offer = Offer(catalogue, required, tell)
    supervisor = Supervisor(settings, offer, catalogue, listeners, attempt, tell)
    try:
        offer.choose(partial(attempt, tell=tell))
        supervisor.run(lambda names: ready(Serving(tuple(names), url, settings.backend)))
    finally:
        for listener in listeners:
            listener.close()


def _allow_connections(workers: int) -> None:
    """Each is an open file, and 1,024 is what systems give to programs that do not ask for more.

    Beyond the limit the event loop closes new connections without a word to anybody.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = LEAST_FILES + FILES_PER_WORKER * workers
    if hard != resource.RLIM_INFINITY and hard < least:
        raise StorageError(
            f"a process may have {hard} open files here, and the server needs {least}",
            remedy="allow more: ulimit -n 1024, LimitNOFILE=1024 of systemd, "
            "--ulimit nofile=1024 of docker",
        )
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _rehearse(
    settings: Settings,
    limits: Limits | None,
    place: Place,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Read the bundle, and run it in a child process unless a trusted key vouches for it."""
    bundle = Bundle.read(place.path, trusted=settings.trusted)
    bundle.artefact(settings.backend)
    inputs = [sample.inputs for sample in proving_samples(bundle)]
    tell(f"model {place.name!r} version {place.version}: repeating its golden samples")
    if limits is not None:
        rehearse(bundle, settings.backend, inputs, settings.options, limits)
