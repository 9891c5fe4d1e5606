"""The device side: open, run, verify, benchmark, serve. Needs numpy and one engine.

Examples:
    >>> from edgeport import runtimes
    >>> with runtimes.open("digits.edge") as session:        # doctest: +SKIP
    ...     logits = session.run({"image": image})["logits"]
"""

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
    SourceError,
    StorageError,
    UsageError,
)
from .session import Availability, EngineInfo, Options, Session, probe
from .signature import Range, Signature, TensorSpec
from .verify import Report, verify

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
    "SourceError",
    "StorageError",
    "TensorSpec",
    "UsageError",
    "open",
    "probe",
    "verify",
]
