"""A model that is served: opened, proved, and asked for one request or for several at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.errors import InputError, ParityError
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.parity.report import why_nothing
from edgeport.runtimes.parity.verification import check_session, dead_outputs, proving_samples
from edgeport.runtimes.session import Options, Session
from edgeport.runtimes.text import is_text

from .batching import most_rows
from .loops import loops
from .raw import check_characters, from_bytes, takes_bytes, widened
from .requests import InferRequest

_QUICK_BYTES: Final = 4096
"""So little text or image is decoded in the event loop: a thread would cost more."""


@dataclass(frozen=True, slots=True)
class Model:
    """One version of a model under the name that clients use.

    Attributes:
        name: As clients know it.
        version: A number, as text.
        format: Of the artefact.
        session: Answers.
        labels: By output: names of the classes along its last axis.
        most_rows: How many rows of different requests may go through together; 1 for none.
        first_runs: Bytes and seconds of the smallest golden sample and, where there are others, of
            the largest.
        inputs: Their names, in the order of the signature.
        outputs: Their names, in the order of the signature.
        check: The check of inputs that every backend does.
        raw: Inputs that may be given as BYTES.
        may_hang: Whether a run may last much longer than its size says: it loops, or waits for a
            GPU.
    """

    name: str
    version: str
    format: str
    session: Session
    labels: Mapping[str, tuple[str, ...]]
    most_rows: int
    first_runs: tuple[tuple[int, float], ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    check: InputCheck
    raw: frozenset[str]
    may_hang: bool = False

    @property
    def takes_strings(self) -> bool:
        """Whether an input may be BYTES, which are read one by one."""
        return bool(self.raw) or any(s.dtype == "object" for s in self.session.signature.inputs)

    def decodes_long(self, request: InferRequest) -> bool:
        """Whether ``decoded`` will take long."""
        if not self.raw:
            return False
        given = (request.inputs.get(name) for name in self.raw)
        strings = (a for a in given if a is not None and a.dtype.kind == "O")
        return sum(sum(map(len, array.ravel().tolist())) for array in strings) > _QUICK_BYTES

    def decoded(self, request: InferRequest) -> InferRequest:
        """The same with tensors in place of texts and image files.

        Raises:
            InputError: Something is none.
            BackendMissingError: Images are to be decoded, and Pillow is not installed.
        """
        return request._replace(inputs=self._decoded(request.inputs)) if self.raw else request

    def prepare(self, request: InferRequest) -> list[Array]:
        """The inputs in the order of the signature, checked; BYTES are decoded.

        Raises:
            InputError: They do not fit the signature, or an output is asked for that is not there.
            BackendMissingError: Images are to be decoded, and Pillow is not installed.
        """
        inputs = request.inputs
        if self.raw:
            inputs = self._decoded(inputs)
        for name, _ in request.outputs:
            if name not in self.outputs:
                raise InputError(
                    f"no output {name!r}",
                    remedy=f"this model gives {', '.join(map(repr, self.outputs))}",
                )
        return self.check(inputs)

    def run(self, arrays: Sequence[Array]) -> dict[str, Array]:
        """Compute every output.

        Raises:
            ValuesError: The engine refused the values of an input.
            EngineError: The engine failed.
        """
        return self.session.run(dict(zip(self.inputs, arrays, strict=True)))

    def _decoded(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        found = dict(inputs)
        for spec in self.session.signature.inputs:
            array = found.get(spec.name)
            if spec.name not in self.raw or array is None:
                continue
            if array.dtype.kind == "O":
                found[spec.name] = from_bytes(spec, array)
            elif is_text(spec):
                check_characters(spec, array.size)
        texts = {s.name: s for s in self.session.signature.inputs if is_text(s)}
        width = max((found[name].shape[-1] for name in texts.keys() & found.keys()), default=0)
        for name, spec in texts.items():  # the axis of the characters is one of all of them
            if name in found and inputs[name].dtype.kind == "O":
                found[name] = widened(spec, found[name], width)
        return found


def open_model(
    path: Path,
    name: str | None,
    version: str,
    backend: str,
    options: Options,
    trusted: Sequence[Path] | None = None,
    opening: Callable[[bool], None] = lambda _: None,
) -> Model:
    """Open a bundle and repeat its golden samples: what does not pass them is not served.

    Args:
        path: The bundle.
        name: Under which it is served; ``None`` for the one in its manifest.
        version: Under which it is served.
        backend: Which engine.
        options: As for any session.
        trusted: As in ``Bundle.read``.
        opening: Told when the engine begins and ends with it: it may crash this process.

    Raises:
        UsageError: It has no golden samples or no artefact for the backend.
        MissingFileError: A file is not there.
        FormatError: Something is not a bundle.
        IntegrityError: A file is not the one that was packed.
        SignatureError: A signature is demanded, and is missing or wrong.
        BackendMissingError: The backend's library is not installed.
        ContractError: The engine does not do what was asked.
        EngineError: The engine refused the artefact or failed on a sample.
        ParityError: The model does not compute what its module computed.
    """
    bundle = Bundle.read(path, trusted=trusted)
    samples = proving_samples(bundle)
    opening(True)
    try:
        session = bundle.open(backend, options)
        try:
            return _proved(bundle, samples, session, name or bundle.manifest.name, version)
        except BaseException:
            session.close()
            raise
    finally:
        opening(False)


def _proved(
    bundle: Bundle, samples: Sequence[Golden], session: Session, name: str, version: str
) -> Model:
    artefact = bundle.artefact(session.engine.backend)
    reduced = bundle.manifest.reduced_precision(artefact)
    thresholds = bundle.manifest.thresholds
    if dead := dead_outputs(samples, thresholds):
        raise ParityError(
            f"model {name!r}: {why_nothing(dead)}",
            remedy="don't serve this bundle: edgeport verify tells more; export it again",
        )
    for verdict in check_session(session, samples, thresholds, reduced):
        if verdict.status == "fail":
            raise ParityError(
                f"model {name!r}, output {verdict.output!r}, sample {verdict.sample!r}: "
                f"{verdict.reason}",
                remedy="don't serve this bundle: edgeport verify tells more; export it again",
            )
    signature = session.signature
    smallest, largest = min(samples, key=_size), max(samples, key=_size)
    return Model(
        name,
        version,
        artefact.format,
        session,
        bundle.manifest.labels,
        most_rows(session, samples, thresholds, reduced),
        tuple((_size(sample), _time_s(session, sample)) for sample in (smallest, largest)),
        tuple(spec.name for spec in signature.inputs),
        tuple(spec.name for spec in signature.outputs),
        InputCheck(signature),
        frozenset(spec.name for spec in signature.inputs if takes_bytes(spec)),
        loops(bundle, artefact) or session.engine.device.startswith("cuda"),
    )


def _size(sample: Golden) -> int:
    return sum(array.nbytes for array in sample.inputs.values())


def _time_s(session: Session, sample: Golden) -> float:
    """The shorter of two runs: the first one pays for what is made once."""
    found = []
    for _ in range(2):
        start = time.perf_counter()
        session.run(sample.inputs)
        found.append(time.perf_counter() - start)
    return min(found)
