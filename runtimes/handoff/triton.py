"""A model in the layout of NVIDIA Triton: ``REPOSITORY/NAME/{config.pbtxt,warmup,1/model.onnx}``.

Without a ``config.pbtxt`` Triton guesses, and a guessed batch limit refuses requests, so one is
always written. The rules are those of
https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.errors import ExistingFileError, UsageError
from edgeport.runtimes.files import new_folder, refuse_existing, write, writing
from edgeport.runtimes.signature import Signature, TensorSpec
from edgeport.runtimes.sizes import names_in
from edgeport.runtimes.tensorrt.tensors import REFUSES_BY

from .pbtxt import Message, Word, dumps


@dataclass(frozen=True, slots=True)
class Layout:
    """How one backend of Triton wants a model.

    Attributes:
        backend: Its name.
        file: What the model file is called.
        device: Where the model was proved, and is to run.
        dtypes: What it takes and gives; ``None`` for all.
        positional: Whether tensors are named by their place, because the file has no names.
    """

    backend: str
    file: str
    device: str = "KIND_CPU"
    dtypes: frozenset[str] | None = None
    positional: bool = False


LAYOUTS: Final = {  # format -> layout; the first that a bundle holds is taken
    "tensorrt": Layout(
        "tensorrt", "model.plan", "KIND_GPU",
        frozenset({"bool", "uint8", "int8", "int32", "int64", "float16", "float32"}),
    ),
    "onnx": Layout("onnxruntime", "model.onnx"),
    "torchscript": Layout(
        "pytorch", "model.pt", "KIND_CPU",
        frozenset({"bool", "uint8", "int8", "int16", "int32", "int64",
                   "float16", "float32", "float64"}),
        positional=True,
    ),
}  # fmt: skip  # one layout each

_TYPES: Final = {
    "bool": "TYPE_BOOL",
    **{
        f"{kind}int{b}": f"TYPE_{kind.upper()}INT{b}" for kind in ("", "u") for b in (8, 16, 32, 64)
    },
    **{f"float{bits}": f"TYPE_FP{bits}" for bits in (16, 32, 64)},
}

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

_MOST_WARM_UPS: Final = 4


def emit(bundle: Bundle, repository: Path, format_: str | None = None) -> Path:
    """Write a model into a model repository, or its next version beside those that are there.

    Args:
        bundle: Its files are checked first.
        repository: The folder that Triton is given; it is made if it is not there.
        format_: Which artefact; ``None`` for the first in ``LAYOUTS`` that the bundle holds.

    Returns:
        The folder of the version.

    Raises:
        UsageError: The bundle holds no such artefact, or Triton could not serve the model.
        ExistingFileError: A model of that name is there and has another configuration; or a file
            is where the repository should be.
        MissingFileError: A file of the bundle is not there.
        IntegrityError: A file is not the one that was packed.
        StorageError: A file cannot be written.
    """
    with writing(repository):
        if not repository.is_dir():  # a file is in the way, but a folder is not
            refuse_existing(repository)
    name, artefact = servable(bundle, format_)
    samples = [sample for sample in bundle.golden() if sample.kind != "edge"]
    layout = LAYOUTS[artefact.format]
    config = configuration(bundle.manifest.signature, samples, name, layout)
    folder = repository / name
    with writing(folder):
        versions = _versions(folder, dumps(config))
    if versions is None:
        with new_folder(folder) as draft:
            write(draft / "config.pbtxt", dumps(config))
            _write_warm_ups(draft / "warmup", bundle.manifest.signature, samples)
            _copy(bundle, artefact, draft / "1", layout.file)
        return folder / "1"
    version = folder / str(max(versions, default=0) + 1)
    with new_folder(version) as draft:
        _copy(bundle, artefact, draft, layout.file)
    return version


def servable(bundle: Bundle, format_: str | None = None) -> tuple[str, Artefact]:
    """The name of a model in a repository, and the artefact that lies there.

    Raises:
        UsageError: The bundle holds no such artefact, or Triton takes no such name.
    """
    return _name(bundle), _artefact(bundle, format_)


def configuration(
    signature: Signature, samples: Sequence[Golden], name: str, layout: Layout
) -> Message:
    """What ``config.pbtxt`` says: a ``ModelConfig`` of Triton.

    Args:
        signature: Inputs and outputs.
        samples: Real or random ones, for warming up; and the largest batch that was proved.
        name: The model's.
        layout: One of ``LAYOUTS``.

    Raises:
        UsageError: Triton could not serve the model.
    """
    batch = max_batch_size(signature, samples)
    config: Message = {
        "name": name,
        "backend": layout.backend,
        "default_model_filename": layout.file,
        "max_batch_size": batch,
        "input": _tensors(signature.inputs, "INPUT", layout, batched=batch > 0),
        "output": _tensors(signature.outputs, "OUTPUT", layout, batched=batch > 0),
        "instance_group": [{"count": 1, "kind": Word(layout.device)}],
    }
    if batch:
        config["dynamic_batching"] = {}
    config["model_warmup"] = [
        {
            "name": sample.name,
            "batch_size": 1,
            "inputs": [
                {
                    "key": tensor["name"],
                    "value": {
                        "data_type": tensor["data_type"],
                        "dims": list(sample.inputs[spec.name].shape[batch > 0 :]) or [1],
                        "input_data_file": _warm_up_file(index, place),
                    },
                }
                for place, (spec, tensor) in enumerate(
                    zip(signature.inputs, config["input"], strict=True)
                )
            ],
        }
        for index, sample in enumerate(_warm_ups(signature, samples))
    ]
    return config


def max_batch_size(signature: Signature, samples: Sequence[Golden]) -> int:
    """The most rows that Triton may put together; 0 where it must not.

    It may where one free dimension, whose size may be 1, leads every input and output and is
    nowhere else. Where no largest size is declared, it is the largest that was proved.
    """
    specs = (*signature.inputs, *signature.outputs)
    leading = {spec.shape[0] if spec.shape else None for spec in specs}
    name = leading.pop() if len(leading) == 1 else None
    inside = names_in(size for spec in specs for size in spec.shape[1:])
    if name not in signature.dimensions or name in inside:
        return 0
    if 1 not in signature.range_of(str(name)):
        return 0
    largest = signature.range_of(name).max
    first = signature.inputs[0].name
    return largest or max((sample.inputs[first].shape[0] for sample in samples), default=1) or 1


def _versions(folder: Path, config: str) -> list[int] | None:
    """Numbers of the versions that are there of a model; ``None`` if it is not."""
    if not folder.exists():
        return None
    told = folder / "config.pbtxt"
    if not told.is_file() or told.read_text("utf-8") != config:
        raise ExistingFileError(
            f"{folder} holds a model with another configuration",
            remedy="choose another repository with -o, or remove that model",
        )
    return [int(place.name) for place in folder.iterdir() if place.name.isdecimal()]


def _artefact(bundle: Bundle, format_: str | None) -> Artefact:
    held = {artefact.format: artefact for artefact in bundle.manifest.artefacts}
    wanted = LAYOUTS if format_ is None else [format_]
    for name in wanted:
        if name not in held or name not in LAYOUTS:
            continue
        if REFUSES_BY not in held[name].details:
            return held[name]
        if format_ is not None:
            told = held[name].details[REFUSES_BY]
            raise UsageError(
                f"the engine says by its output {told!r} what it refuses, for which Triton does "
                "not ask",
                remedy="emit the ONNX artefact, which refuses by itself: --format onnx",
            )
    raise UsageError(
        f"{bundle.path} holds {', '.join(held)}, Triton is to get {' or '.join(wanted)}",
        remedy=f"export the model with one of {', '.join(LAYOUTS)}",
    )


def _name(bundle: Bundle) -> str:
    name = bundle.manifest.name
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"the model is named {name!r}, and Triton takes the name for that of a folder",
            remedy="export it under a name of letters, digits, '_', '-' and '.'",
        )
    return name


def _tensors(
    specs: Sequence[TensorSpec], kind: str, layout: Layout, *, batched: bool
) -> list[Message]:
    found: list[Message] = []
    for place, spec in enumerate(specs):
        if layout.dtypes is not None and spec.dtype not in layout.dtypes:
            raise UsageError(
                f"{spec.name!r} is {spec.dtype}, which Triton's {layout.backend} backend lacks",
                remedy="emit the ONNX artefact, or cast the tensor in the module",
            )
        if 0 in spec.shape:
            raise UsageError(
                f"{spec} is always empty, and Triton takes no size of 0",
                remedy="leave that tensor out of the module",
            )
        sizes = [size if isinstance(size, int) else -1 for size in spec.shape[batched:]]
        tensor: Message = {
            "name": f"{kind}__{place}" if layout.positional else spec.name,
            "data_type": Word(_TYPES[spec.dtype]),
            "dims": sizes or [1],
        }
        if not sizes:  # Triton has no tensor without axes: clients see one of size 1
            tensor["reshape"] = {"shape": []}
        found.append(tensor)
    return found


def _warm_ups(signature: Signature, samples: Sequence[Golden]) -> list[Golden]:
    """Samples of different shapes, without those that hold nothing."""
    batched = max_batch_size(signature, samples) > 0
    found: dict[tuple[tuple[int, ...], ...], Golden] = {}
    for sample in samples:
        shapes = [sample.inputs[spec.name].shape[batched:] for spec in signature.inputs]
        if all(array.size for array in sample.inputs.values()):
            found.setdefault(tuple(shapes), sample)
    return list(found.values())[:_MOST_WARM_UPS]


def _write_warm_ups(folder: Path, signature: Signature, samples: Sequence[Golden]) -> None:
    """The first row of each sample where Triton batches, all of it where it does not; raw bytes."""
    batched = max_batch_size(signature, samples) > 0
    folder.mkdir()
    for index, sample in enumerate(_warm_ups(signature, samples)):
        for place, spec in enumerate(signature.inputs):
            array = sample.inputs[spec.name]
            data = (array[:1] if batched else array).tobytes()
            write(folder / _warm_up_file(index, place), data)


def _warm_up_file(sample: int, place: int) -> str:
    return f"sample_{sample}_input_{place}"


def _copy(bundle: Bundle, artefact: Artefact, folder: Path, name: str) -> None:
    """The model under the name that its backend looks for, its weights under their own."""
    folder.mkdir(exist_ok=True)
    with bundle.private(artefact) as path:
        write(folder / name, path.read_bytes())
        for stored in artefact.external:
            file = Path(stored.file).name
            write(folder / file, (path.parent / file).read_bytes())
