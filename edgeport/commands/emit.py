"""``edgeport emit``: hand a bundle over to Triton, KServe or Ray Serve."""

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeport.commands.options import file_path, positive, refuse_overwriting
from edgeport.commands.parsers import Commands
from edgeport.commands.terminal import show, show_where_to_copy
from edgeport.runtimes import Bundle


@dataclass(frozen=True, slots=True)
class EmitArgs:
    """What ``edgeport emit`` was asked; what an engine does not need is ``None``."""

    engine: str
    bundle: Path
    output: Path
    format: str | None
    storage_uri: str | None
    replicas: int


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("emit", help="hand a bundle over to Triton, KServe or Ray Serve")
    engines: Any = parser.add_subparsers(
        required=True, metavar="ENGINE", dest="engine", action=Commands
    )
    for engine, what, output in (
        ("triton", "a model repository, or the next version in one", "repo"),
        ("kserve", "an InferenceService over a model repository", "inferenceservice.yaml"),
        ("ray", "a Ray Serve application", "app.py"),
    ):
        child = engines.add_parser(engine, help=what)
        child.add_argument("bundle", type=Path, help="a bundle: NAME.edge")
        child.add_argument(
            "-o", type=Path if engine == "triton" else file_path, dest="output",
            default=Path(output), help="default: %(default)s",
        )  # fmt: skip  # one option
        child.set_defaults(format=None, storage_uri=None, replicas=2)
        if engine == "triton":
            child.add_argument(
                "--format",
                metavar="NAME",
                help="onnx, torchscript or tensorrt (default: the first that is there)",
            )
        elif engine == "kserve":
            child.add_argument(
                "--storage-uri", required=True, metavar="URI",
                help="where the cluster finds the model repository: s3://bucket/repo",
            )  # fmt: skip  # one option
        else:
            child.add_argument(
                "--replicas", type=positive, metavar="N", help="processes (default: 2)"
            )
    parser.set_defaults(
        run=lambda a: run(
            EmitArgs(a.engine, a.bundle, a.output, a.format, a.storage_uri, a.replicas)
        )
    )
    return parser


def run(args: EmitArgs) -> int:
    """Write it, and say what comes next."""
    bundle = Bundle.read(args.bundle)
    refuse_overwriting(args.output, "-o", [args.bundle])
    if args.engine == "triton":
        from edgeport.runtimes.handoff.triton import emit as emit_triton

        show(f"{emit_triton(bundle, args.output, args.format)}")
        repository = shlex.quote(f"--model-repository={args.output.resolve()}")
        show(f"next: tritonserver {repository}")
    elif args.engine == "kserve":
        from edgeport.runtimes.handoff.kserve import emit as emit_kserve

        emit_kserve(bundle, args.output, args.storage_uri or "")
        show(f"{args.output}\nnext: kubectl apply -f {shlex.quote(str(args.output))}")
    else:
        from edgeport.runtimes.handoff.ray_serve import emit as emit_ray

        emit_ray(bundle, args.output, args.replicas)
        show(f"{args.output}")
        show_where_to_copy(bundle.path, args.output)
        folder = args.output.parent
        inside = "" if folder == Path() else f"--app-dir {shlex.quote(str(folder))} "
        show(f"next: serve run {inside}{args.output.stem}:app")
    show(f"next: edgeport verify {shlex.quote(str(args.bundle))} --url http://HOST:PORT")
    return 0
