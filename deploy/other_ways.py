"""Before the proof: samples of sizes at which forward takes another way."""

from dataclasses import replace

from edgeport.deploy.compilers.upstream import inference_only, quiet
from edgeport.deploy.proof.size_branches import turned
from edgeport.deploy.sources.samples import Sample
from edgeport.deploy.sources.source import Source

from .isolation import Killed, Limits, run_isolated


def with_other_ways(source: Source, limits: Limits) -> Source:
    """The same source with these samples too, found in a process apart.

    There are none where no size is free, or where torch.jit does not take the module.

    Args:
        source: What is compiled.
        limits: What the process may use.
    """
    if not source.signature.dimensions:
        return source

    def look() -> list[Sample]:
        with quiet(), inference_only():
            return turned(source)

    found = run_isolated(look, limits)
    if isinstance(found, Killed):
        return source
    return replace(source, samples=(*source.samples, *found))
