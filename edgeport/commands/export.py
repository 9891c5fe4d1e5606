"""``edgeport export``: compile a run or the user's own module, prove it, pack a bundle."""

import argparse
import contextlib
import json
import os
import shlex
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.commands.options import names
from edgeport.commands.parity_table import render
from edgeport.commands.terminal import note, show
from edgeport.runtimes import (
    BackendMissingError,
    MissingFileError,
    SourceError,
    TensorSpec,
    UsageError,
)
from edgeport.runtimes.files import refuse_existing
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.thresholds import Thresholds

if TYPE_CHECKING:
    from edgeport.deploy import Export, Source


@dataclass(frozen=True, slots=True)
class ExportArgs:
    """What ``edgeport export`` was asked."""

    model: str
    output: Path
    inputs: tuple[str, ...]
    samples: Path | None
    output_names: tuple[str, ...] | None
    formats: tuple[str, ...] | None
    opset: int | None
    thresholds: Thresholds
    as_json: bool


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "export",
        help="compile a model, prove every artefact, pack a bundle",
        epilog="example: edgeport export my_pkg.my_file:make_model "
        "--input 'image=float32[batch,3,224,224]' -o my.edge",
    )
    parser.add_argument("model", help="a run folder, or package.file:callable for your own module")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the bundle: NAME.edge")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=DTYPE[SIZES]",
        help="one input; repeat",
    )
    parser.add_argument("--samples", type=Path, metavar="FILE.npz", help="real inputs, by name")
    parser.add_argument("--output-names", type=names, metavar="NAME[,NAME]", help="in order")
    parser.add_argument(
        "--format", type=names, metavar="NAME[,NAME]", help="default: onnx,torchscript,pt2"
    )
    parser.add_argument("--opset", type=int, metavar="N", help="of the ONNX file (default: 20)")
    parser.add_argument(
        "--max-ratio",
        type=float,
        default=8.0,
        metavar="X",
        help="error in noise floors (default: 8)",
    )
    parser.add_argument(
        "--constant-output", action="append", default=[], metavar="NAME",
        help="an output that is known not to depend on the inputs; repeat",
    )  # fmt: skip  # one option, one look
    parser.add_argument("--json", action="store_true", help="print the parity report as JSON")
    parser.set_defaults(run=lambda arguments: run(_parse(arguments)))
    return parser


def run(args: ExportArgs) -> int:
    """Export and print the proof."""
    refuse_existing(args.output)
    try:
        from edgeport.deploy import DEFAULT_FORMATS, DEFAULT_OPSET, export_source
    except ModuleNotFoundError as e:
        raise BackendMissingError(
            f"exporting needs {e.name!r}, which is not installed",
            remedy="pip install 'edgeport[export,ort]'",
        ) from e
    with contextlib.redirect_stdout(sys.stderr):  # what the user's own code prints is no result
        made = export_source(
            _source(args),
            args.output,
            formats=args.formats or DEFAULT_FORMATS,
            opset=DEFAULT_OPSET if args.opset is None else args.opset,
            thresholds=args.thresholds,
            on_step=lambda name, wall_s: note(f"  {name:<12}{wall_s:6.1f} s"),
        )
    show(json.dumps(made.report.to_json()) if args.as_json else _render(made, args.output))
    return 0


def _render(made: "Export", output: Path) -> str:
    lines = [render(made.report), "", f"{output}  {made.source.signature}"]
    for artefact in made.bundle.manifest.artefacts:
        details = ", ".join(f"{key} {value}" for key, value in artefact.details.items())
        size = f"{artefact.stored.size_bytes / 1024:,.0f} KiB"
        lines.append(f"  {artefact.stored.file:<12}{size:>12}  {details}".rstrip())
    return "\n".join([*lines, f"next: edgeport verify {shlex.quote(str(output))}"])


def _parse(arguments: argparse.Namespace) -> ExportArgs:
    if not arguments.max_ratio > 0:
        raise UsageError(f"--max-ratio is {arguments.max_ratio}", remedy="use a number above 0")
    return ExportArgs(
        model=arguments.model,
        output=arguments.output,
        inputs=tuple(arguments.input),
        samples=arguments.samples,
        output_names=arguments.output_names,
        formats=arguments.format,
        opset=arguments.opset,
        thresholds=Thresholds(arguments.max_ratio, tuple(arguments.constant_output)),
        as_json=arguments.json,
    )


def _source(args: ExportArgs) -> "Source":
    if os.path.exists(args.model):  # noqa: PTH110  # Path.exists raises for a name too long
        return _source_of_run(args)
    if ":" in args.model:
        return _source_of_callable(args)
    raise MissingFileError(
        f"no such run: {args.model}",
        remedy="make one with edgeport train, or name your own module as package.file:callable",
    )


def _source_of_callable(args: ExportArgs) -> "Source":
    from edgeport.deploy import Values, load_module, make_source, model_name, parse_inputs

    specs, ranges = parse_inputs(args.inputs)
    module = load_module(args.model)
    if not specs:
        raise UsageError(
            f"{args.model} needs its inputs declared",
            remedy="add --input NAME=DTYPE[SIZES] for each, e.g. image=float32[batch,3,224,224]",
        )
    real = [] if args.samples is None else [_read_samples(args.samples)]
    return make_source(
        model_name(args.output),
        module,
        specs,
        ranges,
        values=Values(real),
        output_names=args.output_names,
    )


def _source_of_run(args: ExportArgs) -> "Source":
    from edgeport.deploy import Values, make_source, model_name
    from edgeport.training import load

    if args.inputs or args.samples or args.output_names:
        raise UsageError(
            "a run knows its inputs, outputs and samples",
            remedy="leave --input, --samples and --output-names out",
        )
    trained = load(Path(args.model))
    if not trained.history.completed:
        done, asked = len(trained.history.epochs), trained.history.settings.epochs
        note(f"this run was interrupted after {done} of {asked} epochs")
    inputs = trained.held_out.inputs
    specs = [
        TensorSpec(name, str(array.dtype), ("batch", *array.shape[1:]))
        for name, array in inputs.items()
    ]
    return make_source(
        model_name(args.output),
        trained.module,
        specs,
        {},
        values=Values([inputs]),
        output_names=["logits"],
    )


def _read_samples(path: Path) -> dict[str, Array]:
    import numpy as np

    if not path.is_file():
        raise MissingFileError(f"no such file: {path}", remedy="check the path of --samples")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except PermissionError as e:
        raise SourceError(f"{path} cannot be read: {e.strerror}", remedy="make it readable") from e
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as e:
        raise SourceError(
            f"{path} is not an .npz of plain arrays: {e}",
            remedy="write it with np.savez(path, NAME=array), one array per input",
        ) from e
