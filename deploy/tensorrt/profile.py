"""For which sizes an engine of a source is built, and what the user should know of them."""

from collections.abc import Mapping

from edgeport.deploy.sources.source import Source
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.tensorrt import extents as sizes_of
from edgeport.runtimes.tensorrt.extents import Extent
from edgeport.runtimes.tensorrt.order import Bounds


def extents(source: Source) -> dict[str, Extent]:
    """The sizes of every free dimension: those of the signature, tuned for the user's sample."""
    return sizes_of.extents(source.signature, _usual(source), _samples(source))


def values(source: Source) -> dict[str, Bounds]:
    """Of each small input of integers: what its elements were in the samples."""
    return sizes_of.values(source.signature, _usual(source), _samples(source))


def notes(format_: str, sizes: Mapping[str, Extent], shaping: Mapping[str, Bounds]) -> list[str]:
    """What the user should know of the sizes, in sentences."""
    told = [
        f"{format_}: {name!r} has no end, and an engine needs one: it takes up to {extent.max}, "
        f"the largest that was proved; a range sets another: {name}:1..{2 * extent.max}"
        f"{'' if extent.step == 1 else f':{extent.step}'}"
        for name, extent in sizes.items()
        if extent.open
    ]
    return told + [
        f"{format_}: the values of {name!r} are sizes, and an engine needs their ends: it takes "
        f"{list(bounds.min)} to {list(bounds.max)}, which the samples have"
        for name, bounds in shaping.items()
    ]


def _usual(source: Source) -> Mapping[str, Array]:
    """The user's own first sample, if there is one, else the example."""
    return source.real[0] if source.real else source.example


def _samples(source: Source) -> list[Mapping[str, Array]]:
    return [source.example, *(sample.inputs for sample in source.samples)]
