"""Write a script that runs a bundle's model with numpy and one engine, and without edgeport.

The script is ``infer.py`` beside this file, a module like any other, with what is known of the
model filled in between its marks; ``infer_torch.py`` has the engine for a bundle without ONNX.
"""

import pprint
from pathlib import Path
from typing import Final

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.errors import UsageError
from edgeport.runtimes.files import parents, refuse_existing, write

from .bars import bars
from .template import block, filled, template

_ENGINES: Final = {"onnx": "infer.py", "torchscript": "infer_torch.py"}
"""Format -> the file whose engine opens it; the first that a bundle holds is taken."""


def write_script(bundle: Bundle, path: Path) -> Artefact:
    """Write a Python script that runs the model and can repeat the golden samples.

    Args:
        bundle: Its files are checked first. The script finds it beside itself, under its name.
        path: The script, which must not exist.

    Returns:
        The artefact that the script opens.

    Raises:
        UsageError: The bundle holds neither ONNX nor TorchScript.
        ExistingFileError: ``path`` exists.
        MissingFileError: A file of the bundle is not there.
        IntegrityError: A file is not the one that was packed.
        FormatError: The golden samples are damaged.
        StorageError: ``path`` cannot be written.
    """
    refuse_existing(path)
    artefact = _artefact(bundle)
    bundle.check_files()
    script = template("infer.py")
    if artefact.format != "onnx":
        script = filled(script, "engine", block(template(_ENGINES[artefact.format]), "engine"))
    script = filled(script, "model", _model(bundle, artefact))
    with parents(path):
        write(path, script)
    return artefact


def _artefact(bundle: Bundle) -> Artefact:
    held = {artefact.format: artefact for artefact in bundle.manifest.artefacts}
    for format_ in _ENGINES:
        if format_ in held:
            return held[format_]
    raise UsageError(
        f"{bundle.path} holds {', '.join(held)}, and a script opens {' or '.join(_ENGINES)}",
        remedy="export the model with --format onnx",
    )


def _model(bundle: Bundle, artefact: Artefact) -> str:
    """Constants in Python's own spelling, whatever characters are in a name."""
    manifest, signature = bundle.manifest, bundle.manifest.signature
    named = (*signature.dimensions, *signature.sums)
    ranges = {name: signature.range_of(name) for name in named}
    every, medians = bars(
        bundle.golden(), manifest.thresholds, manifest.reduced_precision(artefact)
    )
    constants: dict[str, object] = {
        "BUNDLE": bundle.path.resolve().name,
        "FILES": {stored.file: stored.sha256 for stored in artefact.files},
        "INPUTS": {spec.name: (spec.dtype, spec.shape) for spec in signature.inputs},
        "OUTPUTS": tuple(spec.name for spec in signature.outputs),
        "RANGES": {name: (r.min, r.largest, r.step) for name, r in ranges.items()},
        "SUMS": {n: (dict(each.factors), each.constant) for n, each in signature.sums.items()},
        "GOLDEN": (manifest.golden.file, manifest.golden.sha256),
        "BARS": [
            (label, {name: (bar.reference, bar.rms, bar.largest) for name, bar in found.items()})
            for (label, _), found in zip(manifest.samples, every, strict=True)
        ],
        "MEDIANS": {name: (bar.share, bar.samples) for name, bar in medians.items()},
    }
    lines = [
        f"{name} = {pprint.pformat(value, width=92, sort_dicts=False)}\n"
        for name, value in constants.items()
    ]
    return "".join(lines)
