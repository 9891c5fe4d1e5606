"""The manifest of a bundle: what is in it, with hashes. Plain JSON, checked key by key.

``manifest.schema.json`` beside this file is the published schema.
"""

import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final, Literal, get_args

from .errors import EdgeportError, FormatError
from .session import FORMATS
from .signature import Signature
from .strict_json import expect, fields, parse
from .thresholds import REDUCED, Precision, Thresholds

SCHEMA_VERSION: Final = 2
"""Version 1 has no thresholds per output and precision; it is read with the defaults."""

Kind = Literal["real", "random", "edge", "search"]
"""Where the values of a golden sample come from; ``search``: looked for, to be as bad as can be."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_FILE: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
"""No root, drive, backslash, hidden or parent folder: nothing that leads out of the bundle."""

_LONGEST_FILE: Final = 200

_DAMAGED: Final = "copy the whole bundle again, or export the model again"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the bundle, by name relative to it."""

    file: str
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        if not _FILE.fullmatch(self.file) or len(self.file) > _LONGEST_FILE:
            raise FormatError(
                f"{reprlib.repr(self.file)} is not the name of a file inside a bundle",
                remedy="use ASCII letters, digits, '_', '-', '.', and '/' between folders",
            )
        if not re.fullmatch("[0-9a-f]{64}", self.sha256) or self.size_bytes < 0:
            raise FormatError(f"{self.file} has no sha256 or size", remedy=_DAMAGED)


@dataclass(frozen=True, slots=True)
class Artefact:
    """One compiled file.

    Attributes:
        format: A key of ``FORMATS``.
        precision: The dtype of its first output of floats.
        stored: Where it is.
        details: What the compiler reports: opset, IR version.
        external: Files that its engine reads besides: the weights of a large ONNX model.
    """

    format: str
    precision: str
    stored: StoredFile
    details: Mapping[str, int | str] = field(default_factory=dict)
    external: tuple[StoredFile, ...] = ()

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Every file that its engine reads."""
        return (self.stored, *self.external)


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
    """

    name: str
    signature: Signature
    artefacts: tuple[Artefact, ...]
    golden: StoredFile
    samples: tuple[tuple[str, Kind], ...]
    thresholds: Thresholds
    producer: Mapping[str, str]
    gap: str | None = None

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
        return (*(stored for artefact in self.artefacts for stored in artefact.files), self.golden)

    def reduced_precision(self, artefact: Artefact) -> Precision | None:
        """The precision of an artefact, where it is narrower than the module's."""
        if artefact.precision != self.signature.precision:
            for narrow in REDUCED:
                if artefact.precision == narrow:
                    return narrow
        return None

    def dumps(self) -> str:
        """Write JSON, indented for people."""
        value = {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "signature": self.signature.to_json(),
            "artefacts": [
                {
                    "format": artefact.format,
                    "precision": artefact.precision,
                    **asdict(artefact.stored),
                    "details": dict(artefact.details),
                    "external": list(map(asdict, artefact.external)),
                }
                for artefact in self.artefacts
            ],
            "golden": {
                **asdict(self.golden),
                "samples": [{"name": name, "kind": kind} for name, kind in self.samples],
                **({} if self.gap is None else {"gap": self.gap}),
            },
            "thresholds": self.thresholds.to_json(),
            "producer": dict(self.producer),
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


def _manifest(value: object) -> Manifest:
    version = expect(int, expect(dict, value, "it").get("schema_version"), "schema_version")
    if version not in (1, SCHEMA_VERSION):
        raise FormatError(
            f"it has schema version {version}, this edgeport reads 1 and {SCHEMA_VERSION}",
            remedy="pip install --upgrade edgeport" if version > SCHEMA_VERSION else _DAMAGED,
        )
    _, name, signature, artefacts, golden, thresholds, producer = fields(
        value,
        "schema_version",
        "name",
        "signature",
        "artefacts",
        "golden",
        "thresholds",
        "producer",
    )
    told = dict(expect(dict, golden, "golden"))
    gap = told.pop("gap", None)
    *stored, samples = fields(told, "file", "sha256", "size_bytes", "samples")
    return Manifest(
        name=expect(str, name, "the name"),
        signature=Signature.from_json(signature),
        artefacts=tuple(map(_artefact, expect(list, artefacts, "artefacts"))),
        golden=_stored(*stored),
        samples=tuple(map(_sample, expect(list, samples, "samples"))),
        thresholds=_thresholds_1(thresholds) if version == 1 else Thresholds.from_json(thresholds),
        producer={
            key: expect(str, text, "a version")
            for key, text in expect(dict, producer, "producer").items()
        },
        gap=None if gap is None else expect(str, gap, "the gap"),
    )


def _artefact(value: object) -> Artefact:
    format_, precision, *stored, details, external = fields(
        value, "format", "precision", "file", "sha256", "size_bytes", "details", "external"
    )
    if expect(str, format_, "a format") not in FORMATS:
        raise ValueError(f"the artefact format {reprlib.repr(format_)} is unknown")
    for detail in expect(dict, details, "details").values():
        if type(detail) not in (int, str):
            raise ValueError(f"a detail is {reprlib.repr(detail)}, expected an integer or a string")
    return Artefact(
        format_,
        expect(str, precision, "a precision"),
        _stored(*stored),
        details,
        tuple(
            _stored(*fields(each, "file", "sha256", "size_bytes"))
            for each in expect(list, external, "external")
        ),
    )


def _stored(file: object, sha256: object, size_bytes: object) -> StoredFile:
    return StoredFile(
        expect(str, file, "a file"),
        expect(str, sha256, "a sha256"),
        expect(int, size_bytes, "size_bytes"),
    )


def _sample(value: object) -> tuple[str, Kind]:
    name, kind = fields(value, "name", "kind")
    if kind not in KINDS:
        raise ValueError(f"the sample kind {reprlib.repr(kind)} is unknown")
    return expect(str, name, "a sample's name"), kind


def _thresholds_1(value: object) -> Thresholds:
    max_ratio, constant_outputs = fields(value, "max_ratio", "constant_outputs")
    now = Thresholds().to_json()
    return Thresholds.from_json(
        {**now, "max_ratio": max_ratio, "constant_outputs": constant_outputs}
    )
