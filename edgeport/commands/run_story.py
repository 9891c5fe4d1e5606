"""``edgeport inspect runs/x``: parameters and hyperparameters of a run, kept apart."""

import contextlib
import json
from pathlib import Path
from typing import Any, Final

from edgeport.commands.terminal import plain_lines, show, table
from edgeport.runtimes.needs import needs

INSPECT_RUN_VERSION: Final = 1

_RECORD: Final = "run.json"


def is_run(path: Path) -> bool:
    """Whether a folder is a run: it needs another look than a bundle."""
    with contextlib.suppress(OSError):  # whoever reads a bundle there will say it
        return (path / _RECORD).is_file()
    return False


def inspect_run(path: Path, *, as_json: bool) -> int:
    """Load a run, and print what it is made of; no code of it is executed.

    Raises:
        BackendMissingError: torch is not installed.
        FormatError: A file of it is damaged or was edited.
        MissingFileError: A file of it is missing.
    """
    found = look(path)
    show(json.dumps(found) if as_json else plain_lines(_render(path, found)))
    return 0


def look(path: Path) -> dict[str, Any]:
    """Everything that a run says of itself, as plain values.

    Raises:
        EdgeportError: As ``inspect_run``.
    """
    with needs("a run", "train"):
        from edgeport.training import load
    run = load(path)
    record = json.loads((path / _RECORD).read_bytes())
    trained = {name for name, p in run.module.named_parameters()}
    parameters = [
        {
            "name": name,
            "kind": "parameter" if name in trained else "buffer",
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "norm": float(tensor.double().norm()),
        }
        for name, tensor in run.module.state_dict().items()
    ]
    return {
        "inspect_run_version": INSPECT_RUN_VERSION,
        "parameters": parameters,
        "parameter_count": run.parameters,
        "hyperparameters": {
            "model": record["model"],
            "training": record["settings"],
        },
        "data": record["data"],
        "scores": record["scores"],
        "completed": record["completed"],
        "epochs_done": record["epochs_done"],
        "warnings": record["training"]["warnings"],
        "versions": record["versions"],
    }


def _render(path: Path, found: dict[str, Any]) -> str:
    data, asked = found["data"], found["hyperparameters"]
    weights = [
        [p["name"], p["kind"], f"{p['dtype']}{p['shape']}", f"{p['norm']:.4g}"]
        for p in found["parameters"]
    ]
    hyperparameters = [
        *(["model", "name", asked["model"]["name"]],),
        *(["model", name, _text(v)] for name, v in asked["model"]["hyperparameters"].items()),
        *(["training", name, _text(v)] for name, v in asked["training"].items()),
    ]
    scores = "  ".join(f"{name} {value:.6g}" for name, value in found["scores"].items())
    state = "" if found["completed"] else f"  interrupted after {found['epochs_done']} epochs"
    return "\n".join(
        [
            f"{path}  {asked['model']['name']} on {data['name']}, {data['examples']:,} examples, "
            f"sha256 {data['sha256'][:12]}{state}",
            f"scores  {scores}",
            *(f"warning {text}" for text in found["warnings"]),
            "",
            f"parameters: {found['parameter_count']:,}, learned, in weights.safetensors",
            table(["tensor", "kind", "type", "norm"], weights, right=[3]),
            "",
            "hyperparameters: chosen, in run.json",
            table(["of", "name", "value"], hyperparameters),
        ]
    )


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
