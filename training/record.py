"""``run.json``: what a run says of itself. Plain JSON, checked key by key."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from edgeport.runtimes.errors import EdgeportError, FormatError
from edgeport.runtimes.formats.records import from_json
from edgeport.runtimes.formats.strict_json import parse
from edgeport.training.data import Origin
from edgeport.training.fitting import Epoch, History, Norms, Settings

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Record:
    """All of a run but its arrays.

    Attributes:
        model: A key of ``edgeport.training.models.MODELS``.
        hyperparameters: What it was made with: plain JSON.
        origin: The data.
        history: The training.
        scores: What was measured on held-out examples at the end, by name.
        versions: Of what it ran on.
    """

    model: str
    hyperparameters: Mapping[str, Any]
    origin: Origin
    history: History
    scores: Mapping[str, float]
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
            "training": {
                "objective": self.history.objective,
                "metric": self.history.metric,
                "warnings": self.history.warnings,
                "stopped_early": self.history.stopped_early,
                "device": self.history.device,
            },
            "scores": dict(self.scores),
            "epochs": [asdict(epoch) for epoch in epochs],
            "norms": [asdict(norms) for norms in self.history.norms],
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
            value = parse(text)
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
                hyperparameters=dict(model["hyperparameters"].items()),
                origin=from_json(Origin, value["data"], "data"),
                history=_history(value),
                scores=from_json(dict[str, float], value["scores"], "scores"),
                versions=from_json(dict[str, str], value["versions"], "versions"),
            )
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise FormatError(
                f"{file} is not the record of a run: {_detail(e)}",
                remedy="don't edit it; train again, or copy the whole run again",
            ) from e


def _history(value: Mapping[str, Any]) -> History:
    """A run that names no device and no TF32 is one from when there was the CPU alone."""
    epochs = from_json(tuple[Epoch, ...], value["epochs"], "epochs")
    training = value["training"]
    history = History(
        settings=from_json(Settings, {"tf32": False, **value["settings"]}, "settings"),
        objective=from_json(str, training["objective"], "objective"),
        metric=from_json(str, training["metric"], "metric"),
        epochs=epochs,
        norms=from_json(tuple[Norms, ...], value["norms"], "norms"),
        warnings=from_json(tuple[str, ...], training["warnings"], "warnings"),
        stopped_early=from_json(bool, training["stopped_early"], "stopped_early"),
        device=from_json(str, training.get("device", "cpu"), "device"),
    )
    done, asked = len(epochs), history.settings.epochs
    _require(1 <= done <= asked, f"it has {done} epochs of {asked}")
    numbers = [epoch.number for epoch in epochs]
    _require(numbers == list(range(1, done + 1)), f"its epochs are numbered {numbers}")
    said = (value["epochs_done"], value["completed"])
    _require(said == (done, history.completed), f"epochs_done, completed are {said}")
    return history


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _detail(error: Exception) -> str:
    if isinstance(error, EdgeportError):
        return error.problem
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
