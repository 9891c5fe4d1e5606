"""The device side: open, run, verify, benchmark, serve. Needs numpy and one engine.

Examples:
    >>> from edgeport import runtimes
    >>> with runtimes.open("digits.edge") as session:        # doctest: +SKIP
    ...     logits = session.run({"image": image})["logits"]
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from .bundle import Bundle
from .bundle import open_session as open  # the verb users expect, as in gzip.open
from .errors import (
    BackendMissingError,
    ContractError,
    DeadlineError,
    EdgeportError,
    EngineError,
    ExistingFileError,
    ExportError,
    ForbiddenError,
    FormatError,
    InputError,
    IntegrityError,
    MissingFileError,
    OverloadedError,
    ParityError,
    PlaceError,
    SignatureError,
    SourceError,
    StorageError,
    UnavailableError,
    UnknownModelError,
    UsageError,
)
from .session import Availability, EngineInfo, Options, Session, probe
from .signature import Range, Signature, TensorSpec

if _TYPE_CHECKING:
    from .report import Report
    from .verification import verify

__all__ = [
    "Availability",
    "BackendMissingError",
    "Bundle",
    "ContractError",
    "DeadlineError",
    "EdgeportError",
    "EngineError",
    "EngineInfo",
    "ExistingFileError",
    "ExportError",
    "ForbiddenError",
    "FormatError",
    "InputError",
    "IntegrityError",
    "MissingFileError",
    "Options",
    "OverloadedError",
    "ParityError",
    "PlaceError",
    "Range",
    "Report",
    "Session",
    "Signature",
    "SignatureError",
    "SourceError",
    "StorageError",
    "TensorSpec",
    "UnavailableError",
    "UnknownModelError",
    "UsageError",
    "open",
    "probe",
    "verify",
]


def __getattr__(name: str) -> object:  # PEP 562: who only runs a model never loads these
    if name == "Report":
        from .report import Report

        return Report
    if name == "verify":
        from .verification import verify

        return verify
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
