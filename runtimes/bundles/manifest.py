"""The manifest of a bundle: what is in it, with hashes. Plain JSON, checked key by key.

``manifest.schema.json`` beside this file is the published schema.
"""

import json
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, get_args

from edgeport.runtimes.errors import EdgeportError, FormatError
from edgeport.runtimes.formats.strict_json import expect, fields, open_fields, parse
from edgeport.runtimes.parity.thresholds import Precision, Thresholds, narrower
from edgeport.runtimes.session import FORMATS
from edgeport.runtimes.signature import Signature
from edgeport.runtimes.values import dataclass, field

SCHEMA_VERSION: Final = 3
"""Version 1 has no thresholds per output and precision, no evidence and no source; version 2 no
step of a range, and is written where there is none. Keys that only describe may come without a new
version: a reader keeps what it does not know."""

Kind = Literal["real", "random", "edge", "search"]
"""Where the values of a golden sample come from; ``search``: looked for, to be as bad as can be."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

EvidenceKind = Literal["parity", "bench"]

EVIDENCE_KINDS: Final[tuple[EvidenceKind, ...]] = get_args(EvidenceKind)

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
"""Beside the manifest: who vouches for it. No hash covers either."""

FOLDER_SIGNATURE: Final = "model.sig"
"""Who vouches for the whole folder, as model-signing writes it."""

_FILE: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
"""No root, drive, backslash, hidden or parent folder: nothing that leads out of the bundle."""

_LONGEST_FILE: Final = 200

_DEEPEST: Final = 250
"""Levels of JSON: a structure of 64 takes three each. Python's writer ends somewhere above."""

_DAMAGED: Final = "copy the whole bundle again, or export the model again"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the bundle, by name relative to it.

    Attributes:
        extra: What else the manifest says of it, unknown to this version.
    """

    file: str
    sha256: str
    size_bytes: int
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_file_name(self.file)
        if self.file in (MANIFEST, SIGNATURE, FOLDER_SIGNATURE):
            raise FormatError(f"{self.file} cannot hold its own hash", remedy=_DAMAGED)
        if not re.fullmatch("[0-9a-f]{64}", self.sha256) or self.size_bytes < 0:
            raise FormatError(f"{self.file} has no sha256 or size", remedy=_DAMAGED)


def check_file_name(name: str) -> None:
    """Refuse a name that leads, or could lead, out of a bundle.

    Raises:
        FormatError: It is no name of a file inside a bundle.
    """
    if not _FILE.fullmatch(name) or len(name) > _LONGEST_FILE:
        raise FormatError(
            f"{reprlib.repr(name)} is not the name of a file inside a bundle",
            remedy="use ASCII letters, digits, '_', '-', '.', and '/' between folders",
        )


@dataclass(frozen=True, slots=True)
class Artefact:
    """One compiled file.

    Attributes:
        format: A key of ``FORMATS``.
        precision: The dtype of its first output of floats.
        stored: Where it is.
        details: What the compiler reports: opset, IR version.
        external: Files that its engine reads besides: the weights of a large ONNX model.
        proved: Whether it was compared with the module where it was made; not if it needs a GPU
            and there was none.
    """

    format: str
    precision: str
    stored: StoredFile
    details: Mapping[str, int | str] = field(default_factory=dict)
    external: tuple[StoredFile, ...] = ()
    proved: bool = True

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Every file that its engine reads."""
        return (self.stored, *self.external)

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(stored.size_bytes for stored in self.files)


_AS_THE_MODULE: Final = ("torchscript", "pt2", "aotinductor")
"""Formats that are never made narrower."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself.

    Attributes:
        name: The model's name, as a server shows it.
        signature: What goes in and comes out of every artefact.
        artefacts: One per format.
        golden: The file of golden samples.
        samples: Name and kind of each golden sample, in order.
        thresholds: What parity was judged by, and is judged by on the device.
        producer: Versions of what made it.
        gap: Why golden samples lack oracles, in a sentence; ``None`` where they have them.
        source: What it was made from: ``weights_sha256`` of the module's tensors.
        evidence: Reports of what was proved and measured, by kind.
        labels: By output: names of the classes along its last axis, where they are known. By input
            that is text: the categories that it may be.
        notes: What whoever runs it is to know beside the proof: which engine answers what the
            module refuses, where its own rounding hides faults. Sentences.
        extra: Whatever else it says, unknown to this version: kept when it is written again.
    """

    name: str
    signature: Signature
    artefacts: tuple[Artefact, ...]
    golden: StoredFile
    samples: tuple[tuple[str, Kind], ...]
    thresholds: Thresholds
    producer: Mapping[str, str]
    gap: str | None = None
    source: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[EvidenceKind, StoredFile] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (self.name, *(name for name, _ in self.samples)):
            if not name or not name.isprintable():
                raise FormatError(
                    f"the name {reprlib.repr(name)} cannot be printed", remedy="use another"
                )
        formats = [artefact.format for artefact in self.artefacts]
        if not formats or len(set(formats)) != len(formats):
            raise FormatError(
                f"the artefacts are {', '.join(formats) or 'none'}, expected one per format",
                remedy="export the model again",
            )

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Every file that has a hash."""
        artefacts = (stored for artefact in self.artefacts for stored in artefact.files)
        return (*artefacts, self.golden, *self.evidence.values())

    def reduced_precision(self, artefact: Artefact) -> Precision | None:
        """The precision of an artefact, where it is narrower than the module's.

        A module in bfloat16 answers in float32, which numpy has: what torch runs is as it is.
        """
        if artefact.format in _AS_THE_MODULE:
            return None
        return narrower(artefact.precision, self.signature.precision)

    def dumps(self) -> str:
        """Write JSON, indented for people."""
        steps = any(range_.step != 1 for range_ in self.signature.ranges.values())
        value = {
            "schema_version": SCHEMA_VERSION if steps else SCHEMA_VERSION - 1,
            "name": self.name,
            "signature": self.signature.to_json(),
            "artefacts": [
                {
                    "format": artefact.format,
                    "precision": artefact.precision,
                    **_stored_to_json(artefact.stored),
                    "details": dict(artefact.details),
                    "external": list(map(_stored_to_json, artefact.external)),
                    **({} if artefact.proved else {"proved": False}),
                }
                for artefact in self.artefacts
            ],
            "golden": {
                **_stored_to_json(self.golden),
                "samples": [{"name": name, "kind": kind} for name, kind in self.samples],
                **({} if self.gap is None else {"gap": self.gap}),
            },
            "thresholds": self.thresholds.to_json(),
            "producer": dict(self.producer),
            "source": dict(self.source),
            "evidence": {kind: _stored_to_json(file) for kind, file in self.evidence.items()},
            **({"labels": {k: list(v) for k, v in self.labels.items()}} if self.labels else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
            **self.extra,
        }
        return json.dumps(value, indent=2, allow_nan=False) + "\n"

    @classmethod
    def loads(cls, text: str | bytes, file: str) -> "Manifest":
        """Read what ``dumps`` wrote.

        Args:
            text: The JSON.
            file: What to call it in an error.

        Raises:
            FormatError: Not JSON, not a manifest, or of a later version of edgeport.
        """
        try:
            return _manifest(parse(text))
        except EdgeportError as e:  # first: most of them are ValueErrors too
            raise FormatError(f"{file}: {e.problem}", remedy=e.remedy) from e
        except ValueError as e:
            raise FormatError(f"{file} is not a manifest: {e}", remedy=_DAMAGED) from e


def _migrated(value: dict[str, Any]) -> dict[str, Any]:
    """A manifest of this version, from one of this or an earlier version."""
    version = expect(int, value.get("schema_version"), "schema_version")
    if not 1 <= version <= SCHEMA_VERSION:
        newer = version > SCHEMA_VERSION
        raise FormatError(
            f"it has schema version {version}, this edgeport reads 1 to "
            f"{SCHEMA_VERSION}{': it is too new' if newer else ''}",
            remedy="pip install --upgrade edgeport" if newer else _DAMAGED,
        )
    if version > 1:
        return value
    max_ratio, constant = fields(value.get("thresholds"), "max_ratio", "constant_outputs")
    thresholds = {**Thresholds().to_json(), "max_ratio": max_ratio, "constant_outputs": constant}
    return {**value, "thresholds": thresholds, "source": {}, "evidence": {}}


def _manifest(value: object) -> Manifest:
    known, extra = open_fields(
        _migrated(expect(dict, value, "it")),
        "schema_version",
        "name",
        "signature",
        "artefacts",
        "golden",
        "thresholds",
        "producer",
        "source",
        "evidence",
    )
    _, name, signature, artefacts, golden, thresholds, producer, source, evidence = known
    (*stored, samples), said = open_fields(golden, "file", "sha256", "size_bytes", "samples")
    gap = said.pop("gap", None)
    labels = expect(dict, extra.pop("labels", {}), "labels")
    notes = expect(list, extra.pop("notes", []), "notes")
    _check_depth(value)
    return Manifest(
        name=expect(str, name, "the name"),
        signature=Signature.from_json(signature),
        artefacts=tuple(map(_artefact, expect(list, artefacts, "artefacts"))),
        golden=_stored(stored, said),
        samples=tuple(map(_sample, expect(list, samples, "samples"))),
        thresholds=Thresholds.from_json(thresholds),
        producer=_strings(producer, "producer", "a version"),
        source=_strings(source, "source", "a fact about the source"),
        evidence={
            _evidence_kind(kind): _described(stored)
            for kind, stored in expect(dict, evidence, "evidence").items()
        },
        gap=None if gap is None else expect(str, gap, "the gap"),
        labels={
            output: tuple(expect(str, name, "a label") for name in expect(list, names, "labels"))
            for output, names in labels.items()
        },
        notes=tuple(expect(str, note, "a note") for note in notes),
        extra=extra,
    )


def _check_depth(value: object) -> None:
    """What is read must be writable again, also what is unknown."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return
    raise ValueError("it nests too deeply")


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _strings(value: object, what: str, each: str) -> dict[str, str]:
    return {key: expect(str, text, each) for key, text in expect(dict, value, what).items()}


def _evidence_kind(value: str) -> EvidenceKind:
    if value not in EVIDENCE_KINDS:
        raise ValueError(f"the evidence {reprlib.repr(value)} is unknown")
    return value


def _artefact(value: object) -> Artefact:
    (format_, precision, *stored, details, external), said = open_fields(
        value, "format", "precision", "file", "sha256", "size_bytes", "details", "external"
    )
    proved = expect(bool, said.pop("proved", True), "proved")
    if expect(str, format_, "a format") not in FORMATS:
        raise ValueError(f"the artefact format {reprlib.repr(format_)} is unknown")
    for detail in expect(dict, details, "details").values():
        if type(detail) not in (int, str):
            raise ValueError(f"a detail is {reprlib.repr(detail)}, expected an integer or a string")
    return Artefact(
        format_,
        expect(str, precision, "a precision"),
        _stored(stored, said),
        details,
        tuple(map(_described, expect(list, external, "external"))),
        proved,
    )


def _described(value: object) -> StoredFile:
    return _stored(*open_fields(value, "file", "sha256", "size_bytes"))


def _stored(values: Sequence[object], said: Mapping[str, Any]) -> StoredFile:
    file, sha256, size_bytes = values
    return StoredFile(
        expect(str, file, "a file"),
        expect(str, sha256, "a sha256"),
        expect(int, size_bytes, "size_bytes"),
        said,
    )


def _stored_to_json(stored: StoredFile) -> dict[str, Any]:
    known = {"file": stored.file, "sha256": stored.sha256, "size_bytes": stored.size_bytes}
    return {**known, **stored.extra}


def _sample(value: object) -> tuple[str, Kind]:
    name, kind = fields(value, "name", "kind")
    if kind not in KINDS:
        raise ValueError(f"the sample kind {reprlib.repr(kind)} is unknown")
    return expect(str, name, "a sample's name"), kind
