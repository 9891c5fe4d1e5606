"""``assert_parity``: a module, an artefact, samples; every figure, or an error worth reading."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from edgeport.runtimes import (
    EdgeportError,
    EngineError,
    InputError,
    ParityError,
    Session,
    SourceError,
    UsageError,
)
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.needs import needs
from edgeport.runtimes.parity.thresholds import Thresholds, narrower
from edgeport.runtimes.parity.verdict import Verdict
from edgeport.runtimes.parity.verification import check_session, dead_outputs

from .artefacts import Answer, Way, ways
from .failure import Checked, explain

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgeport.deploy.sources.flat import Flat

__tracebackhide__ = methodcaller("errisinstance", EdgeportError)
"""Where this is true pytest leaves functions of this file out of a traceback: they are long."""

DRAWS: Final = 4
"""How often ``samples`` is called, where it is a function."""

Sample: TypeAlias = "Mapping[str, Any] | tuple[Any, ...] | torch.Tensor | Array"
"""Arguments of forward by name, in order, or the only one: arrays or tensors, alone or nested, and
constants."""

Samples: TypeAlias = "Sample | Sequence[Sample] | Callable[[int], Sample]"


def assert_parity(
    module: "nn.Module",
    artefact: str | Path,
    samples: Samples,
    *,
    backend: str | None = None,
    thresholds: Thresholds | None = None,
) -> tuple[Verdict, ...]:
    """Fail unless an artefact computes what a module computes, by the parity rule.

    The module is run in eval mode, on a copy, in its own precision and in float64; the artefact's
    error is counted in units of the module's own rounding error (``docs/parity.md``). Who made
    the artefact does not matter. One of ours that says it computes in float16 or int8 is judged by
    signal over noise.

    Args:
        module: What the artefact has to equal.
        artefact: A bundle (``NAME.edge``), or a file: ``.onnx``, ``.ts``, ``.pt`` (TorchScript)
            or ``.pt2``. It is trusted: opening a torch file runs code in it.
        samples: Arguments of forward by name, in order, or the only one; or named as the artefact's
            inputs. One set, or a list of several, or a function of 0, 1, 2, 3 that draws them. Give
            several sizes.
        backend: Only this one; ``None`` for all that are usable here.
        thresholds: Where a verdict turns; ``None`` for the defaults.

    Returns:
        Every verdict: one for each backend, sample and output.

    Raises:
        ParityError: It computes something else, or the samples cannot tell. It is an
            ``AssertionError`` that says where, how much, and what to do.
        SourceError: The module takes no such sample, is random, or keeps state.
        UsageError: There are no samples, or no backend opens the artefact.
        MissingFileError: There is no such artefact.
        EdgeportError: The artefact cannot be opened here.
    """
    with needs("assert_parity", "export,ort"):
        from edgeport.deploy.proof.determinism import check_repeatable
        from edgeport.deploy.proof.fused_attention import check_fused
        from edgeport.deploy.sources.running import run_module
        from edgeport.deploy.sources.surroundings import left_outside
    thresholds = thresholds or Thresholds()
    with left_outside():
        flat, given = _prepared(module, _drawn(samples))
        answers = [Answer(inputs, _run(run_module, flat, inputs)) for inputs in given]
        check_repeatable(flat, given[0])
        check_fused(flat, given[0])
        checked = [
            _check(way, flat, answers, thresholds) for way in ways(Path(artefact), backend, answers)
        ]
    problem = explain(module, Path(artefact), checked, thresholds)
    if problem is not None:
        raise ParityError(problem.text, remedy=problem.remedy)
    return tuple(verdict for each in checked for verdict in each.verdicts)


def _drawn(samples: Samples) -> list[Sample]:
    if callable(samples):
        return [samples(number) for number in range(DRAWS)]
    is_one = isinstance(samples, Mapping) or hasattr(samples, "shape")  # a tensor, an array
    found: list[Any] = [samples] if is_one else list(samples)
    if not found or any(isinstance(sample, Mapping) and not sample for sample in found):
        raise UsageError(
            "there are no samples", remedy='give them as {"image": array}, several in a list'
        )
    return found


def _prepared(
    module: "nn.Module", samples: Sequence[Sample]
) -> "tuple[Flat, list[dict[str, Array]]]":
    """The module behind flat inputs, and the samples flat: by name, in its order."""
    from edgeport.deploy.sources import trees
    from edgeport.deploy.sources.arguments import checked_tensor, make_call
    from edgeport.deploy.sources.flat import Flat
    from edgeport.deploy.sources.modules import prepared

    copy, _ = prepared(module, keep_training_mode=False)
    calls = [
        make_call(module, (), sample)
        if isinstance(sample, Mapping)
        else make_call(module, sample if isinstance(sample, tuple | list) else [sample], {})
        for sample in samples
    ]
    for number, call in enumerate(calls):
        if call.names != calls[0].names:
            raise UsageError(
                f"sample {number} has {', '.join(call.names)}, "
                f"sample 0 has {', '.join(calls[0].names)}",
                remedy="give every sample the same inputs",
            )
    flat = Flat(copy, calls[0])
    tensors = [trees.tensors([call.args, dict(call.kwargs)]) for call in calls]
    return flat, [
        {
            name: checked_tensor(name, tensor).numpy()
            for name, tensor in zip(call.names, found, strict=True)
        }
        for call, found in zip(calls, tensors, strict=True)
    ]


def _run(
    run_module: "Callable[[Flat, Mapping[str, Array]], list[Array]]",
    flat: "Flat",
    inputs: Mapping[str, Array],
) -> list[Array]:
    try:
        return run_module(flat, inputs)
    except Exception as e:  # the user's module may raise anything
        shapes = ", ".join(f"{name} {a.dtype}{list(a.shape)}" for name, a in inputs.items())
        raise SourceError(
            f"{type(flat.module).__name__} fails on the sample {shapes}: {type(e).__name__}: {e}",
            remedy="give samples that it takes",
        ) from e


def _check(way: Way, flat: "Flat", answers: Sequence[Answer], thresholds: Thresholds) -> Checked:
    with way.open() as session:
        golden = list(_golden(session, flat, answers))
        try:
            reduced = narrower(session.engine.precision, session.signature.precision)
            verdicts = check_session(session, golden, thresholds, reduced)
        except EngineError as e:
            return Checked(way.backend, session.engine, golden, (), refusal=e.problem)
        answers_there = _answers_at_failure(session, golden, verdicts)
    dead = dead_outputs(golden, thresholds)
    return Checked(
        way.backend, session.engine, golden, verdicts, dead, answers_there, reduced=reduced
    )


def _answers_at_failure(
    session: Session, golden: Sequence[Golden], verdicts: Sequence[Verdict]
) -> dict[str, Array]:
    """What it answers where it failed first."""
    failed = next((verdict for verdict in verdicts if verdict.status == "fail"), None)
    if failed is None:
        return {}
    return session.run(next(each.inputs for each in golden if each.name == failed.sample))


def _golden(session: Session, flat: "Flat", answers: Sequence[Answer]) -> Iterator[Golden]:
    """The module's answers under the names that the artefact uses."""
    from edgeport.deploy.proof.oracle import Oracle

    oracle = Oracle(flat)
    inputs = _matched(session, list(answers[0].inputs))
    outputs = [spec.name for spec in session.signature.outputs]
    for number, answer in enumerate(answers):
        if len(answer.outputs) != len(outputs):
            raise ParityError(
                f"the artefact has {len(outputs)} outputs ({', '.join(outputs)}), "
                f"{type(flat.module).__name__} gives {len(answer.outputs)}",
                remedy="compare it with the module that it was made from",
            )
        wide = oracle.answer(answer.inputs, answer.outputs)
        yield Golden(
            _label(number, answer),
            "real",
            {inputs[name]: array for name, array in answer.inputs.items()},
            dict(zip(outputs, answer.outputs, strict=True)),
            {n: a for n, a in zip(outputs, wide.outputs, strict=True) if a is not None},
            wide.gap,
        )


def _matched(session: Session, given: Sequence[str]) -> dict[str, str]:
    """The artefact's name of each input: the same, or that of its place."""
    names = [spec.name for spec in session.signature.inputs]
    if set(names) == set(given):
        return {name: name for name in given}
    if len(names) != len(given):
        raise InputError(
            f"the artefact takes {', '.join(names)}, the samples have {', '.join(given)}",
            remedy="give the samples the names of the artefact's inputs",
        )
    return dict(zip(given, names, strict=True))


def _label(number: int, answer: Answer) -> str:
    shapes = (f"{name} {array.dtype}{list(array.shape)}" for name, array in answer.inputs.items())
    return f"sample {number}: {', '.join(itertools.islice(shapes, 3))}"
