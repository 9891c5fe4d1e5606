"""A model behind a URL: the golden samples are repeated through whatever serves it.

Open Inference Protocol v2 over HTTP with JSON, with the standard library alone. Servers differ in
what they call tensors and in tensors without axes, so the server's own description decides.
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

import http.client
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import numpy as np

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.errors import (
    BackendMissingError,
    ContractError,
    EdgeportError,
    EngineError,
    UsageError,
)
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.session import Closes, EngineInfo
from edgeport.runtimes.signature import Signature, TensorSpec

from .report import BackendReport, Report
from .thresholds import Precision, Thresholds
from .verification import check_session, output_facts, proving_samples

LARGEST_ANSWER_BYTES: Final = 2**30

ANSWER_S: Final = 60.0
"""How long a server may take for one answer, unless somebody says otherwise."""

_DATATYPES: Final[Mapping[str, str]] = {  # numpy's name -> the protocol's
    "bool": "BOOL",
    **{f"{kind}int{b}": f"{kind.upper()}INT{b}" for kind in ("", "u") for b in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}

_NUMBERS: Final = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float)}
"""Kind of dtype -> what a number of it is in JSON."""


def verify_endpoint(
    bundle: Bundle, url: str, thresholds: Thresholds | None = None, answer_s: float = ANSWER_S
) -> Report:
    """Repeat a bundle's golden samples through a server, and judge them by the parity rule.

    Args:
        bundle: Where the samples are.
        url: ``http://host:port``, or ``http://host:port/v2/models/NAME`` if the server has the
            model under another name than the bundle.
        thresholds: Where a verdict turns; ``None`` for what the bundle holds.
        answer_s: How long one answer may take.

    Raises:
        UsageError: It is no such URL, the server has no such model, the bundle no samples, or a
            threshold is for an output that is not there.
        BackendMissingError: Nothing answers there.
        ContractError: The server's model takes or gives other tensors.
        EngineError: What answers there does not speak the protocol.
        MissingFileError: The file of the golden samples is not there.
        IntegrityError: It is not the file that was packed.
        FormatError: It is damaged.
    """
    manifest, samples = bundle.manifest, proving_samples(bundle)
    thresholds = thresholds or manifest.thresholds
    thresholds.check_outputs([spec.name for spec in manifest.signature.outputs])
    session = Endpoint(url, manifest.name, manifest.signature, answer_s)
    facts = output_facts(samples)
    precisions: list[Precision | None] = [
        manifest.reduced_precision(artefact) for artefact in manifest.artefacts
    ]
    reduced = precisions[0] if len(set(precisions)) == 1 else None  # or nobody knows which
    report = BackendReport(
        session.engine.backend, session.path, "pass", reduced=reduced, engine=session.engine
    )
    try:
        verdicts = check_session(session, samples, thresholds, reduced)
        report = replace(report, verdicts=verdicts).judged(facts, thresholds)
    except EdgeportError as e:
        report = replace(report, outcome="fail", reason=e.problem, remedy=e.remedy)
    return Report(manifest.name, len(samples), thresholds, (report,), facts)


@dataclass(frozen=True, slots=True)
class _Remote:
    """A tensor as the server knows it.

    Attributes:
        ours: As the bundle's signature knows it.
        name: The server's name.
        padded: Whether the server has one more axis, of size 1, at the end.
    """

    ours: TensorSpec
    name: str
    padded: bool


class Endpoint(Closes):
    """A session whose engine is somewhere else. Safe to share between threads."""

    def __init__(
        self, url: str, name: str, signature: Signature, answer_s: float = ANSWER_S
    ) -> None:
        """Ask the server what it has.

        Args:
            url: As for ``verify_endpoint``.
            name: The model's, where the URL has none.
            signature: What the model takes and gives.
            answer_s: How long one answer may take.

        Raises:
            UsageError: It is no such URL, or the server has no such model.
            BackendMissingError: Nothing answers there.
            ContractError: The server's model takes or gives other tensors.
            EngineError: What answers there does not speak the protocol.
        """
        self._server, base, self.path = _parse(url, name)
        self.signature = signature
        self._answer_s = answer_s
        described = self._ask("GET", self.path)
        self._inputs = _match(signature.inputs, described, "inputs", self.path)
        self._outputs = _match(signature.outputs, described, "outputs", self.path)
        server = self._ask("GET", f"{base}/v2")
        self.engine = EngineInfo(
            backend=self._server.netloc,
            engine=str(server.get("name", "unknown")),
            version=str(server.get("version", "unknown")),
            provider=str(described.get("platform", "unknown")),
            device="remote",
            precision=signature.precision,
            threads=0,
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Ask the server for every output.

        Raises:
            EngineError: It refused, failed, or answered something else.
            BackendMissingError: It is gone.
        """
        request = {
            "inputs": [_tensor(remote, inputs[remote.ours.name]) for remote in self._inputs],
            "outputs": [{"name": remote.name} for remote in self._outputs],
        }
        answer = self._ask("POST", f"{self.path}/infer", json.dumps(request).encode())
        tensors = {entry.get("name"): entry for entry in _objects(answer, "outputs")}
        found = {}
        for remote in self._outputs:
            if remote.name not in tensors:
                raise _surprise(f"the answer has no output {remote.name!r}")
            found[remote.ours.name] = _array(remote, tensors[remote.name])
        return found

    def close(self) -> None:
        """Nothing is held open."""

    def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        where = f"{self._server.scheme}://{self._server.netloc}"
        secure = self._server.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._server.hostname or "", self._server.port, timeout=self._answer_s)
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = response.read(LARGEST_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as e:
            if isinstance(e, http.client.BadStatusLine) and not isinstance(e, OSError):
                raise EngineError(
                    f"what answers at {where} does not speak HTTP",
                    remedy="pass the port for HTTP; that for gRPC is another",
                ) from e
            if isinstance(e, TimeoutError):
                raise BackendMissingError(
                    f"no answer from {where} within {self._answer_s:g} s",
                    remedy="see what the server does; a slow model: --time-limit SECONDS",
                ) from e
            raise BackendMissingError(
                f"no answer from {where}: {e or type(e).__name__}",
                remedy="start the server, and check host and port",
            ) from e
        finally:
            connection.close()
        if len(data) > LARGEST_ANSWER_BYTES:
            raise _surprise(f"the answer is longer than {LARGEST_ANSWER_BYTES} bytes")
        if response.status == 404 and method == "GET":
            raise UsageError(
                f"{where}{path} is not there: {_error_text(data).partition('; fix: ')[0]}",
                remedy="name the model in the address: --url URL/v2/models/NAME",
            )
        if response.status != 200:
            raise EngineError(
                f"{where}{path} answered {response.status}: {_error_text(data)}",
                remedy="read the server's log",
            )
        return _json(data)


def _parse(url: str, name: str) -> tuple[SplitResult, str, str]:
    """The server, what its paths begin with, and the path of the model."""
    try:
        server = urlsplit(url)
        (server.hostname or "").encode("idna")
        known = server.scheme in ("http", "https") and server.hostname and server.port != 0
    except ValueError:  # a port that is no number, a part of a name that is too long
        server, known = SplitResult("", "", "", "", ""), False
    if not known or server.query or server.fragment or re.search(r"[@\s]", server.netloc):
        raise UsageError(
            f"{url!r} is no address of a server", remedy="pass http://host:port[/v2/models/NAME]"
        )
    path = _quoted(server.path, "/%").rstrip("/").removesuffix("/infer")
    match = re.fullmatch(r"(.*)/v2/models/[^/]+(/versions/[^/]+)?", path)
    if match:
        return server, match[1], path
    base = path.removesuffix("/v2")
    return server, base, f"{base}/v2/models/{_quoted(name, '')}"


def _quoted(name: str, safe: str) -> str:
    from urllib.parse import quote

    return quote(name, safe=safe)


def _match(
    specs: Sequence[TensorSpec], described: Mapping[str, Any], side: str, path: str
) -> list[_Remote]:
    """Pair the bundle's tensors with the server's: by name, or by the number behind ``__``."""
    entries = {str(entry.get("name")): entry for entry in _objects(described, side)}
    by_name = {spec.name for spec in specs} == set(entries)
    places = {
        int(name.rpartition("__")[2]): name for name in entries if re.search(r"__\d{1,9}$", name)
    }
    if (not by_name and sorted(places) != list(range(len(specs)))) or len(entries) != len(specs):
        raise ContractError(
            f"the server's {unquote(path)} has the {side} {', '.join(entries) or '(none)'}, "
            f"the bundle has {', '.join(spec.name for spec in specs) or '(none)'}",
            remedy="serve this bundle there, or pass the address of its model to --url",
        )
    found = []
    for place, spec in enumerate(specs):
        name = spec.name if by_name else places[place]
        datatype, shape = entries[name].get("datatype"), entries[name].get("shape")
        rank = len(shape) if isinstance(shape, list) else -1
        padded = rank == len(spec.shape) + 1 and isinstance(shape, list) and shape[-1] == 1
        if datatype != _DATATYPES[spec.dtype] or not (padded or rank == len(spec.shape)):
            raise ContractError(
                f"the server's {unquote(path)} has {name!r} as {datatype}{shape}, the bundle has "
                f"{spec}",
                remedy="serve this bundle there, or pass the address of its model to --url",
            )
        found.append(_Remote(spec, name, padded))
    return found


def _tensor(remote: _Remote, array: Array) -> dict[str, Any]:
    return {
        "name": remote.name,
        "datatype": _DATATYPES[remote.ours.dtype],
        "shape": [*array.shape, 1] if remote.padded else list(array.shape),
        "data": array.ravel().tolist(),
    }


def _array(remote: _Remote, entry: Mapping[str, Any]) -> Array:
    """The numbers of an output; whether its shape is right, parity judges."""
    shape, dtype = entry.get("shape"), np.dtype(remote.ours.dtype)
    if entry.get("datatype") != _DATATYPES[remote.ours.dtype]:
        raise _surprise(f"output {remote.name!r} is {entry.get('datatype')}, not {remote.ours}")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise _surprise(f"output {remote.name!r} has the shape {shape}")
    numbers = list(_flat(entry.get("data")))
    wrong = next((n for n in numbers if type(n) not in _NUMBERS[dtype.kind]), None)
    if wrong is not None or None in numbers:
        raise _surprise(f"output {remote.name!r} holds {wrong!r}, expected {dtype}")
    try:
        array = np.array(numbers, dtype).reshape(shape)
    except (ValueError, OverflowError) as e:
        raise _surprise(f"output {remote.name!r}: {e}") from e
    return array.reshape(shape[:-1]) if remote.padded and shape[-1:] == [1] else array


def _flat(data: object) -> Iterator[object]:
    """Numbers in row-major order, however they are nested."""
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(reversed(value))
        else:
            yield value


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise _surprise("the answer is not JSON") from e
    if not isinstance(value, dict):
        raise _surprise("the answer is no JSON object")
    return value


def _objects(value: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = value.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _surprise(f"the answer has no list of {key}")
    return entries


def _error_text(data: bytes) -> str:
    try:
        return str(_json(data)["error"])
    except (EngineError, KeyError):
        return data[:200].decode("utf-8", "replace").strip() or "nothing"


def _surprise(problem: str) -> EngineError:
    return EngineError(
        problem, remedy="check that the server speaks the Open Inference Protocol v2 with JSON"
    )
