"""Before an engine may crash this process with somebody's file, it may crash a child with it.

A bundle that a trusted key vouches for needs none, and neither does one's own program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgeport.runtimes.bundles.bundle import Bundle

from .inputs import Array
from .safety.isolation import Limits, run_limited
from .session import BACKENDS, Options


def rehearse(
    bundle: Bundle,
    name: str,
    inputs: Sequence[Mapping[str, Array]],
    options: Options,
    limits: Limits,
) -> None:
    """Open an artefact and run it on some inputs in a child process, unless it is vouched for.

    Args:
        bundle: What holds it.
        name: The backend, which is usable here.
        inputs: What to run it on, one after the other.
        options: As for the session that will follow; but one thread, see ``safety.forked``.
        limits: What the child may use.

    Raises:
        EngineError: The child crashed, took too long, or ran out of memory; or the engine refused.
        EdgeportError: The artefact cannot be opened: see ``Bundle.open``.
    """
    if bundle.vouched:
        return
    artefact = bundle.artefact(name)
    with bundle.private(artefact) as path:
        held = replace(bundle, copies={artefact.format: path})

        def run() -> None:
            with held.open(name, replace(options, threads=1)) as session:
                for each in inputs:
                    session.run(each)

        run_limited(run, limits, gpu=BACKENDS[name].on_gpu(options.device))
