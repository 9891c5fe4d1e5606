"""A source: a module with everything that is needed to compile and to prove it."""

import contextlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from edgeport.runtimes import Range, Signature, SourceError, TensorSpec, UsageError
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.sizes import sum_of

from .drawing import Values, other_styles
from .flat import Call, Flat
from .lookups import with_tables
from .modules import is_uninitialised, prepared, unwrapped
from .outputs import Measured, answers_numbers, measure_outputs
from .running import run_module, run_or_explain
from .samples import Sample, guessed, inputs_at, roomy_sizes, untried, usual_sizes
from .shared_state import SharedState
from .state import changed, state_of
from .surroundings import left_outside
from .torch_release import untested


@dataclass(frozen=True, slots=True, repr=False)
class Source:
    """What is compiled, and what it is proved with.

    Attributes:
        name: The model's name.
        flat: The module behind flat inputs and outputs; compilers get it in a process of their
            own, so that nothing they do reaches it.
        signature: Inputs as declared, outputs as measured.
        example: Inputs to compile with; every free dimension is 2 or more.
        samples: Inputs to prove with.
        notes: What was changed in the user's module, in sentences for them.
        values: Where the values of samples come from.
        labels: By output: names of the classes along its last axis, where they are known. By input
            that is text: the categories that it may be.
        recorded: What forward did, in operators, where compilers can take no derivatives: see
            ``compilers.derivatives_in_forks``.
        kept: The attributes in which the module's runs leave something.
        fresh: Makes copies of the module that have not run before, if its values are not random
            until it runs.
        shared: What was kept outside of the module before it ran.
        most_cells: How large the product of all free sizes may be in a sample.
    """

    name: str
    flat: Flat
    signature: Signature
    example: Mapping[str, Array]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    values: Values = field(default_factory=Values)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recorded: nn.Module | None = None
    kept: tuple[str, ...] = ()
    fresh: Callable[[], nn.Module] | None = None
    shared: SharedState = field(default_factory=SharedState)
    most_cells: float = math.inf

    def __repr__(self) -> str:
        """Short: it holds the module and all samples."""
        return f"Source({self.name!r}: {self.signature}; {len(self.samples)} samples)"

    @property
    def precision(self) -> str:
        """The dtype that the module computes in; ``integer`` if it knows no floats."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        if torch.bfloat16 in (*self.flat.call.dtypes, *(tensor.dtype for tensor in tensors)):
            return "bfloat16"  # which its outputs, as numpy has them, don't show
        return self.signature.precision

    @property
    def real(self) -> Sequence[Mapping[str, Array]]:
        """The caller's samples as they were given."""
        return self.values.real

    @property
    def module(self) -> nn.Module:
        """The user's module: a copy, in the mode that is exported."""
        return self.flat.module

    def carried(self) -> list[str]:
        """Those of ``kept`` that reach the next call, as no call writes them before it reads."""
        return [name for name in self.kept if not self._is_made_anew(name)]

    def _is_made_anew(self, name: str) -> bool:
        path, _, attribute = name.rpartition(".")
        own = vars(self.module.get_submodule(path))
        if attribute not in own:  # a buffer or a parameter
            return False
        before, unfit = own[attribute], object()
        own[attribute] = unfit
        try:
            run_module(self.flat, self.example)
        except Exception:  # the user's module may raise anything
            return False
        finally:
            written = own[attribute] is not unfit
            own[attribute] = before
        return written

    def example_tensors(self) -> tuple[torch.Tensor, ...]:
        """Fresh copies of the example, in the order of forward."""
        return tuple(torch.tensor(array) for array in self.example.values())

    def roomy_tensors(self) -> tuple[torch.Tensor, ...]:
        """As the example, at sizes for what follows them: see ``roomy_sizes``."""
        inputs = inputs_at(self.signature, roomy_sizes(self.signature), self.values, seed=0)
        return tuple(map(torch.tensor, inputs.values()))


@left_outside()
def make_source(
    name: str,
    module: nn.Module,
    call: Call,
    inputs: Sequence[TensorSpec],
    ranges: Mapping[str, Range],
    *,
    values: Values | None = None,
    output_names: Sequence[str] | None = None,
    keep_training_mode: bool = False,
    shared: SharedState | None = None,
) -> Source:
    """Check that a module runs as declared, and measure what comes out.

    Args:
        name: The model's name.
        module: Copied; it is left as it is.
        call: How forward is called.
        inputs: As the artefacts will declare them, in the order of ``call``.
        ranges: Sizes that the free dimensions may take.
        values: Where the values of samples come from; ``None`` to draw them.
        output_names: In the order of the result; ``None`` to make them.
        keep_training_mode: Export the module in the mode that it is in; ``False`` for eval mode.
        shared: What was kept outside of the module before it ran; ``None`` to look now.

    Raises:
        UsageError: A free dimension has a range of one size, or one of a step with 0 in it.
        SourceError: The inputs do not fit forward, a sample does not fit the inputs, the module
            fails on a size that was declared, or its outputs are not tensors.
    """
    values = values or Values()
    declared = Signature(tuple(inputs), (), dict(ranges))
    _check_sums(declared)
    _check_ranges(declared)
    check_given(declared, values.real, numbered("sample", values.real, values.names))
    original = module
    shared = shared or SharedState.of(unwrapped(original))
    module, notes = prepared(original, keep_training_mode=keep_training_mode)
    is_lazy = is_uninitialised(module)
    before = {} if is_lazy else state_of(module)
    flat = Flat(module, call)
    if is_lazy:
        sizes = usual_sizes(declared)
        run_or_explain(flat, inputs_at(declared, sizes, values, 0), sizes)
    values, measured = _answered(flat, declared, with_tables(flat, declared, values), output_names)
    example = inputs_at(declared, usual_sizes(declared), values, seed=0)
    signature = Signature(declared.inputs, measured.outputs, declared.ranges, measured.structure)
    guesses = guessed(declared, values)
    notes = (*untested(), *notes, *guesses, *untried(declared, measured.samples), *measured.notes)
    kept = () if is_lazy else tuple(changed(before, state_of(module)))

    def fresh() -> nn.Module:
        return prepared(original, keep_training_mode=keep_training_mode)[0]

    return Source(
        name,
        flat,
        signature,
        example,
        measured.samples,
        notes,
        values,
        kept=kept,
        fresh=None if is_lazy else fresh,
        shared=shared,
        most_cells=measured.most_cells,
    )


def _answered(
    flat: Flat, declared: Signature, values: Values, output_names: Sequence[str] | None
) -> tuple[Values, Measured]:
    """Drawn in the first style that the module answers with numbers, or else in the first."""
    try:
        measured = measure_outputs(flat, declared, values, output_names)
    except SourceError:
        if (found := _answered_otherwise(flat, declared, values, output_names)) is None:
            raise
        return found
    if measured.is_finite:
        return values, measured
    return _answered_otherwise(flat, declared, values, output_names) or (values, measured)


def _answered_otherwise(
    flat: Flat, declared: Signature, values: Values, output_names: Sequence[str] | None
) -> tuple[Values, Measured] | None:
    for style in () if values.real else other_styles(declared, values):
        drawn = replace(values, style=style)
        if answers_numbers(flat, declared, drawn):
            with contextlib.suppress(SourceError), contextlib.redirect_stdout(io.StringIO()):
                return drawn, measure_outputs(flat, declared, drawn, output_names)
    return None


def _check_sums(declared: Signature) -> None:
    """See that what follows other dimensions can: they are there, and it is never below 0."""
    free = declared.dimensions
    for spec in declared.inputs:
        for size in spec.shape:
            follows = sum_of(size) if isinstance(size, str) else None
            if follows is None:
                continue
            for name in follows.factors:
                if name not in free:
                    raise UsageError(
                        f"{spec} has a size that follows {name!r}, and no input has such a "
                        "dimension",
                        remedy="it may follow "
                        f"{', '.join(filter(str.isidentifier, free)) or 'nothing, as all is fixed'}"
                        "; give the axis a name of its own where it follows none",
                    )
            least = {name: declared.range_of(name).min for name in follows.factors}
            if follows.at(least) < 0:
                at = ", ".join(f"{name} is {size}" for name, size in least.items())
                raise UsageError(
                    f"{spec} has a size of {follows.at(least)} where {at}",
                    remedy=f"let what it follows begin higher: {min(least)}:MIN..",
                )


def _check_ranges(declared: Signature) -> None:
    for name in declared.ranges:
        if name not in declared.dimensions:
            raise UsageError(
                f"a range is given for {name!r}, which follows other dimensions",
                remedy="give ranges to those that it follows",
            )
    for name in declared.dimensions:
        range_ = declared.range_of(name)
        if range_.min == range_.max:
            raise UsageError(
                f"dimension {name!r} is free, but its range {range_} holds one size",
                remedy=f"write the number {range_.min} in its place",
            )
        step = range_.step
        if range_.min == 0 and step > 1:  # a .pt2 file refuses it, torch 2.13
            raise UsageError(
                f"dimension {name!r} takes {range_}, and torch.export takes 0 for no multiple",
                remedy=f"begin at {step}: {name}:{step}..{range_.max or ''}:{step}",
            )


def numbered(what: str, given: Sequence[object], names: Sequence[str]) -> Sequence[str]:
    """The names of what was given, or numbers where it has none."""
    return names or [f"{what} {number}" for number in range(len(given))]


def check_given(
    declared: Signature, given: Sequence[Mapping[str, Array]], names: Sequence[str]
) -> None:
    """Refuse inputs of the caller's that are not as declared.

    Args:
        declared: What they are for.
        given: Each is to be complete.
        names: What to call each.

    Raises:
        SourceError: They are not.
    """
    check = InputCheck(Signature(declared.inputs, ()))
    for called, sample in zip(names, given, strict=True):
        try:
            check(sample)
        except ValueError as e:
            raise SourceError(
                f"{called} does not fit the declared inputs: {getattr(e, 'problem', e)}",
                remedy=f"the inputs are {', '.join(map(str, declared.inputs))}",
            ) from e
        empty = [
            spec.name
            for spec in declared.inputs
            if 0 not in spec.shape and not sample[spec.name].size
        ]
        if empty:
            raise SourceError(f"{called}: {empty[0]!r} is empty", remedy="leave it out")
