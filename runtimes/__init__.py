"""The device side: open, run, verify, benchmark, serve. Needs numpy and one engine.

Examples:
    >>> from edgeport import runtimes
    >>> with runtimes.open("digits.edge") as session:        # doctest: +SKIP
    ...     logits = session.run({"image": image})["logits"]
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.bundles.bundle import (
    open_session as open,  # the verb users expect, as in gzip.open
)

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
    LostGpuError,
    MissingFileError,
    OutOfMemoryError,
    OverloadedError,
    ParityError,
    PlaceError,
    SignatureError,
    SourceError,
    StorageError,
    UnavailableError,
    UnknownModelError,
    UsageError,
    ValuesError,
)
from .session import Availability, EngineInfo, Options, Session, probe
from .signature import Range, Signature, TensorSpec

if _TYPE_CHECKING:
    from edgeport.runtimes.parity.report import Report
    from edgeport.runtimes.parity.verification import verify

    from .predictor import Prediction, Predictor, open_predictor

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
    "LostGpuError",
    "MissingFileError",
    "Options",
    "OutOfMemoryError",
    "OverloadedError",
    "ParityError",
    "PlaceError",
    "Prediction",
    "Predictor",
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
    "ValuesError",
    "open",
    "open_predictor",
    "probe",
    "verify",
]


_LATER = {  # PEP 562: who only runs a model never loads these
    "Prediction": "predictor",
    "Predictor": "predictor",
    "Report": "parity.report",
    "open_predictor": "predictor",
    "verify": "parity.verification",
}


def __getattr__(name: str) -> object:
    if name in _LATER:
        from importlib import import_module

        found: object = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
