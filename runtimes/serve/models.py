"""The models of a server: opened, and proved before anybody may ask them anything."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeport.runtimes.bundle import Bundle
from edgeport.runtimes.errors import ParityError, UsageError
from edgeport.runtimes.rehearsal import rehearse
from edgeport.runtimes.safety.isolation import Limits
from edgeport.runtimes.session import Options, Session
from edgeport.runtimes.verification import check_session, dead_outputs

from .protocol import parse_request, render_response


@dataclass(frozen=True, slots=True)
class Model:
    """A model under the name that clients use."""

    name: str
    platform: str
    session: Session

    def infer(self, body: bytes) -> bytes:
        """Answer one request of the protocol.

        Raises:
            InputError: The request does not fit the model.
            EngineError: The engine failed.
        """
        request = parse_request(body, self.session.signature)
        return render_response(self.name, request, self.session.run(request.inputs))


def open_models(
    paths: Sequence[Path],
    backend: str,
    options: Options,
    stack: contextlib.ExitStack,
    trusted: Sequence[Path] | None = None,
    limits: Limits | None = None,
) -> Mapping[str, Model]:
    """Open every bundle and repeat its golden samples.

    Args:
        paths: The bundles.
        backend: Which engine opens them.
        options: As for any session.
        stack: Closes the sessions.
        trusted: As in ``Bundle.read``.
        limits: What a child process may use that runs each model before this one does, for
            bundles of somebody else; ``None`` for no such rehearsal.

    Raises:
        UsageError: Two bundles have one name, or one has no golden samples or no such artefact.
        MissingFileError: A file is not there.
        FormatError: Something is not a bundle.
        IntegrityError: A file is not the one that was packed.
        SignatureError: A signature is demanded, and is missing or wrong.
        BackendMissingError: The backend's library is not installed.
        ContractError: The engine does not do what was asked.
        EngineError: The engine refused an artefact or failed on a sample.
        ParityError: A model does not compute what its module computed.
    """
    bundles: dict[str, Bundle] = {}
    for bundle in (Bundle.read(path, trusted=trusted) for path in paths):
        first = bundles.setdefault(bundle.manifest.name, bundle)
        if first is not bundle:
            raise UsageError(
                f"{first.path} and {bundle.path} are both named {bundle.manifest.name!r}",
                remedy="serve them on two ports, or export one of them under another name",
            )
    for bundle in bundles.values():
        if limits is not None:
            inputs = [sample.inputs for sample in bundle.golden()]
            rehearse(bundle, backend, inputs, options, limits)
    return {name: _open(name, bundle, backend, options, stack) for name, bundle in bundles.items()}


def _open(
    name: str, bundle: Bundle, backend: str, options: Options, stack: contextlib.ExitStack
) -> Model:
    session = stack.enter_context(bundle.open(backend, options))
    _prove(name, bundle, session)
    return Model(name, f"{session.engine.engine}_{bundle.artefact(backend).format}", session)


def _prove(name: str, bundle: Bundle, session: Session) -> None:
    samples = bundle.golden()
    if not samples:
        raise UsageError(
            f"{bundle.path} holds no golden samples, so it cannot prove anything",
            remedy="export the model again",
        )
    thresholds = bundle.manifest.thresholds
    if dead := dead_outputs(samples, thresholds):
        raise ParityError(
            f"model {name!r}: the golden samples prove nothing about output {', '.join(dead)}",
            remedy="don't serve this bundle: edgeport verify tells more; export it again",
        )
    reduced = bundle.manifest.reduced_precision(bundle.artefact(session.engine.backend))
    for verdict in check_session(session, samples, thresholds, reduced):
        if verdict.status == "fail":
            raise ParityError(
                f"model {name!r}, output {verdict.output!r}, sample {verdict.sample!r}: "
                f"{verdict.reason}",
                remedy="don't serve this bundle: edgeport verify tells more; export it again",
            )
