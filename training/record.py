"""``run.json``: what a run says of itself. Plain JSON, checked key by key."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar, get_type_hints

from edgeport.runtimes.errors import EdgeportError, FormatError

from .datasets import Origin, Split
from .history import Epoch, History, Settings

SCHEMA_VERSION: Final = 1

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Record:
    """All of a run but its arrays.

    Attributes:
        model: A key of ``edgeport.training.run.MODELS``.
        hyperparameters: What its class was made with.
        origin: The data.
        history: The training.
        versions: Of what it ran on.
    """

    model: str
    hyperparameters: Mapping[str, int]
    origin: Origin
    history: History
    versions: Mapping[str, str]

    def dumps(self) -> str:
        """Write JSON, indented for people."""
        epochs = self.history.epochs
        value = {
            "schema_version": SCHEMA_VERSION,
            "completed": self.history.completed,
            "epochs_done": len(epochs),
            "model": {"name": self.model, "hyperparameters": dict(self.hyperparameters)},
            "data": asdict(self.origin),
            "settings": asdict(self.history.settings),
            "epochs": [asdict(epoch) for epoch in epochs],
            "versions": dict(self.versions),
        }
        return json.dumps(value, indent=2, allow_nan=False) + "\n"

    @classmethod
    def loads(cls, text: str | bytes, file: str) -> "Record":
        """Read what ``dumps`` wrote.

        Args:
            text: The JSON.
            file: What to call it in an error.

        Raises:
            FormatError: Not JSON, not a record, or of a later version of edgeport.
        """
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
            _require(isinstance(value, dict), "it is not a JSON object")
            version = value["schema_version"]
            _require(type(version) is int and version >= 1, f"schema_version is {version!r}")
            if version > SCHEMA_VERSION:
                raise FormatError(
                    f"{file} has schema version {version}, this edgeport reads {SCHEMA_VERSION}",
                    remedy="pip install --upgrade edgeport",
                )
            model = value["model"]
            return cls(
                model=str(model["name"]),
                hyperparameters=_mapping(int, model["hyperparameters"], "hyperparameters"),
                origin=_origin(value["data"]),
                history=_history(value),
                versions=_mapping(str, value["versions"], "versions"),
            )
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as e:
            raise FormatError(
                f"{file} is not the record of a run: {_detail(e)}",
                remedy="don't edit it; train again, or copy the whole run again",
            ) from e


def _origin(value: Mapping[str, Any]) -> Origin:
    split = _flat(Split, value["split"], "split")
    return _flat(Origin, {**value, "split": split}, "data")


def _history(value: Mapping[str, Any]) -> History:
    epochs = tuple(_flat(Epoch, epoch, "epochs") for epoch in value["epochs"])
    history = History(_flat(Settings, value["settings"], "settings"), epochs)
    done, asked = len(epochs), history.settings.epochs
    _require(1 <= done <= asked, f"it has {done} epochs of {asked}")
    numbers = [epoch.number for epoch in epochs]
    _require(numbers == list(range(1, done + 1)), f"its epochs are numbered {numbers}")
    said = (value["epochs_done"], value["completed"])
    _require(said == (done, history.completed), f"epochs_done, completed are {said}")
    return history


def _flat(kind: type[_T], value: Mapping[str, object], where: str) -> _T:
    """Build a dataclass from exactly its fields, each of exactly its type."""
    types = get_type_hints(kind)
    _require(set(value) == set(types), f"{where} has {sorted(value)}, expected {sorted(types)}")
    for name, expected in types.items():
        found = value[name]
        right = type(found) is expected and (not isinstance(found, float) or math.isfinite(found))
        _require(right, f"{name} in {where} is {found!r}, expected {expected.__name__}")
    return kind(**value)


def _mapping(kind: type[_T], value: Mapping[str, Any], where: str) -> dict[str, _T]:
    for name, found in value.items():
        _require(type(found) is kind, f"{name} in {where} is {found!r}, expected {kind.__name__}")
    return dict(value)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _detail(error: Exception) -> str:
    if isinstance(error, EdgeportError):
        return error.problem
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
