"""A signature for people: in one line, or in one line for each of its parts."""

import textwrap
from collections.abc import Sequence
from typing import Final

from edgeport.commands.terminal import plain
from edgeport.runtimes import Signature, TensorSpec

LONGEST: Final = 100
MOST: Final = 40


def signature_lines(signature: Signature) -> list[str]:
    """The signature in one line; if that is long, one line for each of its parts."""
    text = plain(str(signature))
    if len(text) <= LONGEST:
        return [f"  {text}"]
    parts = [*_some("in", signature.inputs), *_some("out", signature.outputs)]
    parts += [("where", f"{name} in {range_}") for name, range_ in signature.ranges.items()]
    if signature.structure is not None:
        from edgeport.runtimes.structure import describe

        whole = textwrap.wrap(describe(signature.structure), LONGEST, break_long_words=False)
        parts += zip(["as", *[""] * (len(whole) - 1)], whole, strict=True)
    return [f"  {what:<6} {plain(part)}" for what, part in parts]


def _some(what: str, specs: Sequence[TensorSpec]) -> list[tuple[str, str]]:
    """One part for each; of many, as of a table of 3,000 columns, the first ones and the last."""
    told = [(what, str(spec)) for spec in specs]
    if len(told) <= MOST:
        return told
    return [*told[: MOST - 2], (what, f"... {len(told) - MOST + 1:,} more ..."), told[-1]]


def titled_signature(title: str, signature: Signature) -> list[str]:
    """The same below a title, or behind it."""
    lines = signature_lines(signature)
    return [f"{title}{lines[0]}"] if len(lines) == 1 else [title, *lines]
