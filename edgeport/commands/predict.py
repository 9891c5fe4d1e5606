"""``edgeport predict``: raw data through a run or a bundle, a line of answer per row or arrays."""

import argparse
import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edgeport.commands import raw_input
from edgeport.commands.options import (
    DEFAULT_BACKEND_TEXT,
    add_gpu_options,
    file_path,
    gpu_options,
    positive,
    refuse_overwriting,
)
from edgeport.commands.run_story import is_run
from edgeport.commands.terminal import show
from edgeport.runtimes import InputError, Signature, TensorSpec, UsageError
from edgeport.runtimes.bundles.bundle import open_labelled
from edgeport.runtimes.devices import GpuOptions
from edgeport.runtimes.formats.numpy_files import as_npz
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.needs import needs
from edgeport.runtimes.predictor import LOGITS, most_likely
from edgeport.runtimes.rows import require_apart, row_axis, row_dimension, rows_first

if TYPE_CHECKING:
    from edgeport.training import Run

_MOST_COLUMNS: Final = 4096


@dataclass(frozen=True, slots=True)
class PredictArgs:
    """What ``edgeport predict`` was asked."""

    model: Path
    input: Path
    output: Path | None
    backend: str | None
    threads: int | None
    device: str | None
    gpu: GpuOptions


@dataclass(frozen=True, slots=True)
class Model:
    """Something that answers.

    Attributes:
        signature: What it takes and gives.
        labels: By output: names of its classes, by input: categories, where it knows them.
        answer: How.
        precision: What it computes in.
    """

    signature: Signature
    labels: Mapping[str, tuple[str, ...]]
    answer: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    precision: str


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "predict",
        help="what a run or a bundle says of raw data",
        epilog="a bundle needs numpy and one engine; a run needs torch. "
        "example: edgeport predict price.edge --input new.csv",
    )
    parser.add_argument(
        "model", type=Path, help="a run folder, a bundle, or a .onnx or .ts file as it is"
    )
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="FILE",
        help=".csv, .tsv, .npz, .npy (of the only input), .txt (a text per line), an image or a "
        "folder of images; - for a table, or lines of text, from stdin",
    )
    parser.add_argument(
        "-o", "--output", type=file_path, metavar="FILE",
        help=".csv, or .npz: the outputs as arrays by name (default: a table on stdout)",
    )  # fmt: skip
    parser.add_argument("--backend", metavar="NAME", help=f"not of a run {DEFAULT_BACKEND_TEXT}")
    parser.add_argument("--threads", type=positive, metavar="N", help="default: all CPUs")
    add_gpu_options(parser)
    parser.set_defaults(
        run=lambda a: run(
            PredictArgs(a.model, a.input, a.output, a.backend, a.threads, a.device, gpu_options(a))
        )
    )
    return parser


def run(args: PredictArgs) -> int:
    """Predict, and print or write a CSV table, or write arrays."""
    from edgeport.runtimes import files

    if args.output is not None:
        files.refuse_unfit(args.output)
        refuse_overwriting(args.output, "-o", [args.model, *raw_input.found(args.input)])
        if args.output.suffix.lower() not in (".csv", ".npz"):
            raise UsageError(
                f"-o {args.output} is neither .csv nor .npz",
                remedy="name it so, to choose between a table and arrays",
            )
    with opened(args) as model:
        answers = _answers(args.input, model)
        if args.output is None:
            show(_table(answers, model).rstrip("\n"))
            return 0
        written = _arrays if args.output.suffix.lower() == ".npz" else _table
        content = written(answers, model)
    with files.parents(args.output):
        files.write(args.output, content)
    return 0


def _answers(path: Path, model: Model) -> Iterator[tuple[raw_input.Raw, Mapping[str, Array]]]:
    """The rows of a file in parts, which are answered alike and with as many numbers in a row."""
    first: tuple[Mapping[str, Array], Mapping[str, Array]] | None = None
    for part, raw in enumerate(raw_input.read(path, model.signature, model.labels)):
        if part == 1 and first is not None:
            require_apart(model.signature, model.answer, *first, model.precision)
        answer = _answer(model, raw, path)
        if first is None:
            first = raw.inputs, answer
        _require_alike(model.signature, first[1], answer, raw.rows[0])
        yield raw, answer
    if first is None:
        raise InputError(f"{path} holds nothing to predict from", remedy="give it some rows")


def _require_alike(
    signature: Signature, first: Mapping[str, Array], answer: Mapping[str, Array], row: str
) -> None:
    one, other = rows_first(signature, first), rows_first(signature, answer)
    for name, array in one.items():
        found = other[name]
        if array is not None and found is not None and array.shape[1:] != found.shape[1:]:
            raise UsageError(
                f"output {name!r} of a row is {list(array.shape[1:])}, and {list(found.shape[1:])} "
                f"of row {row}",
                remedy="give inputs of one size at a time",
            )


def _table(answers: Iterable[tuple[raw_input.Raw, Mapping[str, Array]]], model: Model) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    for part, (raw, answer) in enumerate(answers):
        columns = told(answer, model, len(raw.rows))
        if not part:
            writer.writerow(["row", *columns])
        writer.writerows(zip(raw.rows, *columns.values(), strict=True))
    return table.getvalue()


def _arrays(answers: Iterable[tuple[raw_input.Raw, Mapping[str, Array]]], model: Model) -> bytes:
    """The outputs as they are, those of parts joined along their rows."""
    parts = [answer for _, answer in answers]
    dimension = row_dimension(model.signature)
    axes = {spec.name: row_axis(spec, dimension) for spec in model.signature.outputs}
    arrays: dict[str, Array] = {}
    for name, array in parts[0].items():
        axis = axes.get(name, 0)  # without one there is one part: ``require_apart`` says so
        arrays[name] = array if axis is None else np.concatenate([p[name] for p in parts], axis)
    return as_npz(arrays)


def _answer(model: Model, raw: raw_input.Raw, path: Path) -> Mapping[str, Array]:
    try:
        return model.answer(raw.inputs)
    except InputError as e:
        if not path.is_dir():
            raise
        (file,) = raw.rows
        raise InputError(f"{path / file}: {e.problem}", remedy=e.remedy) from e


def opened(args: PredictArgs) -> AbstractContextManager[Model]:
    """The run or bundle that was named."""
    if not is_run(args.model):
        return _bundle(args)
    if args.device not in (None, "cpu"):
        raise UsageError(
            f"{args.model} is a run, which answers on the CPU, not on {args.device}",
            remedy="export it, and predict from the bundle: edgeport export RUN -o NAME.edge",
        )
    return _run(args.model)


def told(answer: Mapping[str, Array], model: Model, rows: int) -> dict[str, Sequence[object]]:
    """The columns of an answer.

    ``logits`` (rows, classes) become ``label`` and ``probability`` (softmax); any other output is
    told number by number.

    Raises:
        UsageError: An output has no row per row of the input, or too many numbers in one.
    """
    columns: dict[str, Sequence[object]] = {}
    for name, array in rows_first(model.signature, answer).items():
        if array is None or len(array) != rows:
            raise UsageError(
                f"output {name!r} is {list(answer[name].shape)} for {rows} rows",
                remedy="write arrays: -o NAME.npz",
            )
        if name == LOGITS and array.ndim == 2:
            columns |= _labels(array, model.labels.get(name, ()))
            continue
        flat = array.reshape(rows, -1)
        if flat.shape[1] > _MOST_COLUMNS:
            raise UsageError(
                f"output {name!r} has {flat.shape[1]:,} numbers per row, too many for a table",
                remedy="write arrays: -o NAME.npz",
            )
        for index in range(flat.shape[1]):
            title = name if array.ndim == 1 else f"{name}_{index}"
            columns[title] = [_text(value) for value in flat[:, index]]
    return columns


def _labels(logits: Array, classes: Sequence[str]) -> dict[str, Sequence[object]]:
    labels, probability = most_likely(logits, classes)
    return {"label": labels, "probability": [f"{p:.6f}" for p in probability]}


def _text(value: np.generic) -> str:
    """Of a float as many digits as tell it from all others of its type."""
    return str(value).removesuffix(".0") if value.dtype.kind == "f" else str(value.item())


@contextmanager
def _bundle(args: PredictArgs) -> Iterator[Model]:
    session, labels = open_labelled(
        args.model, args.backend, threads=args.threads, device=args.device, gpu=args.gpu
    )
    with session:
        yield Model(session.signature, labels, session.run, session.engine.precision)


@contextmanager
def _run(path: Path) -> Iterator[Model]:
    with needs("a run", "train", ", or export the run and predict from the bundle"):
        import torch

        from edgeport import training
    found = training.load(path)
    signature = run_signature(found)
    check = raw_check(signature)

    def answer(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        checked = check(inputs)
        with torch.no_grad():
            output = found.module(**{name: torch.tensor(a) for name, a in checked.items()})
        return {found.output: output.numpy()}

    yield Model(signature, found.labels, answer, signature.precision)


def run_signature(run: "Run") -> Signature:
    """What a run takes, as its bundle will declare it."""
    sample = run.samples[0]
    specs = [TensorSpec(n, str(sample[n].dtype), shape) for n, shape in run.shapes.items()]
    return Signature(tuple(specs), (), {})


def raw_check(signature: Signature) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """The check of inputs that every backend does."""
    from edgeport.runtimes.inputs import InputCheck

    check = InputCheck(signature)
    names = [spec.name for spec in signature.inputs]
    return lambda inputs: dict(zip(names, check(inputs), strict=True))
