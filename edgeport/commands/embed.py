"""``edgeport embed``: a script that runs the model in somebody else's program."""

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path

from edgeport.commands.options import file_path, refuse_overwriting
from edgeport.commands.terminal import show, show_where_to_copy
from edgeport.runtimes import Bundle


@dataclass(frozen=True, slots=True)
class EmbedArgs:
    """What ``edgeport embed`` was asked."""

    bundle: Path
    script: Path


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "embed",
        help="write a script that runs the model without edgeport",
        epilog="example: edgeport embed digits.edge -o infer.py; python infer.py --check",
    )
    parser.add_argument("bundle", type=Path, help="a bundle: NAME.edge")
    parser.add_argument(
        "-o", type=file_path, dest="script", default=Path("infer.py"), metavar="SCRIPT",
        help="the script to write (default: %(default)s)",
    )  # fmt: skip  # one option
    parser.set_defaults(run=lambda a: run(EmbedArgs(a.bundle, a.script)))
    return parser


def run(args: EmbedArgs) -> int:
    """Write the script, and say what it needs."""
    from edgeport.runtimes.embed.script import write_script

    bundle = Bundle.read(args.bundle)
    refuse_overwriting(args.script, "-o", [args.bundle])
    artefact = write_script(bundle, args.script)
    engine = "onnxruntime" if artefact.format == "onnx" else "torch"
    show(f"{args.script} runs {artefact.stored.file} with numpy and {engine}")
    show_where_to_copy(bundle.path, args.script)
    show(f"next: python {shlex.quote(str(args.script))} --check")
    return 0
