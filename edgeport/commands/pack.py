"""``edgeport pack``: a bundle with some of its artefacts, as a folder or as one file."""

import argparse
import contextlib
import json
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from edgeport.commands import sources
from edgeport.commands.export import add_source_options, parse_source
from edgeport.commands.options import Listed, names, refuse_overwriting
from edgeport.commands.signature_lines import titled_signature
from edgeport.commands.terminal import note, show, size_text, table
from edgeport.runtimes import Bundle, UsageError, files
from edgeport.runtimes.bundles.manifest import FOLDER_SIGNATURE, SIGNATURE
from edgeport.runtimes.needs import needs

_AS_IT_IS = sources.SourceArgs(None, None, (), (), (), None, keep_training_mode=False)


@dataclass(frozen=True, slots=True)
class PackArgs:
    """What ``edgeport pack`` was asked."""

    source: sources.SourceArgs
    artefacts: tuple[str, ...] | None
    output: Path
    zipped: bool
    as_json: bool


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "pack",
        help="write a bundle with the artefacts that you choose, as a folder or one file",
        epilog="example: edgeport pack digits.edge --artefacts onnx --zip -o small.edge",
    )
    parser.add_argument(
        "model",
        nargs="?",
        help="a bundle; or what edgeport export takes: a run, or package.file:callable",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the bundle: NAME.edge")
    parser.add_argument(
        "--artefacts",
        type=names,
        action=Listed,
        metavar="NAME[,NAME]",
        help="only these formats (default: all)",
    )
    parser.add_argument("--zip", action="store_true", help="write one file instead of a folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_source_options(parser)
    parser.set_defaults(
        run=lambda a: run(PackArgs(parse_source(a), a.artefacts, a.output, a.zip, a.json))
    )
    return parser


def run(args: PackArgs) -> int:
    """Pack and say what is in it."""
    files.refuse_existing(args.output)
    path = None if args.source.model is None else Path(args.source.model)
    made = _repack(args, path) if path is not None and _is_bundle(path) else _export(args)
    show(json.dumps(_to_json(made)) if args.as_json else _render(made))
    return 0


def _is_bundle(path: Path) -> bool:
    with contextlib.suppress(OSError):  # a name too long
        return path.suffix == ".edge" or path.is_file() or (path / "manifest.json").is_file()
    return False


def _repack(args: PackArgs, path: Path) -> Bundle:
    from edgeport.runtimes.bundles.packing import pack

    if replace(args.source, model=None) != _AS_IT_IS:
        raise UsageError(
            f"{path} is a bundle, which knows how it is called",
            remedy="leave --input, --argument, --samples, --capture, --output-names and "
            "--keep-training-mode out",
        )
    refuse_overwriting(args.output, "-o", [path])
    made = pack(path, args.output, args.artefacts, zipped=args.zipped)
    before, after = Bundle.peek(path).files, made.files
    if SIGNATURE in before and SIGNATURE not in after:
        note("not signed: the manifest is another one; edgeport sign signs it")
    if FOLDER_SIGNATURE in before:
        note(f"{FOLDER_SIGNATURE} stays behind: it is of the folder {path} as it is")
    return made


def _export(args: PackArgs) -> Bundle:
    """Export to a hidden place first, if what is wanted is one file, or not all that is made."""
    with needs("exporting", "export,ort"):
        from edgeport.deploy import DEFAULT_FORMATS, Request, export_source
    from edgeport.runtimes.bundles.packing import pack

    request = Request(args.artefacts or DEFAULT_FORMATS)
    with contextlib.redirect_stdout(sys.stderr):  # what the user's own code prints is no result
        source = sources.make(args.source, args.output)
        if not args.zipped and args.artefacts is None:
            return export_source(source, args.output, request).bundle
        with files.parents(args.output), files.hidden_folder(args.output) as folder:
            made = export_source(source, folder / "bundle", request).bundle
            return pack(made.path, args.output, args.artefacts, zipped=args.zipped)


def _to_json(bundle: Bundle) -> dict[str, object]:
    return {
        "pack_version": 1,
        "bundle": str(bundle.path),
        "files": {stored.file: stored.size_bytes for stored in bundle.manifest.files},
    }


def _render(bundle: Bundle) -> str:
    rows = [[s.file, size_text(s.size_bytes)] for s in bundle.manifest.files]
    return "\n".join(
        [
            *titled_signature(str(bundle.path), bundle.manifest.signature),
            table(["file", "size"], rows, right=[1]),
            f"next: edgeport verify {shlex.quote(str(bundle.path))}",
        ]
    )
