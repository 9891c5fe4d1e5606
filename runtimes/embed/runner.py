"""Write and build a C program that runs a bundle's ONNX model on a device without Python.

The program is ``runner.c`` beside this file, with what is known of the model filled in between its
marks. It is compiled here, for this machine or another; ONNX Runtime is opened when it starts.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.errors import UsageError
from edgeport.runtimes.files import hidden_folder, parents, refuse_existing, write, writing
from edgeport.runtimes.signature import Signature, TensorSpec

from .compiler import compile_c
from .template import filled, template

_MOST_AXES: Final = 32

_TYPES: Final = {  # dtype -> what numpy writes into a file, ONNXTensorElementDataType
    "float32": ("<f4", 1), "uint8": ("|u1", 2), "int8": ("|i1", 3), "uint16": ("<u2", 4),
    "int16": ("<i2", 5), "int32": ("<i4", 6), "int64": ("<i8", 7), "bool": ("|b1", 9),
    "float16": ("<f2", 10), "float64": ("<f8", 11), "uint32": ("<u4", 12), "uint64": ("<u8", 13),
}  # fmt: skip  # in the order of the enumeration


def build_runner(bundle: Bundle, path: Path, target: str | None = None) -> Path:
    """Write the source ``NAME.c`` and the program ``NAME``.

    Args:
        bundle: Its files are checked first; the program runs only the very model it holds now.
        path: The program. Neither it nor its source may exist.
        target: A key of ``compiler.TARGETS``; ``None`` for this machine.

    Returns:
        The source.

    Raises:
        UsageError: The bundle holds no ONNX, the model takes no input or has too many axes, or
            there is no such target.
        BackendMissingError: No compiler for the target is installed.
        EngineError: The compiler failed.
        ExistingFileError: The program or its source exists.
        MissingFileError: A file of the bundle is not there.
        IntegrityError: A file is not the one that was packed.
        StorageError: A file cannot be written.
    """
    refuse_existing(path)  # a folder too, such as ".", which has no name
    source = path.with_name(f"{path.name}.c")
    refuse_existing(source)
    text = source_of(bundle, path.name)
    with parents(path), hidden_folder(path) as folder:
        draft, built = folder / "runner.c", folder / "runner"
        with writing(source):
            draft.write_text(text, "ascii")
        with writing(path):
            compiled = compile_c(draft, built, target)
        write(source, text)
        try:
            write(path, compiled)
        except BaseException:  # a source alone would be in the way of the next try
            source.unlink(missing_ok=True)
            raise
    path.chmod(0o755)
    return source


def source_of(bundle: Bundle, program: str) -> str:
    """The C source for a bundle, in ASCII.

    Raises:
        UsageError: The bundle holds no ONNX, or the model takes no input or has too many axes.
        MissingFileError: A file of the bundle is not there.
        IntegrityError: A file is not the one that was packed.
    """
    artefact, signature = bundle.artefact("ort-cpu"), bundle.manifest.signature
    _refuse_unfit(signature)
    bundle.check_files()
    folder = artefact.stored.file.rpartition("/")[0]
    names = [stored.file.removeprefix(f"{folder}/") for stored in artefact.files]
    hashes = [stored.sha256 for stored in artefact.files]
    limits = [
        f"{{{_string(name)}, {r.min}, {r.largest}, {r.step}}}"
        for name in _dimensions(signature)
        for r in [signature.range_of(name)]
    ]
    pairs = [f"{{{_string(n)}, {_string(h)}}}" for n, h in zip(names, hashes, strict=True)]
    lines = [
        f"static const char program[] = {_string(program)};\n",
        _table("Dimension", "dimensions", limits or ['{"", 0, 0, 1}']),
        _table("Term", "terms", list(_terms(signature)) or ["{-1, -1, 0}"]),
        _table("Spec", "inputs", [_spec(spec, signature) for spec in signature.inputs]),
        _table("Spec", "outputs", [_spec(spec, signature) for spec in signature.outputs]),
        _table("StoredFile", "files", pairs),
    ]
    return filled(template("runner.c"), "model", "".join(lines))


def _refuse_unfit(signature: Signature) -> None:
    if not signature.inputs:
        raise UsageError(
            "the model takes no input, so there is nothing to run it on",
            remedy="export a module whose forward takes a tensor",
        )
    for spec in (*signature.inputs, *signature.outputs):
        if len(spec.shape) > _MOST_AXES:
            raise UsageError(
                f"{spec.name!r} has {len(spec.shape)} axes, the program can read {_MOST_AXES}",
                remedy="reshape it in the module, and export it again",
            )
    files = [spec.name.replace("/", "_") for spec in signature.outputs]
    if len(set(files)) < len(files):
        raise UsageError(
            f"two outputs would be written to one file: {', '.join(files)}",
            remedy="export the model with other output names",
        )


def _dimensions(signature: Signature) -> list[str]:
    specs = (*signature.inputs, *signature.outputs)
    return list(dict.fromkeys(s for spec in specs for s in spec.shape if isinstance(s, str)))


def _terms(signature: Signature) -> Iterator[str]:
    places = {name: place for place, name in enumerate(_dimensions(signature))}
    for name, follows in signature.sums.items():
        for each, factor in follows.factors.items():
            yield f"{{{places[name]}, {places[each]}, {factor}}}"
        yield f"{{{places[name]}, -1, {follows.constant}}}"


def _spec(spec: TensorSpec, signature: Signature) -> str:
    places = {name: -1 - place for place, name in enumerate(_dimensions(signature))}
    sizes = [str(size if isinstance(size, int) else places[size]) for size in spec.shape]
    descr, number = _TYPES[spec.dtype]
    shape = ", ".join(sizes) or "0"
    return f'{{{_string(spec.name)}, "{descr}", {number}, {len(sizes)}, {{{shape}}}}}'


def _table(kind: str, name: str, rows: Sequence[str]) -> str:
    body = "".join(f"    {row},\n" for row in rows)
    return f"static const {kind} {name}[] = {{\n{body}}};\n"


def _string(text: str) -> str:
    """A C string literal: octal escapes end after three digits, whatever follows."""
    plain = (
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}"
        for byte in text.encode("utf-8")
    )
    return f'"{"".join(plain)}"'
