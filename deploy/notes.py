"""What the user should know of a bundle: what was changed, and which ways its files have."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from edgeport.runtimes import Signature

from .attempts import Attempt
from .compilers.routes import RECORDED
from .diagnosis.decisions import (
    Decision,
    describe,
    numbers,
    of_number,
    of_numbers_taken,
    taken_both_ways,
    unexercised,
)

_OF_SIZES: Final = re.compile("forward (asks whether|takes the dimension '.*' up to)")
"""What a route is refused for that knows of a branch on sizes."""


def ways_of_sizes(declared: Signature, found: Sequence[Attempt]) -> list[str]:
    """A sentence if one run was recorded of what is known to go another way at some sizes."""
    told = [each.diagnosis.problem for each in found[:-1] if each.diagnosis]
    asked = next((problem for problem in told if _OF_SIZES.match(problem)), None)
    has_no_end = any(declared.range_of(name).max is None for name in declared.dimensions)
    if asked is None or not found[-1].records or not has_no_end:
        return []
    return [
        f"{found[-1].format}: one run was recorded, which has one way alone where {asked}: what is "
        "larger than was tried may be wrong; declare the largest there is"
    ]


def ways_of_values(won: Sequence[Attempt], decisions: Callable[[], list[Decision]]) -> list[str]:
    """Sentences on the branches that no sample took, and on numbers that a file holds."""
    recorded = [found for found in won if found.records]
    if not recorded:
        return []
    refusing = [found for found in recorded if found.route == RECORDED]
    answering = [found.format for found in recorded if found.route != RECORDED]
    seen = decisions()
    one_way = unexercised(seen)
    pairs = (
        ([found.format for found in refusing], one_way),
        (answering, (*one_way, *taken_both_ways(seen))),
    )
    sentences = [
        f"{' and '.join(formats)}: {describe(decision, is_refused=formats is not answering)}"
        for formats, told in pairs
        if formats
        for decision in told
    ]
    made = {found.format: found.compiled for found in refusing if found.compiled}
    fixed = {name: each.fixed for name, each in made.items()}
    fixed.update(dict.fromkeys(answering, numbers(seen)))
    taken = {name: each.taken for name, each in made.items()}
    return [*sentences, *_by_line(fixed, of_number), *_by_line(taken, of_numbers_taken)]


def _by_line(
    lines: Mapping[str, Sequence[str]], describe_line: Callable[[str], str]
) -> Iterator[str]:
    """Sentences on lines of forward, each with the formats that it is for."""
    for line in dict.fromkeys(line for own in lines.values() for line in own):
        formats = " and ".join(name for name, own in lines.items() if line in own)
        yield f"{formats}: {describe_line(line)}"
