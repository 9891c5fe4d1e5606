"""float16 as a GPU computes it: a file that rounds each value is proved beside the file itself."""

from dataclasses import replace
from pathlib import Path

from edgeport.deploy.compilers.routes import Route
from edgeport.deploy.sources.source import Source

from .attempts import Attempt, Prove, attempt, bring_back, keep
from .isolation import Limits


def attempt_and_emulate(
    source: Source, route: Route, folder: Path, prove: Prove, limits: Limits
) -> tuple[Attempt, Attempt | None]:
    """As ``attempt``, to ONNX; where the route has an emulation, that has to pass the proof too.

    Returns:
        What came of the route, and of its emulation, whose files are put aside: in ``kept``.

    Raises:
        StorageError: The disk is full.
    """
    made = attempt(source, "onnx", route, folder, prove, limits)
    if route.emulated is None or made.outcome != "proved" or made.compiled is None:
        return made, None
    own = keep(made.compiled, folder, route.name)
    rounded = Route(f"{route.name}, emulated", route.emulated)
    seen = attempt(source, "onnx", rounded, folder, prove, limits)
    proof_s = made.proof_s + seen.compile_s + seen.proof_s
    if seen.outcome == "wrong" and seen.diagnosis is not None:
        problem = f"with each value rounded as on a GPU: {seen.diagnosis.problem}"
        diagnosis = replace(seen.diagnosis, problem=problem)
        failed = replace(seen, route=route.name, compile_s=made.compile_s, proof_s=proof_s)
        return replace(failed, diagnosis=diagnosis), seen
    if seen.outcome == "proved" and seen.compiled is not None:
        seen = replace(seen, kept=keep(seen.compiled, folder, rounded.name))
    bring_back(made.compiled, folder, own)
    return replace(made, proof_s=proof_s), seen
