"""``edgeport export``: compile a run or the user's own module, prove it, pack a bundle."""

import argparse
import contextlib
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.commands import sources
from edgeport.commands.export_story import Story
from edgeport.commands.options import (
    Listed,
    add_max_ratio,
    add_min_signal,
    check_report,
    file_path,
    names,
    positive,
    ratios_of,
)
from edgeport.commands.parity_table import render
from edgeport.commands.sample_files import read_labels
from edgeport.commands.signature_lines import titled_signature
from edgeport.commands.terminal import note, show, size_text
from edgeport.runtimes import UsageError, files
from edgeport.runtimes.needs import needs
from edgeport.runtimes.parity.thresholds import DEFAULT_MAX_RATIO, REDUCED, Precision, Thresholds
from edgeport.runtimes.tensorrt.library import NAMES
from edgeport.runtimes.tensorrt.order import EngineOptions

if TYPE_CHECKING:
    from edgeport.deploy import Export


@dataclass(frozen=True, slots=True)
class ExportArgs:
    """What ``edgeport export`` was asked."""

    source: sources.SourceArgs
    output: Path
    formats: tuple[str, ...] | None
    opset: int | None
    target: str | None
    precision: Precision | None
    thresholds: Thresholds
    time_limit_s: int | None
    memory_limit_gib: int | None
    search_s: int
    engine: EngineOptions
    labels: Path | None
    calibration: tuple[Path, ...]
    debug_map: bool
    report: Path | None
    repro: Path | None
    as_json: bool


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "export",
        help="compile a model, prove every artefact, pack a bundle",
        epilog="example: edgeport export my_pkg.my_file:make_model "
        "--input 'image=float32[batch,3,224,224]' -o my.edge",
    )
    add_option = parser.add_argument
    add_option(
        "model", nargs="?", help="a run folder, or package.file:callable for your own module"
    )
    add_option("-o", "--output", type=Path, required=True, help="the bundle: NAME.edge")

    add_source_options(parser).add_argument(
        "--labels",
        type=Path,
        metavar="FILE.npy",
        help="labels of the samples' rows: each backend is scored on them, beside the module",
    )
    made = parser.add_argument_group("what is made")
    _add_artefact_options(made)
    _add_proof_options(made)
    add_engine_build_options(parser)
    _add_story_options(parser)
    parser.set_defaults(run=lambda arguments: run(_parse(arguments)))
    return parser


def _add_artefact_options(made: "argparse._ActionsContainer") -> None:
    ask = made.add_argument
    ask(
        "--format",
        type=names,
        action=Listed,
        metavar="NAME[,NAME]",
        help="default: onnx,torchscript,pt2; also aotinductor, for this kind of machine, and "
        "tensorrt and tensorrt-rtx, built from onnx, and onnx-strings, of a model of texts",
    )
    ask("--opset", type=int, metavar="N", help="of the ONNX file (default: 20)")
    ask(
        "--target",
        metavar="NAME",
        help="engine that has to read the ONNX file: ort-1.14 or later, tensorrt-10, "
        "tensorrt-11, tensorrt-rtx-1",
    )
    ask(
        "--precision",
        metavar="NAME",
        help="what the ONNX file, and engines built from it, compute in: float16 or int8; for "
        "engines of TensorRT alone: bfloat16 (default: as the module)",
    )
    ask(
        "--calibration",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="int8: inputs to measure ranges of values on, as files of --samples; a hundred rows "
        "or more; repeat (default: half of the samples)",
    )


def _add_proof_options(made: "argparse._ActionsContainer") -> None:
    """Declare how the artefacts are proved, and what that may take."""
    ask = made.add_argument
    add_max_ratio(made, f"{DEFAULT_MAX_RATIO:g}")
    add_min_signal(
        made, ", ".join(f"{n} {REDUCED[n].min_snr_db:g}" for n in ("int8", "bfloat16", "float16"))
    )
    ask(
        "--constant-output",
        action="append",
        default=[],
        metavar="NAME",
        help="an output that is known not to depend on the inputs; repeat",
    )
    ask(
        "--search-seconds",
        type=positive,
        default=0,
        metavar="N",
        help="look so long for the inputs on which each backend is worst (default: 0)",
    )
    ask(
        "--time-limit", type=positive, metavar="SECONDS", help="limit of each route (default: 1800)"
    )
    ask(
        "--memory-limit",
        type=positive,
        metavar="GIB",
        help="limit of each route (default: what is free)",
    )


def _add_story_options(parser: argparse.ArgumentParser) -> None:
    tell = parser.add_argument_group("what is told").add_argument
    tell(
        "--report",
        type=file_path,
        metavar="FILE",
        help="write what was tried and measured, as .html or .json; of a failure too",
    )
    tell(
        "--debug-map",
        action="store_true",
        help="write NAME.debug-map.json beside the bundle: ONNX node to your source line",
    )
    tell(
        "--repro",
        type=Path,
        metavar="DIR",
        help="if an artefact is wrong: the operator that is, as a small case with a script",
    )
    tell("--json", action="store_true", help="print the parity report as JSON")


def add_engine_build_options(parser: argparse.ArgumentParser) -> None:
    """Declare how an engine of TensorRT or TensorRT-RTX is built."""
    ask = parser.add_argument_group("how an engine is built (tensorrt, tensorrt-rtx)").add_argument
    ask(
        "--compute-capability",
        type=names,
        action=Listed,
        default=(),
        metavar="M.N[,M.N]",
        help="GPUs of a tensorrt-rtx engine: 8.6,8.9 (default: all from Ampere on)",
    )
    ask(
        "--workspace-limit",
        type=positive,
        metavar="MIB",
        help="GPU memory for a layer while it runs (default: all)",
    )
    ask("--timing-cache", type=Path, metavar="FILE", help="tensorrt: measured times, kept here")
    ask("--version-compatible", action="store_true", help="tensorrt: for later releases too")
    ask("--hardware-compatible", action="store_true", help="tensorrt: for all GPUs from Ampere on")
    ask("--refit", action="store_true", help="its weights can be exchanged; built on a GPU")
    ask("--weight-streaming", action="store_true", help=argparse.SUPPRESS)


def add_source_options(parser: argparse.ArgumentParser) -> "argparse._ArgumentGroup":
    """Declare what says how the module is called."""
    group = parser.add_argument_group("how the module is called")
    say = group.add_argument
    say(
        "--input",
        action="append",
        default=[],
        metavar="NAME=DTYPE[SIZES]",
        help="one input; repeat. Dots lead into tuples and dicts: hx.0, batch.ids",
    )
    say(
        "--argument",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of forward that is no tensor: use_cache=false; repeat",
    )
    say(
        "--samples",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="real inputs: an .npz of one array per input, a folder of them, or a folder of one "
        "NAME.npy per input; repeat",
    )
    say(
        "--capture",
        type=Path,
        metavar="SCRIPT.py",
        help="run this script; its `with edgeport.deploy.capture(module):` says all of this",
    )
    say(
        "--output-names",
        type=names,
        action=Listed,
        metavar="NAME[,NAME]",
        help="names of the outputs, in order",
    )
    say(
        "--keep-training-mode",
        action="store_true",
        help="export the module in training mode: not in eval mode",
    )
    return group


def parse_source(arguments: argparse.Namespace) -> sources.SourceArgs:
    """Read what ``add_source_options``, and ``model``, were given."""
    return sources.SourceArgs(
        model=arguments.model,
        capture=arguments.capture,
        inputs=tuple(arguments.input),
        arguments=tuple(arguments.argument),
        samples=tuple(arguments.samples),
        output_names=arguments.output_names,
        keep_training_mode=arguments.keep_training_mode,
    )


def run(args: ExportArgs) -> int:
    """Export and print the proof."""
    files.refuse_existing(args.output)
    _refuse_onnx_options_without_onnx(args)
    if args.repro is not None:
        files.refuse_existing(args.repro)
    with needs("exporting", "export,ort"):
        from edgeport.deploy import Limits, Request, export_source, find_target
        from edgeport.deploy.events import step
        from edgeport.deploy.request import default_formats
        from edgeport.deploy.sources.surroundings import left_outside
    request = Request(
        args.formats or default_formats(args.precision),
        args.opset,
        None if args.target is None else find_target(args.target),
        args.thresholds,
        Limits(
            **({} if args.time_limit_s is None else {"time_s": args.time_limit_s}),
            memory_bytes=None if args.memory_limit_gib is None else args.memory_limit_gib * 2**30,
        ),
        args.search_s,
        None if args.labels is None else read_labels(args.labels),
        args.repro,
        args.engine,
        args.precision,
        *sources.flat_samples(args.calibration, "--calibration"),
    )
    with (
        Story(args.output, args.report, request) as story,
        contextlib.redirect_stdout(sys.stderr),  # what the user's own code prints is no result
        left_outside(),
    ):
        with step("module", story.tell):
            source = sources.make(args.source, args.output)
        story.tell_source(source)
        made = export_source(source, args.output, request, story.tell)
        story.tell_end(made)
    if args.debug_map:
        _write_debug_map(made, args.output)
    show(json.dumps(made.report.to_json()) if args.as_json else _render(made, args.output))
    return 0


def _refuse_onnx_options_without_onnx(args: ExportArgs) -> None:
    options = {"--opset": args.opset, "--target": args.target, "--debug-map": args.debug_map}
    given = [name for name, value in options.items() if value is not None and value is not False]
    if given and args.formats is not None and not {"onnx", *NAMES}.intersection(args.formats):
        raise UsageError(
            f"{given[0]} is for ONNX, and --format asks for {', '.join(args.formats)}",
            remedy=f"add onnx to --format, or leave {given[0]} out",
        )


def _write_debug_map(made: "Export", output: Path) -> None:
    for text in made.debug_maps.values():  # only ONNX has one
        path = output.with_name(f"{made.source.name}.debug-map.json")
        files.write(path, text)
        note(f"{path} is private: it names your files")


def _render(made: "Export", output: Path) -> str:
    from edgeport.deploy.proof.task import describe

    lines = [render(made.report), *describe(made.scores), ""]
    lines += titled_signature(str(output), made.source.signature)
    golden = made.bundle.manifest.golden
    width = len(golden.file)  # the longest, but for engines
    for artefact in made.bundle.manifest.artefacts:
        details = ", ".join(f"{key} {value}" for key, value in artefact.details.items())
        if not artefact.proved:
            details = f"BUILT, NOT PROVED: it needs a GPU; {details}"
        if artefact.precision != made.source.precision:
            details = f"{artefact.precision}, {details}"
        size = size_text(artefact.size_bytes)
        lines.append(f"  {artefact.stored.file:<{width}}{size:>10}  {details}".rstrip())
    lines.append(f"  {golden.file}{size_text(golden.size_bytes):>10}")
    return "\n".join([*lines, f"next: edgeport verify {shlex.quote(str(output))}"])


def _engine_options(arguments: argparse.Namespace) -> EngineOptions:
    if arguments.weight_streaming:
        raise UsageError(
            "--weight-streaming is left out: all weights of an engine are in the memory of the GPU",
            remedy="use a GPU with more memory, --precision float16 or int8, whose weights take a "
            "half or a quarter, or ort-cpu",
        )
    return EngineOptions(
        compute_capabilities=arguments.compute_capability,
        workspace_bytes=arguments.workspace_limit and arguments.workspace_limit * 2**20,
        timing_cache=None if arguments.timing_cache is None else str(arguments.timing_cache),
        version_compatible=arguments.version_compatible,
        hardware_compatible=arguments.hardware_compatible,
        refit=arguments.refit,
    )


def _parse(arguments: argparse.Namespace) -> ExportArgs:
    run = [] if arguments.model is None else [Path(arguments.model)]  # or it is no path
    check_report(arguments.report, [arguments.output, *run])
    if arguments.min_signal is not None and arguments.precision is None:
        raise UsageError(
            "--min-signal is for what computes in less than the module",
            remedy="leave it out, or ask for it with --precision",
        )
    thresholds = Thresholds(constant_outputs=tuple(arguments.constant_output))
    return ExportArgs(
        source=parse_source(arguments),
        output=arguments.output,
        formats=arguments.format,
        opset=arguments.opset,
        target=arguments.target,
        precision=arguments.precision,
        thresholds=thresholds.with_ratios(ratios_of(arguments.max_ratio)).with_signal(
            arguments.min_signal
        ),
        time_limit_s=arguments.time_limit,
        memory_limit_gib=arguments.memory_limit,
        search_s=arguments.search_seconds,
        engine=_engine_options(arguments),
        labels=arguments.labels,
        calibration=tuple(arguments.calibration),
        debug_map=arguments.debug_map,
        report=arguments.report,
        repro=arguments.repro,
        as_json=arguments.json,
    )
