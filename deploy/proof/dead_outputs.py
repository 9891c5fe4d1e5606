"""Outputs that prove nothing, whatever a backend answers."""

from collections.abc import Sequence

import numpy as np

from edgeport.runtimes import ParityError
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.parity.verification import output_facts


def refuse_dead(golden: Sequence[Golden], thresholds: Thresholds) -> None:
    """Refuse outputs that are empty, NaN, the same or nothing but rounding error on all samples.

    Args:
        golden: What the module answers.
        thresholds: Which outputs may be so.

    Raises:
        ParityError: One is.
    """
    facts = [each for each in output_facts(golden) if each.proves_nothing(thresholds)]
    if dead := [each.name for each in facts]:
        empty = [name for name in dead if not any(sample.eager[name].size for sample in golden)]
        if empty:
            raise ParityError(
                f"{_named(empty)} has no elements on any sample, so it proves nothing",
                remedy=f"give an example, or a range, in which it has some, or {_allow(empty)}",
            )
        if lost := [name for name in dead if all(_is_nan(sample.eager[name]) for sample in golden)]:
            raise ParityError(
                f"{_named(lost)} is NaN on every sample, so it proves nothing",
                remedy="look for what makes it NaN: weights that are (a note names them), 0 / 0, "
                "the logarithm or root of what is negative; or give other --samples",
            )
        if constant := [each.name for each in facts if each.constant]:
            raise ParityError(
                f"{_named(constant)} is the same on every sample, so it proves nothing",
                remedy=f"give --samples that make it vary, or {_allow(constant)}",
            )
        raise ParityError(
            f"{_named(dead)} is drowned in its rounding error, so it proves nothing: eager itself "
            f"is {_share(min(each.zeros_ratio for each in facts))} of its size from float64",
            remedy="give --samples without what drowns it (a mask that hides all that a row may "
            "look at leaves the rounding errors of numbers as large as what hides them), or leave "
            f"it out of what forward returns, or {_allow(dead)}",
        )


def _allow(outputs: Sequence[str]) -> str:
    options = " ".join(f"--constant-output {name}" for name in outputs)
    return f"allow it with {options} (Thresholds(constant_outputs={tuple(outputs)}))"


def _share(zeros_ratio: float) -> str:
    """How much of an output is rounding error: zeros are off by all of it."""
    return "all" if zeros_ratio <= 1 else f"{1 / zeros_ratio:.0%}"


def _is_nan(values: Array) -> bool:
    return values.dtype.kind == "f" and bool(np.isnan(values).all())


def _named(outputs: Sequence[str]) -> str:
    *others, last = map(repr, outputs)
    return f"each of the outputs {', '.join(others)} and {last}" if others else f"the output {last}"
