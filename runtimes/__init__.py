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
    EdgeportError,
    EngineError,
    ExistingFileError,
    ExportError,
    FormatError,
    InputError,
    IntegrityError,
    MissingFileError,
    ParityError,
    SignatureError,
    SourceError,
    StorageError,
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
    "EdgeportError",
    "EngineError",
    "EngineInfo",
    "ExistingFileError",
    "ExportError",
    "FormatError",
    "InputError",
    "IntegrityError",
    "MissingFileError",
    "Options",
    "ParityError",
    "Range",
    "Report",
    "Session",
    "Signature",
    "SignatureError",
    "SourceError",
    "StorageError",
    "TensorSpec",
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
