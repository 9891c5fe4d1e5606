"""Where a node of an ONNX file is in the user's code, by the private map beside the file."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from edgeport.deploy.kinds import kind_at

from .diagnose import Diagnosis
from .places import Line


def origins_in(debug_map: str | None) -> list[dict[str, Any]]:
    """The nodes of a map, as ``NodeOrigin`` writes them; none without a map."""
    found: list[dict[str, Any]] = json.loads(debug_map)["nodes"] if debug_map else []
    return found


def placed(
    found: Diagnosis, node: str | None, origins: Iterable[dict[str, Any]], module: nn.Module
) -> Diagnosis:
    """A diagnosis with the layer and the line of a node, as far as they are known."""
    origin = next((each for each in origins if each["node"] == node), None)
    if origin is None:
        return found
    return replace(found, layer=_layer(module, origin["module"]), source=_line(origin["source"]))


def _layer(module: nn.Module, path: str | None) -> str | None:
    if path is None:
        return None
    kind = kind_at(module, path)
    return f"{path} ({kind})" if path else kind


def _line(source: str | None) -> str | None:
    if source is None:
        return None
    file, _, number = source.rpartition(":")
    return str(Line(file, int(number)))
