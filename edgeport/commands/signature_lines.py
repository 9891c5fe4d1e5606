"""A signature for people: in one line, or in one line for each of its parts."""

import textwrap
from typing import Final

from edgeport.commands.terminal import plain
from edgeport.runtimes import Signature

LONGEST: Final = 100


def signature_lines(signature: Signature) -> list[str]:
    """The signature in one line; if that is long, one line for each of its parts."""
    text = plain(str(signature))
    if len(text) <= LONGEST:
        return [f"  {text}"]
    parts = [("in", str(spec)) for spec in signature.inputs]
    parts += [("out", str(spec)) for spec in signature.outputs]
    parts += [("where", f"{name} in {range_}") for name, range_ in signature.ranges.items()]
    if signature.structure is not None:
        from edgeport.runtimes.structure import describe

        whole = textwrap.wrap(describe(signature.structure), LONGEST, break_long_words=False)
        parts += zip(["as", *[""] * (len(whole) - 1)], whole, strict=True)
    return [f"  {what:<6} {plain(part)}" for what, part in parts]


def titled_signature(title: str, signature: Signature) -> list[str]:
    """The same below a title, or behind it."""
    lines = signature_lines(signature)
    return [f"{title}{lines[0]}"] if len(lines) == 1 else [title, *lines]
