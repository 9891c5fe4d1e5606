"""``edgeport build-runner``: a C program that runs the model on a device without Python."""

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path

from edgeport.commands.options import file_path, refuse_overwriting
from edgeport.commands.terminal import show, size_text
from edgeport.runtimes import Bundle


@dataclass(frozen=True, slots=True)
class BuildRunnerArgs:
    """What ``edgeport build-runner`` was asked."""

    bundle: Path
    program: Path | None
    target: str | None


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "build-runner",
        help="build a C program that runs the model without Python",
        epilog="example: edgeport build-runner digits.edge -o run-digits --target aarch64-linux",
    )
    parser.add_argument("bundle", type=Path, help="a bundle: NAME.edge")
    parser.add_argument(
        "-o", type=file_path, dest="program", metavar="PROGRAM",
        help="the program to write; its source goes beside it (default: run-NAME)",
    )  # fmt: skip  # one option
    parser.add_argument(
        "--target", metavar="MACHINE", help="aarch64-linux, x86_64-linux (default: this machine)"
    )
    parser.set_defaults(run=lambda a: run(BuildRunnerArgs(a.bundle, a.program, a.target)))
    return parser


def run(args: BuildRunnerArgs) -> int:
    """Build the program, and say how it is called."""
    from edgeport.runtimes.embed.runner import build_runner

    bundle = Bundle.read(args.bundle)
    program = args.program or Path(f"run-{args.bundle.resolve().stem}")
    refuse_overwriting(program, "-o", [args.bundle])
    source = build_runner(bundle, program, args.target)
    folder = bundle.path
    if folder.is_file():  # the program opens the model itself, and no zip file
        folder = folder.with_name(f"{folder.stem}-folder.edge")
    model = folder / bundle.artefact("ort-cpu").stored.file
    inputs = [f"{spec.name}={spec.name}.npy" for spec in bundle.manifest.signature.inputs]
    show(f"{program}: {size_text(program.stat().st_size)}, made from {source}")
    if folder != bundle.path:
        words = ["edgeport", "pack", str(bundle.path), "--artefacts", "onnx", "-o", str(folder)]
        show(f"next: {shlex.join(words)}")
    call = str(program) if program.is_absolute() else f"./{program}"
    show(f"next: {shlex.join([call, str(model), *inputs, '-o', '.'])}")
    return 0
