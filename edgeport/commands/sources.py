"""What ``edgeport export`` compiles: a run, the user's own module, or what a script calls."""

import ast
import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgeport.commands.predict import run_signature
from edgeport.commands.sample_files import read_samples
from edgeport.commands.terminal import note
from edgeport.runtimes import MissingFileError, UsageError
from edgeport.runtimes.inputs import Array

if TYPE_CHECKING:
    from torch import nn

    from edgeport.deploy import Source
    from edgeport.deploy.sources.spec import Declared

Samples: TypeAlias = tuple[list[dict[str, Array]], list[str]]
"""As ``read_samples`` reads them: what each holds, and what to call it."""


@dataclass(frozen=True, slots=True)
class SourceArgs:
    """What says which module is compiled, and how it is called.

    Attributes:
        model: A run folder or ``package.file:callable``; ``None`` with ``capture``.
        capture: A script that calls the module.
        inputs: ``NAME=DTYPE[SIZES]``.
        arguments: ``NAME=VALUE``: arguments of forward that are no tensors.
        samples: Files and folders of real inputs.
    """

    model: str | None
    capture: Path | None
    inputs: tuple[str, ...]
    arguments: tuple[str, ...]
    samples: tuple[Path, ...]
    output_names: tuple[str, ...] | None
    keep_training_mode: bool


def make(args: SourceArgs, output: Path) -> "Source":
    """Make the source that was asked for.

    Raises:
        EdgeportError: It cannot be made.
    """
    if args.capture is not None:
        return _of_capture(args, args.capture, output)
    if args.model is None:
        raise UsageError(
            "there is nothing to export",
            remedy="name a run or package.file:callable, or a script with --capture",
        )
    if os.path.isfile(args.model):  # noqa: PTH113  # Path's own raises for a name too long
        raise UsageError(
            f"{args.model} is a file, and neither a run nor package.file:callable",
            remedy=_remedy_of_file(Path(args.model)),
        )
    if os.path.exists(args.model):  # noqa: PTH110
        return _of_run(args, Path(args.model), output)
    if ":" in args.model:
        return _of_callable(args, args.model, output)
    raise MissingFileError(
        f"no such run: {args.model}",
        remedy="make one with edgeport train, or name your own module as package.file:callable",
    )


def _remedy_of_file(path: Path) -> str:
    """What to name in place of a file: a device can do without the module's code, a proof can't."""
    match path.suffix.lower():
        case ".py":
            return f"name what makes the module in it: {path.with_suffix('')}:make_model"
        case ".onnx":
            return (
                "name a function that returns the torch.nn.Module that it came from; "
                "edgeport.testing.assert_parity compares the file with that module"
            )
    return (
        "name a function that makes the torch.nn.Module and loads its weights: "
        "model.load_state_dict(torch.load(FILE)); of a TorchScript file it is what "
        "torch.jit.load(FILE) returns"
    )


def _of_run(args: SourceArgs, run: Path, output: Path) -> "Source":
    from edgeport.deploy import Values, make_call, make_source, model_name
    from edgeport.training import load

    if args.inputs or args.arguments or args.samples or args.output_names:
        raise UsageError(
            "a run knows its inputs, outputs and samples",
            remedy="leave --input, --argument, --samples and --output-names out",
        )
    trained = load(run)
    if not trained.history.completed:
        done, asked = len(trained.history.epochs), trained.history.settings.epochs
        note(f"this run was interrupted after {done} of {asked} epochs")
    samples = trained.samples
    source = make_source(
        model_name(output),
        trained.module,
        make_call(trained.module, (), samples[0]),
        run_signature(trained).inputs,
        trained.ranges,
        values=Values(samples),
        output_names=[trained.output],
        keep_training_mode=args.keep_training_mode,
    )
    return replace(source, labels=trained.labels)


def _of_callable(args: SourceArgs, reference: str, output: Path) -> "Source":
    """By the inputs that are declared, or by the first of the samples."""
    from edgeport.deploy import check_takes_inputs, load_module, parse_inputs

    declared = parse_inputs(args.inputs)
    constants = _constants(args.arguments)
    with chdir("."):  # it may go elsewhere, and paths of the command line are from here
        module = load_module(reference)
    samples = read_samples(args.samples)
    if declared.specs:
        return _of_declared(args, output, module, declared, constants, samples)
    if samples[0]:
        return _of_samples(args, output, module, constants, samples)
    check_takes_inputs(module)
    raise UsageError(
        f"{reference} needs its inputs declared",
        remedy="add --input NAME=DTYPE[SIZES] for each, e.g. image=float32[batch,3,224,224], "
        "or --samples FILE.npz to take them from",
    )


def _of_declared(
    args: SourceArgs,
    output: Path,
    module: "nn.Module",
    declared: "Declared",
    constants: Mapping[str, object],
    samples: Samples,
) -> "Source":
    from edgeport.deploy import Values, make_call, make_source, model_name

    _refuse_both(set(declared.arguments) & set(constants))
    call = make_call(module, (), {**declared.arguments, **constants})
    specs = {spec.name: spec for spec in declared.specs}
    real, names = samples
    return make_source(
        model_name(output),
        module,
        call,
        [specs[name] for name in call.names],
        declared.ranges,
        values=Values([_flat(sample) for sample in real], names=names),
        output_names=args.output_names,
        keep_training_mode=args.keep_training_mode,
    )


def _of_samples(
    args: SourceArgs,
    output: Path,
    module: "nn.Module",
    constants: Mapping[str, object],
    samples: Samples,
) -> "Source":
    from edgeport.deploy import model_name, nested, source_of

    real, names = samples
    arguments = nested(real[0])
    _refuse_both(set(arguments) & set(constants))
    return source_of(
        model_name(output),
        module,
        {**arguments, **constants},
        "infer",
        samples=[_flat(sample) for sample in real],
        sample_names=names,
        output_names=args.output_names,
        keep_training_mode=args.keep_training_mode,
    )


def _of_capture(args: SourceArgs, script: Path, output: Path) -> "Source":
    from edgeport.deploy import model_name, run_script, source_of

    if args.model or args.inputs or args.arguments or args.samples:
        raise UsageError(
            "a captured script says which module is called, and with what",
            remedy="leave the model, --input, --argument and --samples out",
        )
    with chdir("."):
        captured = run_script(script)
    return source_of(
        model_name(output),
        captured.module,
        captured,
        output_names=args.output_names,
        keep_training_mode=args.keep_training_mode,
    )


def _constants(texts: Sequence[str]) -> dict[str, object]:
    constants: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(
                f"cannot read the argument {text!r}",
                remedy="write NAME=VALUE, like use_cache=false or mode=mean",
            )
        if name in constants:
            raise UsageError(f"--argument gives {name!r} twice", remedy="give one of them")
        constants[name] = _constant(value)
    return constants


def _constant(text: str) -> object:
    """A value of JSON or Python; a text if it is neither: ``false`` and ``False`` are no texts."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def _refuse_both(names: Collection[str]) -> None:
    if names:
        raise UsageError(
            f"{', '.join(sorted(names))} is both an input and an --argument",
            remedy="an input changes from call to call, an --argument is baked in: choose one",
        )


def flat_samples(paths: Sequence[Path], option: str) -> Samples:
    """Samples of an option, with the names of the artefact's inputs; and what to call each.

    Raises:
        EdgeportError: They cannot be read.
    """
    samples, names = read_samples(paths, option)
    return [_flat(sample) for sample in samples], names


def _flat(samples: Mapping[str, Array]) -> dict[str, Array]:
    return {name.replace(".", "_"): array for name, array in samples.items()}
